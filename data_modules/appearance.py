"""Changes of a film's grey values that albumentations would make of the padding, too."""

import cv2
import numpy as np
import numpy.typing as npt

Film = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


def blurred(image: Film, film_box: Box, sigma: float) -> Film:
    """Blur the film with a Gaussian; beyond its edges it goes on as its mirror image, and the padding stays as it is.

    Args:
        image: uint8 ``[H, W]``.
        film_box: x0, y0, x1, y1 of the film, pixels; the pixels that it touches are the film.
        sigma: standard deviation, pixels.
    """
    rows, columns = covered(film_box)
    result = image.copy()
    result[rows, columns] = cv2.GaussianBlur(image[rows, columns], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return result


def with_gamma(image: Film, gamma: float) -> Film:
    """Raise grey values in [0, 1] to a power: uint8 of any shape; black and white stay."""
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    changed: Film = table[image]
    return changed


def covered(box: Box) -> tuple[slice, slice]:
    """Rows and columns of the pixels that the box x0, y0, x1, y1 touches; a box that begins a rounding error before the
    canvas begins with it.
    """
    left, top = (max(int(np.floor(start)), 0) for start in box[:2])
    return slice(top, int(np.ceil(box[3]))), slice(left, int(np.ceil(box[2])))
