"""Films with known labels, to compare others with."""

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import Subset

from data_modules.dataset import GazeDataset, Sample
from data_modules.training_films import draw_balanced


def reference_films(dataset: GazeDataset, n: int | None, processes: int = 1) -> Subset[Sample] | None:
    """Films of a part of the split that have labels, each once, as the cache has them.

    A film is shown by its first reading that has a label; multi-label, one that has a known value.

    Args:
        dataset: the part.
        n: at most so many films, balanced over the classes (`draw_balanced`); None: all.
        processes: that share the films.

    Returns:
        The samples, in the order of the films; None where no film has a label or, with a warning, where there are fewer
        films than processes, of which some would have no batch.

    Raises:
        ValueError: if ``n`` is not positive.
    """
    labels = dataset.labels
    if labels is None:
        return None
    labelled = np.flatnonzero(labels >= 0 if labels.ndim == 1 else ~np.isnan(labels).all(axis=1))
    _, first = np.unique(dataset.films[labelled], return_index=True)
    rows = labelled[first]
    if not len(rows):
        return None
    drawn = rows[draw_balanced(labels[rows], n, seed=0)].tolist()
    if len(drawn) < processes:
        rank_zero_warn(f"{len(drawn)} reference film(s) for {processes} processes: they are not used. Use more films.")
        return None
    return Subset(dataset.plain(), drawn)
