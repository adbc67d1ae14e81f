"""Whether there is anything to learn from."""

from collections.abc import Sequence

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from data_modules.errors import DataError
from data_modules.readings import ReadingTable
from data_modules.splits import Parts


def refuse_nothing_to_learn(table: ReadingTable, class_names: Sequence[str]) -> None:
    """Refuse to train on, or test, what no method can learn from.

    Args:
        table: all readings.
        class_names: the classes that a model is told of.

    Raises:
        DataError: if there are no labels, and no gaze either or names of classes.
    """
    if table.labels is not None:
        return
    if class_names:
        raise DataError(
            f"These data have no labels, but the names of {len(class_names)} class(es): they can be predicted only. To "
            "train or test, name the column(s) with the labels; for methods that need gaze only, leave class_names out."
        )
    if not any(len(own) for own in table.fixations.values()):
        raise DataError(
            "These data have neither labels nor gaze: they can be predicted, not trained on or tested. Name the "
            "column(s) with the labels, or the table of fixations."
        )


def warn_of_unknown_classes(table: ReadingTable, parts: Parts) -> None:
    """Name the classes of which nothing is known in the training part.

    Args:
        table: all readings.
        parts: part of each, or empty.
    """
    if table.labels is not None and table.label_type == "multi" and (parts == "train").any():
        unknown = np.isnan(table.labels[parts == "train"]).all(axis=0)
        if unknown.any():
            names = ", ".join(np.array(table.class_names)[unknown])
            rank_zero_warn(f"No training reading has a known value of {names}: nothing is learnt of it.")
