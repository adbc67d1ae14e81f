"""Which samples of a batch belong together, by their labels."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor


class LabelPairs(NamedTuple):
    """Relations between the samples of a batch; a pair of which neither is known is in none of them.

    Attributes:
        same: bool ``[B, B]``, symmetric, false on the diagonal: the labels agree.
        different: bool ``[B, B]``, symmetric, false on the diagonal: the labels disagree.
    """

    same: Tensor
    different: Tensor


def label_pairs(label: Tensor, label_type: Literal["single", "multi"]) -> LabelPairs:
    """Compare every label with every other.

    Single-label: equal or unequal. Multi-label (the project's choice, no source): two samples agree if they show a
    finding in common or if both show none, and else disagree; where that depends on an unknown entry, the pair is
    neither ``same`` nor ``different``.

    Args:
        label: int64 ``[B]`` (single-label) or float ``[B, K]`` in {0, 1, NaN = unknown} (multi-label).
        label_type: ``"single"`` or ``"multi"``.

    Raises:
        ValueError: an unknown ``label_type``, or labels of another shape.
    """
    if label_type not in ("single", "multi"):
        raise ValueError(f"label_type is {label_type!r}: choose 'single' or 'multi'")
    if label.ndim != (1 if label_type == "single" else 2):
        raise ValueError(
            f"{label_type}-label data has labels {'[B]' if label_type == 'single' else '[B, K]'}, "
            f"got shape {tuple(label.shape)}: check label_type"
        )
    if label_type == "single":
        same = label[:, None] == label[None, :]
        different = ~same
    else:
        present, possible = (label == 1).float(), (label != 0).float()
        shows_one, may_show_one = present.any(dim=1), possible.any(dim=1)
        both_clear = ~(may_show_one[:, None] | may_show_one[None, :])
        same = (present @ present.T > 0) | both_clear
        different = (possible @ possible.T == 0) & (shows_one[:, None] | shows_one[None, :])
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    return LabelPairs(same & ~itself, different & ~itself)
