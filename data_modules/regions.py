"""Outlines on a film: annotated ellipses and mask files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from data_modules.geometry import FilmFit, area_resample

BoolMask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EllipseRegion:
    """An axis-aligned ellipse, as REFLACX's readers draw them.

    Attributes:
        class_index: the class that the outline belongs to.
        kind: ``"lesion"`` or ``"anatomy"``.
        xmin: left end of the ellipse, continuous film pixels.
        ymin: upper end.
        xmax: right end, larger than ``xmin``.
        ymax: lower end, larger than ``ymin``.
    """

    class_index: int
    kind: Literal["lesion", "anatomy"]
    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def mask(self, scale: float, offset_x: float, offset_y: float, size: tuple[int, int]) -> BoolMask:
        """Return bool ``[H, W]``: true where the centre of a network pixel lies in the ellipse.

        An ellipse too small to hold any centre marks the one pixel that its own centre falls into, so that no lesion
        vanishes on a coarse grid.

        Args:
            scale: network pixels per film pixel.
            offset_x: network x of the film's left edge.
            offset_y: network y of the film's upper edge.
            size: (H, W) of the network image.
        """
        height, width = size
        x = (np.arange(width) + 0.5 - offset_x) / scale
        y = (np.arange(height) + 0.5 - offset_y) / scale
        centre_x, centre_y = (self.xmin + self.xmax) / 2, (self.ymin + self.ymax) / 2
        across = ((x - centre_x) / ((self.xmax - self.xmin) / 2)) ** 2
        down = ((y - centre_y) / ((self.ymax - self.ymin) / 2)) ** 2
        mask = down[:, None] + across[None, :] <= 1.0
        if not mask.any():
            column, row = int(np.floor(scale * centre_x + offset_x)), int(np.floor(scale * centre_y + offset_y))
            if 0 <= row < height and 0 <= column < width:
                mask[row, column] = True
        return np.asarray(mask, dtype=np.bool_)


@dataclass(frozen=True)
class MaskFileRegion:
    """A mask kept in one or more image files (non-zero = inside; several files are united), read when it is needed.

    Attributes:
        class_index: the class that the outline belongs to.
        kind: ``"lesion"`` or ``"anatomy"``.
        paths: the mask files, each of the film's size.
        film_size: (height, width) of the film in pixels.
    """

    class_index: int
    kind: Literal["lesion", "anatomy"]
    paths: tuple[Path, ...]
    film_size: tuple[int, int]

    def read(self) -> BoolMask:
        """Return the united masks at film resolution, bool ``[height, width]``.

        Raises:
            DataError: if a file cannot be read as an image or has another size than the film.
        """
        united = np.zeros(self.film_size, dtype=np.bool_)
        for path in self.paths:
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if image is None:
                raise DataError(f"the {self.kind} mask {path.name} cannot be read as an image: restore the file.")
            if image.shape != self.film_size:
                raise DataError(
                    f"the {self.kind} mask {path.name} has {image.shape[0]} rows and {image.shape[1]} columns but its "
                    f"film has {self.film_size[0]} and {self.film_size[1]}: it would lie in the wrong place. Restore "
                    "the file that belongs to this film."
                )
            united |= image > 0
        return united

    def mask(self, scale: float, offset_x: float, offset_y: float, size: tuple[int, int]) -> BoolMask:
        """Return bool ``[H, W]``: true where the mask covers at least half of a network pixel.

        A mask too small to cover half of any pixel marks the pixel that it covers most, so that no lesion vanishes on a
        coarse grid.

        Args:
            scale: network pixels per film pixel.
            offset_x: network x of the film's left edge.
            offset_y: network y of the film's upper edge.
            size: (H, W) of the network image.

        Raises:
            DataError: see `read`.
        """
        share = area_resample(self.read(), FilmFit(scale, offset_x, offset_y), size)
        largest = float(share.max())
        threshold = largest if 1e-6 < largest < 0.5 else 0.5
        return np.asarray(share >= threshold - 1e-6, dtype=np.bool_)
