"""How the films of a data module are placed on the canvas."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from data_modules.geometry import FilmFit
from gaze_lightning.gaze import Fixations

Box = tuple[float, float, float, float]
Rows = npt.NDArray[np.int64]


class FilmFits:
    """The affine of every film, and the frame in which gaze of different films is compared.

    Films are placed whole, or each as it was aligned. The frame is the film where all are placed whole (positions are
    fractions of it), and the canvas where films are aligned: there the same place means the same anatomy.

    What is kept per film is kept in an array, so that loading processes share it with the one that started them.

    Args:
        sizes: ``[n, 2]``: height and width of the films, pixels.
        canvas: (H, W), pixels.
        own: fit of each film, None for one that is placed whole; None: all films are, and none is aligned.
    """

    def __init__(
        self, sizes: npt.NDArray[np.int32], canvas: tuple[int, int], own: Sequence[FilmFit | None] | None = None
    ) -> None:
        self.sizes = sizes
        self.canvas = canvas
        self.aligned = own is not None
        """Whether films are aligned; then what reaches beyond the canvas is cut."""
        whole = (np.nan, np.nan, np.nan)
        self._own = np.array(
            [whole if fit is None else (fit.scale, fit.offset_x, fit.offset_y) for fit in own or ()], dtype=np.float64
        ).reshape(-1, 3)

    def fit(self, film: int) -> FilmFit:
        """The affine of a film, from its pixels to the canvas."""
        if self.aligned and not np.isnan(self._own[film, 0]):
            return FilmFit(*self._own[film].tolist())
        height, width = self.sizes[film].tolist()
        return FilmFit.of((height, width), self.canvas)

    def box(self, film: int) -> Box:
        """Where a film lies, canvas pixels: x0, y0, x1, y1; of aligned films what lies on the canvas."""
        height, width = self.sizes[film].tolist()
        x0, y0, x1, y1 = self.fit(film).box((height, width))
        if not self.aligned:
            return x0, y0, x1, y1
        return max(x0, 0.0), max(y0, 0.0), min(x1, float(self.canvas[1])), min(y1, float(self.canvas[0]))

    def boxes(self, films: Rows) -> npt.NDArray[np.float64]:
        """`box` of several films: float64 ``[n, 4]``."""
        return np.array([self.box(film) for film in films.tolist()], dtype=np.float64).reshape(-1, 4)

    def frame_sizes(self, films: Rows) -> npt.NDArray[np.int32]:
        """Height and width of the frame of each of these films, in its own units: int32 ``[n, 2]``."""
        if self.aligned:
            return np.tile(np.array(self.canvas, dtype=np.int32), (len(films), 1))
        return self.sizes[films]

    def to_frame(self, gaze: Sequence[Fixations], films: Rows) -> list[Fixations]:
        """Gaze of these films, film pixels, in the frame's units."""
        return _moved(gaze, [self.fit(film) for film in films.tolist()]) if self.aligned else list(gaze)

    def from_frame(self, gaze: Sequence[Fixations], films: Rows) -> list[Fixations]:
        """Gaze in the frame's units in pixels of these films."""
        return _moved(gaze, [self.fit(film).inverse() for film in films.tolist()]) if self.aligned else list(gaze)


def _moved(gaze: Sequence[Fixations], fits: Sequence[FilmFit]) -> list[Fixations]:
    return [own.affine(fit.scale, fit.scale, fit.offset_x, fit.offset_y) for own, fit in zip(gaze, fits, strict=True)]
