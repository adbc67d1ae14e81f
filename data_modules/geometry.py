"""How a film is placed in the network's image."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array


@dataclass(frozen=True)
class FilmFit:
    """The affine that fits a film into the network's canvas: ``x' = scale * x + offset_x``, ``y`` alike.

    The film keeps its aspect. Placed whole (`of`) it is centred and padded, never cropped (spec/ggcam.md section 2);
    placed by a box (`onto`) it may reach beyond the canvas, and is cut there. Coordinates are continuous: pixel ``k``
    covers ``[k, k + 1)``.

    Attributes:
        scale: canvas pixels per film pixel.
        offset_x: canvas x of the film's left edge, pixels.
        offset_y: canvas y of the film's upper edge, pixels.
    """

    scale: float
    offset_x: float
    offset_y: float

    @classmethod
    def of(cls, film: tuple[int, int], canvas: tuple[int, int]) -> Self:
        """Fit a film of ``(h, w)`` pixels into a canvas of ``(H, W)`` pixels.

        Raises:
            ValueError: if a size is not positive.
        """
        if min(*film, *canvas) < 1:
            raise ValueError(f"sizes must be positive, got film {film} and canvas {canvas}")
        scale = min(canvas[0] / film[0], canvas[1] / film[1])
        return cls(scale, (canvas[1] - scale * film[1]) / 2, (canvas[0] - scale * film[0]) / 2)

    @classmethod
    def onto(cls, box: tuple[float, float, float, float], canvas: tuple[int, int], margin: float = 0.0) -> Self:
        """Fit a box of a film, enlarged on each side, into the canvas of ``(H, W)`` pixels, centred.

        Where the shapes differ, the canvas shows more of the film than the enlarged box.

        Args:
            box: x0, y0, x1, y1, film pixels.
            canvas: ``(H, W)``, pixels.
            margin: what is added on each side, as a fraction of the box's width and height.

        Raises:
            ValueError: if the canvas, the box or the enlarged box has no area.
        """
        x0, y0, x1, y1 = box
        width, height = (x1 - x0) * (1 + 2 * margin), (y1 - y0) * (1 + 2 * margin)
        if not (x1 > x0 and y1 > y0 and min(width, height) > 0 and min(canvas) >= 1):
            raise ValueError(f"box and canvas must have an area, got box {box}, margin {margin} and canvas {canvas}")
        scale = min(canvas[0] / height, canvas[1] / width)
        return cls(scale, (canvas[1] - scale * (x0 + x1)) / 2, (canvas[0] - scale * (y0 + y1)) / 2)

    def inverse(self) -> Self:
        """The affine from the canvas to the film."""
        return type(self)(1 / self.scale, -self.offset_x / self.scale, -self.offset_y / self.scale)

    def box(self, film: tuple[int, int]) -> tuple[float, float, float, float]:
        """Where the film of ``(h, w)`` pixels lies: x0, y0, x1, y1, canvas pixels, not cut to the canvas."""
        return (
            self.offset_x,
            self.offset_y,
            self.offset_x + self.scale * film[1],
            self.offset_y + self.scale * film[0],
        )


def area_resample(
    image: npt.NDArray[np.generic], fit: FilmFit, canvas: tuple[int, int], source_step: int = 1
) -> npt.NDArray[np.float32]:
    """Place an image on the canvas by exact area interpolation.

    Every canvas pixel is the integral of the film over its area; what lies outside the film counts as zero. Unlike
    ``cv2.resize`` the film's edges need not fall on whole pixels, so points that go through ``fit`` land exactly where
    their image content does.

    Args:
        image: ``[h, w]``, any real type.
        fit: the film's affine.
        canvas: ``(H, W)``, pixels.
        source_step: film pixels per pixel of ``image``, for images that were decoded at a reduced size.

    Returns:
        float32 ``[H, W]`` in the units of ``image``.
    """
    height, width = image.shape
    rows = _overlaps(height, canvas[0], fit.scale * source_step, fit.offset_y)
    columns = _overlaps(width, canvas[1], fit.scale * source_step, fit.offset_x)
    squeezed = rows @ np.ascontiguousarray(image, dtype=np.float32)  # [H, w]
    resampled: npt.NDArray[np.float32] = np.ascontiguousarray((columns @ np.ascontiguousarray(squeezed.T)).T)
    return resampled


def _overlaps(n_in: int, n_out: int, scale: float, offset: float) -> csr_array:
    """Matrix ``[n_out, n_in]``: length of output cell ``j`` that is covered by input cell ``k``, output units."""
    edges = scale * np.arange(n_in + 1) + offset
    # Cut the axis at every input edge and at every output edge; each piece belongs to one cell of either.
    cuts = np.unique(np.concatenate([edges, np.arange(n_out + 1, dtype=np.float64)]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    lengths = np.diff(cuts)
    source = np.searchsorted(edges, middles, side="right") - 1
    target = np.floor(middles).astype(np.int64)
    keep = (source >= 0) & (source < n_in) & (target >= 0) & (target < n_out)
    values = lengths[keep].astype(np.float32)
    return csr_array((values, (target[keep], source[keep])), shape=(n_out, n_in))
