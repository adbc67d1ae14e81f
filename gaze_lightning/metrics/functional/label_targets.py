"""Labels of both kinds in one form."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def label_targets(label: Tensor, num_classes: int, label_type: Literal["single", "multi"]) -> Tensor:
    """Write labels as one column per class.

    Args:
        label: int ``[n]`` (single-label, negative: unknown) or float ``[n, K]`` in {0, 1, NaN} (multi-label).
        num_classes: ``K``.
        label_type: which of the two.

    Returns:
        float32, or the kind in which multi-labels come, ``[n, K]`` in {0, 1, NaN}; NaN in the whole row of an unknown
        class.

    Raises:
        ValueError: labels of another shape or kind, or of more classes.
    """
    if label_type == "multi":
        if label.ndim != 2 or label.shape[1] != num_classes or not label.is_floating_point():
            raise ValueError(f"labels must be float [n, {num_classes}], got {label.dtype} {tuple(label.shape)}")
        return label
    if label.ndim != 1 or label.is_floating_point():
        raise ValueError(f"labels must be integers [n], got {label.dtype} {tuple(label.shape)}")
    if len(label) and int(label.max()) >= num_classes:
        raise ValueError(f"a label is {int(label.max())}, but there are {num_classes} classes")
    target = F.one_hot(label.long().clamp(min=0), num_classes).float()
    return target.masked_fill((label < 0)[:, None], torch.nan)
