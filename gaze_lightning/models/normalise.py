"""Intensities of films as the networks take them."""

from torch import Tensor


def normalise_films(image: Tensor, mean: float, std: float, divide_by_max: bool) -> Tensor:
    """Shift and scale intensities: ``(image - mean) / std``.

    Args:
        image: float ``[B, 1, H, W]`` in [0, 1].
        mean: subtracted.
        std: divided by afterwards; positive.
        divide_by_max: divide each image by its own maximum first (a black image stays black).

    Returns:
        ``[B, 1, H, W]``; the input is not changed.
    """
    if divide_by_max:
        image = image / image.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1 / 255)
    return (image - mean) / std
