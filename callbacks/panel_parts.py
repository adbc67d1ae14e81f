"""The pieces of which pages of films are drawn: film, map, fixations, outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from gaze_lightning.evaluation.files import replacing

Floats = npt.NDArray[np.floating[Any]]

OUTLINE = "#35e0ff"
INK = "#1a1a1a"
QUIET = "#666666"
TRUE = "#0a7d33"
PANEL_HEIGHT = 2.45  # inches
DPI = 110


@dataclass(frozen=True)
class CamCase:
    """One case of a page. Coordinates in network pixels, maps on their own grids, which cover the whole canvas.

    Attributes:
        name: what the case is called on the page; never a real id.
        film: ``[H, W]`` in [0, 1].
        cams: ``[K, h, w]``, one map per class.
        probability: ``[K]`` in [0, 1].
        true_classes: indices of the classes that hold; empty: none of them.
        has_label: false where the source states no label, so that nothing is called right or wrong.
        film_box: x0, y0, x1, y1 of the film inside the padded canvas; None: the whole canvas.
        gaze: ``[g, g]`` gaze map, or None without gaze.
        fixations: ``[N, 3]``: x, y and weight (a duration), or None.
        lesions: bool ``[K, H, W]``, or None.
        multi_label: several classes can hold; the most probable class is then not called right or wrong.
    """

    name: str
    film: Floats
    cams: Floats
    probability: Floats
    true_classes: tuple[int, ...] = ()
    has_label: bool = True
    film_box: tuple[float, float, float, float] | None = None
    gaze: Floats | None = None
    fixations: Floats | None = None
    lesions: npt.NDArray[np.bool_] | None = None
    multi_label: bool = False

    @property
    def centred(self) -> Floats:
        """The maps minus the mean of each: where a class is seen; how much is said by its probability."""
        return np.asarray(self.cams - self.cams.mean(axis=(1, 2), keepdims=True))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The part of the canvas that is shown: x0, y0, x1, y1."""
        height, width = self.film.shape
        return self.film_box or (0.0, 0.0, float(width), float(height))


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG; the file appears complete or not at all, and carries no time stamp.

    Args:
        figure: what to write.
        path: the file; its folder is made.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def show_film(axes: Axes, case: CamCase, title: str, *, colour: str = INK, dim: bool = False) -> None:
    """Draw the film into ``axes``; ``dim`` leaves room for a map on top."""
    height, width = case.film.shape
    axes.imshow(
        case.film, cmap="gray", vmin=0, vmax=1.3 if dim else 1, extent=(0, width, height, 0), interpolation="bicubic"
    )
    x0, y0, x1, y1 = case.box
    axes.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[])
    axes.set_anchor("N")
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = 9 * min(1.0, 34 * aspect_of(case) / len(title))
    axes.set_title(title, fontsize=max(size, 6), color=colour, weight="bold" if colour == TRUE else "normal", pad=3)


def aspect_of(case: CamCase) -> float:
    """Width of the film divided by its height."""
    x0, y0, x1, y1 = case.box
    return (x1 - x0) / (y1 - y0)


def show_map(axes: Axes, case: CamCase, values: Floats, norm: Normalize, colours: Colormap) -> None:
    """Lay a map ``[h, w]`` that covers the whole canvas over the film."""
    height, width = case.film.shape
    extent = (0, width, height, 0)
    axes.imshow(values, cmap=colours, norm=norm, extent=extent, interpolation="bilinear")
    x0, y0, x1, y1 = case.box
    axes.set(xlim=(x0, x1), ylim=(y1, y0))


def show_fixations(axes: Axes, case: CamCase) -> None:
    """Draw fixations as circles whose area grows with their weight."""
    if case.fixations is None or not len(case.fixations):
        return
    x, y, weight = case.fixations[:, 0], case.fixations[:, 1], case.fixations[:, 2]
    area = 4 + 36 * weight / (float(weight.max()) or 1.0)
    axes.scatter(x, y, s=area, facecolors="none", edgecolors="white", linewidths=0.6, alpha=0.75)


def outline(axes: Axes, case: CamCase, classes: Sequence[int] | range, *, dashed: bool = False) -> None:
    """Draw the outlines of the lesions of some classes."""
    if case.lesions is None:
        return
    height, width = case.film.shape
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for index in classes:
        mask = case.lesions[index]
        if not mask.any():
            continue
        framed = np.pad(mask.astype(np.float64), 1)
        frame_x = np.concatenate([[-0.5], x, [width + 0.5]])
        frame_y = np.concatenate([[-0.5], y, [height + 0.5]])
        lines = axes.contour(frame_x, frame_y, framed, levels=[0.5], colors=OUTLINE, linewidths=1.0 if dashed else 1.6)
        if dashed:
            lines.set_linestyle((0, (2, 1.5)))
        lines.set_path_effects(
            [patheffects.withStroke(linewidth=2.2 if dashed else 3.0, foreground="black", alpha=0.55)]
        )


def gaze_colours() -> Colormap:
    """Dark green to yellow; low values let the film through."""
    return see_through("viridis", 0.15, solid=False, opaque_from=0.1)


def see_through(name: str, start: float, *, solid: bool, opaque_from: float) -> Colormap:
    """A colour map of matplotlib from ``start`` of its range on, transparent below ``opaque_from`` unless ``solid``."""
    steps = np.linspace(0, 1, 256)
    colours = np.asarray(colormaps[name](start + (1 - start) * steps))
    if not solid:
        colours[:, 3] = 0.8 * np.clip((steps - opaque_from) / 0.6, 0, 1)
    return LinearSegmentedColormap.from_list(f"{name}_film", [tuple(c) for c in colours.tolist()], N=256)
