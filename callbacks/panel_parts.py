"""The pieces of which pages of films are drawn: film, map, fixations, outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gaze_lightning.evaluation.files import replacing

Floats = npt.NDArray[np.floating[Any]]

OUTLINE = "#35e0ff"
INK = "#1a1a1a"
QUIET = "#666666"
TRUE = "#0a7d33"
WRONG = "#b3261e"
PANEL_HEIGHT = 2.45  # inches
DPI = 110


@dataclass(frozen=True)
class CamCase:
    """One case of a page. Coordinates in network pixels, maps on their own grids, which cover the whole canvas.

    Attributes:
        name: what the case is called on the page; never a real id.
        film: ``[H, W]`` in [0, 1].
        cams: ``[K, h, w]``, one map per class; ``[0, h, w]`` of a task that makes none.
        probability: ``[K]`` in [0, 1]; ``K`` may be 0.
        true_classes: indices of the classes that hold; empty: none of them.
        has_label: false where the source states no label, so that nothing is called right or wrong.
        film_box: x0, y0, x1, y1 of the film inside the padded canvas; None: the whole canvas.
        gaze: ``[g, g]`` gaze map that sums to 1, or None without gaze.
        fixations: ``[N, 3]``: x, y and weight (a duration), or None.
        lesions: bool ``[K, H, W]``, or None.
        multi_label: several classes can hold; the most probable class is then not called right or wrong.
        saliency: ``[H, W]`` predicted density of gaze that sums to 1, or None of a task that predicts none.
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
    saliency: Floats | None = None

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


def show_film(
    axes: Axes, case: CamCase, title: str, *, colour: str = INK, dim: bool = False, room: float | None = None
) -> None:
    """Draw the film into ``axes``.

    Args:
        axes: where.
        case: whose film.
        title: of the panel; made smaller where it is too long.
        colour: of the title.
        dim: leave room for a map on top.
        room: width of the title in inches; None: that of a panel of ``PANEL_HEIGHT``.
    """
    height, width = case.film.shape
    axes.imshow(
        case.film, cmap="gray", vmin=0, vmax=1.3 if dim else 1, extent=(0, width, height, 0), interpolation="bicubic"
    )
    x0, y0, x1, y1 = case.box
    axes.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[])
    axes.set_anchor("N")
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = 9 * min(1.0, 13.9 * (PANEL_HEIGHT * aspect_of(case) if room is None else room) / len(title))
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


def say_no_gaze(axes: Axes, case: CamCase) -> None:
    """Write "no gaze" over a film, readable on bright and dark ones."""
    x0, y0, x1, y1 = case.box
    words = axes.text((x0 + x1) / 2, (y0 + y1) / 2, "no gaze", color="white", ha="center", va="center", fontsize=10)
    words.set_path_effects([patheffects.withStroke(linewidth=3, foreground="black", alpha=0.6)])


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


def write_row_title(figure: Figure, case: CamCase, class_names: Sequence[str], x: float, y: float) -> None:
    """Write what the case is called, its true classes and the most probable one, where known, above its row.

    Args:
        figure: the page.
        case: the case.
        class_names: ``K`` names; may be empty.
        x: left end, fraction of the page.
        y: bottom, fraction of the page.
    """
    words = [case.name]
    colour = INK
    if class_names:
        best = int(np.argmax(case.probability))
        if case.has_label:
            truth = ", ".join(class_names[k] for k in case.true_classes) or "none of the classes"
            if not case.multi_label:
                colour = TRUE if best in case.true_classes else WRONG
            words.append(f"true: {truth}")
        words.append(
            f"{'most probable' if case.multi_label else 'predicted'}: {class_names[best]} {case.probability[best]:.2f}"
        )
    line = "   ·   ".join(words)
    size = 10.5 * min(1.0, float(figure.get_figwidth()) / (0.09 * len(line)))
    figure.text(x, y, line, fontsize=max(size, 6), color=colour, weight="bold", va="bottom")


def write_legend(
    figure: Figure, cases: Sequence[CamCase], x: float, y: float, *, cams: bool = True, dashed: bool = True
) -> None:
    """Write what outlines, circles and crosses mean, as far as the cases have them.

    Args:
        figure: the page.
        cases: its cases.
        x: left end, fraction of the page.
        y: bottom, fraction of the page.
        cams: whether the page has CAMs.
        dashed: whether lesions of other classes are drawn.
    """
    handles: list[Line2D] = []
    if any(case.lesions is not None and case.lesions.any() for case in cases):
        handles.append(Line2D([], [], color=OUTLINE, linewidth=2, label="lesion"))
        if dashed:
            style = (0, (2, 1.5))
            handles.append(
                Line2D([], [], color=OUTLINE, linewidth=1.2, linestyle=style, label="lesion of another class")
            )
    if any(case.fixations is not None and len(case.fixations) for case in cases):
        circle = {"marker": "o", "markerfacecolor": "none", "color": "#999999", "linewidth": 0}
        handles.append(Line2D([], [], label="fixation (area: duration)", **circle))  # type: ignore[arg-type]
    if cams:
        handles.append(Line2D([], [], marker="P", color="black", mfc="white", linewidth=0, label="highest CAM cell"))
    if handles:
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(x, y),
            ncols=len(handles),
            fontsize=8,
            frameon=False,
            borderpad=0,
            handlelength=1.8,
        )


def times_even(case: CamCase, density: Floats) -> float:
    """The highest value of a density, as a multiple of what it would be if gaze were spread evenly over the film.

    Args:
        case: the case whose film it is.
        density: ``[h, w]`` over the whole canvas, sums to 1.
    """
    x0, y0, x1, y1 = case.box
    height, width = case.film.shape
    film_share = (x1 - x0) * (y1 - y0) / (height * width)
    return float(density.max() * density.size * film_share)


def bar_below(
    figure: Figure, place: tuple[float, float, float], colours: ScalarMappable, labels: Sequence[str]
) -> None:
    """Draw a thin horizontal colour bar below a panel.

    Args:
        figure: the page.
        place: left end, lower edge of the panel, and width of the bar, in inches from the lower left corner.
        colours: norm and colours of the bar.
        labels: of values at equal distances along the bar, from its left to its right end.
    """
    left, bottom, length = place
    width, height = (float(side) for side in figure.get_size_inches())
    axes = figure.add_axes((left / width, (bottom - 0.13) / height, length / width, 0.07 / height))
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal")
    assert isinstance(colours.norm, Normalize)
    ticks = colours.norm.inverse(np.linspace(0.0, 1.0, len(labels)))
    bar.set_ticks([float(tick) for tick in ticks], labels=list(labels))
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7, length=0, pad=2, colors=QUIET)
    texts = axes.get_xticklabels()
    texts[0].set_horizontalalignment("left")
    texts[-1].set_horizontalalignment("right")


def gaze_norm(density: Floats) -> Normalize:
    """Scale of densities from zero to the highest value of ``density``.

    Colours follow the square root: fixations are sharp peaks and predictions are broad, and both are to be seen on one
    scale.
    """
    return PowerNorm(0.5, 0.0, float(density.max()) or 1.0)


def even_labels(case: CamCase, density: Floats) -> list[str]:
    """Labels of the bar of ``gaze_norm``: zero, its middle (a quarter of the highest value) and its end."""
    high = times_even(case, density)
    return ["0", short(high / 4), f"{short(high)}x even"]


def short(value: float) -> str:
    """A number with two digits, or all of them before the point."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def gaze_colours(*, solid: bool = False) -> Colormap:
    """Dark green to yellow; low values let the film through."""
    return see_through("viridis", 0.15, solid=solid, opaque_from=0.1)


def see_through(name: str, start: float, *, solid: bool, opaque_from: float) -> Colormap:
    """A colour map of matplotlib from ``start`` of its range on, transparent below ``opaque_from`` unless ``solid``."""
    steps = np.linspace(0, 1, 256)
    colours = np.asarray(colormaps[name](start + (1 - start) * steps))
    if not solid:
        colours[:, 3] = 0.8 * np.clip((steps - opaque_from) / 0.6, 0, 1)
    return LinearSegmentedColormap.from_list(f"{name}_film", [tuple(c) for c in colours.tolist()], N=256)
