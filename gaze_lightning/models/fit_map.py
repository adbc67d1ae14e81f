"""An importance map that starts from a given one."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gaze_lightning.models.shared_map import SharedMap


def fit_map(attention: SharedMap, target: Tensor, steps: int = 200, lr: float = 0.05) -> float:
    """Fit the parameters of a map so that it approaches a target; the map is stored afterwards.

    Binary cross-entropy of ``sigmoid(logits)`` with the target as soft labels (before ``rescale``), Adam with a
    learning rate that falls to zero along half a cosine. The global random state is not touched.

    Args:
        attention: a ``GlobalAttention`` with anchors, or a ``FreeMask``; gradients of its parameters are cleared.
        target: ``[H, W]`` in (0, 1).
        steps: of the optimiser.
        lr: the first learning rate.

    Returns:
        Pearson correlation of the fitted map with the target; NaN if either is constant.

    Raises:
        ConfigurationError: a map that exists for a batch only.
        ValueError: a target of another size or outside (0, 1).
    """
    if tuple(target.shape) != attention.size:
        raise ValueError(f"the target is {tuple(target.shape)} pixels, the map {attention.size}")
    if not bool(((target > 0) & (target < 1)).all()):
        raise ValueError("the target has values outside (0, 1)")
    soft = target.to(attention.stored_map)[None, None]
    with torch.enable_grad():
        optimiser = torch.optim.Adam(attention.parameters(), lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        for _ in range(steps):
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(attention.logits(), soft).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        optimiser.zero_grad()
    with torch.no_grad():
        attention.store_map()
        pair = torch.stack([torch.sigmoid(attention.logits()).flatten(), soft.flatten()])
        return float(torch.corrcoef(pair)[0, 1])
