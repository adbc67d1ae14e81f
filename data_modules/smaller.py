"""Batches with smaller images than those of the cache, for the stages of a training."""

import math

from torch import Tensor

from gaze_lightning.batch import Batch
from gaze_lightning.gaze import cell_overlap


def check_smaller(own: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Refuse a size that the images of the cache cannot be reduced to.

    Args:
        own: (H, W) of the cached images, pixels.
        wanted: (h, w), pixels.

    Raises:
        ValueError: if it is larger or of another shape, with sizes that would do.
    """
    height, width = own
    if 0 < wanted[0] <= height and 0 < wanted[1] <= width and wanted[0] * width == wanted[1] * height:
        return
    parts = math.gcd(height, width)
    step = (height // parts, width // parts)
    nearest = min(max(1, round(wanted[0] / step[0])), parts)
    near = [n for n in (nearest - 1, nearest, nearest + 1) if 0 < n <= parts]
    examples = ", ".join(f"{n * step[0]} x {n * step[1]}" for n in near)
    raise ValueError(
        f"images of {wanted[0]} x {wanted[1]} (height x width) cannot be made of the data module's {height} x {width}: "
        f"the size must not be larger, and height : width must stay exactly. Multiples of {step[0]} x {step[1]} will "
        f"do, the nearest ones: {examples}. Or change image_size of the data."
    )


def make_smaller(batch: Batch, size: tuple[int, int]) -> Batch:
    """Reduce the images of a batch by area pooling; everything in pixels follows.

    Maps keep their own size: they cover the canvas whatever its number of pixels. A pixel of a mask stays true where
    the mask covers at least half of it; a mask that covers half of none keeps the pixel that it covers most, so that no
    lesion vanishes.

    Args:
        batch: ``image`` float32 ``[B, 1, H, W]``.
        size: (h, w), see `check_smaller`.

    Returns:
        The batch itself, changed.
    """
    factor = size[0] / batch["image"].shape[-2]
    batch["image"] = pool_area(batch["image"], size)
    if "second_view" in batch:
        batch["second_view"] = pool_area(batch["second_view"], size)
    scale = batch["fixations"].new_tensor([factor, factor, 1.0, factor, factor])
    batch["fixations"] = batch["fixations"] * scale
    batch["film_box"] = batch["film_box"] * factor
    if "warp" in batch:
        batch["warp"] = batch["warp"] * batch["warp"].new_tensor([1.0, 1.0, factor])
    if "visible" in batch:
        batch["visible"] = batch["visible"] * factor
    if "lesion_mask" in batch:
        batch["lesion_mask"] = _smaller_masks(batch["lesion_mask"], size)
    if "anatomy_mask" in batch:
        batch["anatomy_mask"] = _smaller_masks(batch["anatomy_mask"], size)
    return batch


def pool_area(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean of the last two dimensions over the area of each new cell; cut cells count by their share.

    Args:
        values: ``[..., H, W]``, floating point.
        size: (h, w), neither larger.
    """
    rows, columns = (
        (cell_overlap(source, target, values.device) * target / source).to(values.dtype)
        for source, target in zip(values.shape[-2:], size, strict=True)
    )
    return rows @ values @ columns.T


def _smaller_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Bool ``[B, K, H, W]`` to ``[B, K, h, w]``; sample by sample, as floating-point masks are large."""
    smaller = masks.new_zeros(*masks.shape[:2], *size)
    for index, mask in enumerate(masks):
        share = pool_area(mask.float(), size)
        threshold = share.amax(dim=(-2, -1), keepdim=True).clamp(max=0.5)
        smaller[index] = (share > 0) & (share >= threshold - 1e-6)
    return smaller
