"""Say how data are split."""

import pandas as pd
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from data_modules.splits.checks import assert_disjoint, leak_summary, split_summary
from data_modules.splits.kinds import BY_IMAGE, Parts, SplitKind


def announce_split(frame: pd.DataFrame, parts: Parts, kind: SplitKind, name: str) -> str:
    """Refuse a split in which patients leak, unless a paper's rule was asked for; then say how many.

    Args:
        frame: columns ``subject``, ``image_id``, ``image_path``, ``source_row``.
        parts: part of each row, or empty.
        kind: of the split.
        name: of the split, for people.

    Returns:
        What reports must say of it; empty where no patient leaks.

    Raises:
        DataError: if a patient, or a film, is in two parts.
    """
    if kind not in BY_IMAGE:
        assert_disjoint(frame, parts)
        rank_zero_info(f"Split {name}: {split_summary(frame, parts)}.")
        return ""
    leak = leak_summary(frame, parts)
    rank_zero_warn(f"Split {name} (a paper's rule, by image): {leak}")
    return f"Split {name}: {leak}"
