"""Pages of films, gaze maps and class activation maps: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from callbacks.panel_parts import (
    DPI,
    INK,
    PANEL_HEIGHT,
    QUIET,
    TRUE,
    CamCase,
    aspect_of,
    bar_below,
    even_labels,
    gaze_colours,
    gaze_norm,
    outline,
    say_no_gaze,
    see_through,
    show_film,
    show_fixations,
    show_map,
    write_legend,
    write_row_title,
)


def shown_classes(case: CamCase, most: int) -> list[int]:
    """Choose the classes whose CAMs are drawn: the true ones, then the most probable; in their usual order.

    Args:
        case: the case.
        most: how many at most.

    Returns:
        Class indices, ascending.
    """
    by_probability = [int(k) for k in np.argsort(-case.probability, kind="stable")]
    wanted = list(dict.fromkeys([*case.true_classes, *by_probability]))
    return sorted(wanted[:most])


def highest_cell(case: CamCase, index: int) -> tuple[float, float] | None:
    """Centre of a CAM's highest cell among those whose centre lies on the film.

    Args:
        case: the case.
        index: the class.

    Returns:
        x, y in network pixels; None for a map without a maximum.
    """
    cells = case.cams[index]
    height, width = case.film.shape
    x = (np.arange(cells.shape[1]) + 0.5) * width / cells.shape[1]
    y = (np.arange(cells.shape[0]) + 0.5) * height / cells.shape[0]
    x0, y0, x1, y1 = case.box
    on_film = ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
    if not on_film.any() or cells.max() <= cells.min():
        return None
    row, column = np.unravel_index(int(np.where(on_film, cells, -np.inf).argmax()), cells.shape)
    return float(x[column]), float(y[row])


def draw_cam_page(cases: Sequence[CamCase], class_names: Sequence[str], *, note: str, most_classes: int = 4) -> Figure:
    """Draw cases as rows: film, gaze map, then one class activation map per class.

    The lesion outline is drawn on every panel that has one: full on the film and on the CAM of its class, dashed on
    the other CAMs. Each CAM is drawn minus its mean: the panels say where, the probabilities how much. The colours of
    a row run from zero (a map's own mean; below it the film shows through) to the highest such value over the
    classes drawn, so that they can be compared. A cross marks the highest cell of each CAM.

    Args:
        cases: one to about four cases.
        class_names: ``K`` names.
        note: printed at the foot: what data, which epoch.
        most_classes: CAM panels per row at most; the foot says how many classes were left out.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.
    """
    columns = 2 + min(most_classes, len(class_names))
    cell = max(PANEL_HEIGHT * max(aspect_of(case) for case in cases), 1.75)
    width = columns * cell + (columns - 1) * 0.1 + 0.95
    row_height, foot, head = PANEL_HEIGHT + 0.62, 0.68, 0.12
    height = len(cases) * row_height + foot + head
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for row, case in enumerate(cases):
        top = 1 - (head + row * row_height + 0.52) / height
        grid = GridSpec(
            1,
            columns,
            figure=figure,
            left=0.15 / width,
            right=1 - 0.8 / width,
            top=top,
            bottom=top - PANEL_HEIGHT / height,
            wspace=0.1 / cell,
        )
        _draw_row(figure, grid, case, class_names, most_classes)
        write_row_title(figure, case, class_names, 0.15 / width, top + 0.3 / height)
    _foot(figure, cases, note, len(class_names) - most_classes, width, height)
    return figure


def draw_overlay(case: CamCase, class_names: Sequence[str], classes: Sequence[int], *, note: str = "") -> Figure:
    """Draw one film and, beside it, the predicted gaze, if any, and the class activation maps of the given classes.

    Args:
        case: the case; its gaze and label are not drawn.
        class_names: ``K`` names.
        classes: the classes to show, most important first; none where the task has no classes or makes no maps.
        note: printed at the foot.

    Returns:
        A figure with the Agg canvas.
    """
    panel = 4.0
    cell = max(panel * aspect_of(case), 2.2)
    columns = 1 + (case.saliency is not None) + len(classes)
    right = 0.8 if classes else 0.15
    width, height = columns * cell + (columns - 1) * 0.1 + 0.15 + right, panel + 0.7
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 0.35 / height
    grid = GridSpec(
        1,
        columns,
        figure=figure,
        left=0.15 / width,
        right=1 - right / width,
        top=top,
        bottom=top - panel / height,
        wspace=0.1 / cell,
    )
    show_film(figure.add_subplot(grid[0, 0]), case, "film")
    if case.saliency is not None:
        axes = figure.add_subplot(grid[0, 1])
        density = gaze_norm(case.saliency)
        show_film(axes, case, "predicted gaze", dim=True)
        show_map(axes, case, case.saliency, density, gaze_colours())
        bar = ScalarMappable(density, gaze_colours(solid=True))
        bar_below(figure, (1.25 * cell + 0.25, height - 0.35 - panel, cell / 2), bar, even_labels(case, case.saliency))
    if classes:
        norm = cam_norm(case, classes)
        for column, index in enumerate(classes, start=columns - len(classes)):
            axes = figure.add_subplot(grid[0, column])
            show_film(axes, case, f"{class_names[index]}  {case.probability[index]:.2f}", dim=True)
            show_cam(axes, case, index, norm)
        _colour_bar(figure, grid, norm)
    if note:
        figure.text(0.15 / width, 0.12 / height, note, fontsize=7.5, color=QUIET, va="bottom")
    return figure


def _draw_row(figure: Figure, grid: GridSpec, case: CamCase, class_names: Sequence[str], most_classes: int) -> None:
    film = figure.add_subplot(grid[0, 0])
    show_film(film, case, "film")
    outline(film, case, range(len(class_names)))
    gaze = figure.add_subplot(grid[0, 1])
    show_film(gaze, case, "gaze", dim=case.gaze is not None)
    if case.gaze is None:
        say_no_gaze(gaze, case)
    else:
        show_map(gaze, case, case.gaze, Normalize(0.0, float(case.gaze.max()) or 1.0), gaze_colours())
        show_fixations(gaze, case)
    classes = shown_classes(case, most_classes)
    norm = cam_norm(case, classes)
    for column, index in enumerate(classes, start=2):
        axes = figure.add_subplot(grid[0, column])
        true = case.has_label and index in case.true_classes
        title = f"{class_names[index]}  {case.probability[index]:.2f}"
        show_film(axes, case, f"{title}  true" if true else title, colour=TRUE if true else INK, dim=True)
        show_cam(axes, case, index, norm)
        outline(axes, case, [k for k in range(len(class_names)) if k != index], dashed=True)
        outline(axes, case, [index])
        if true:
            for spine in axes.spines.values():
                spine.set(visible=True, color=TRUE, linewidth=2.5)
    _colour_bar(figure, grid, norm)


def _foot(figure: Figure, cases: Sequence[CamCase], note: str, left_out: int, width: float, height: float) -> None:
    write_legend(figure, cases, 0.1 / width, 0.4 / height)
    h, w = cases[0].cams.shape[-2:]
    scale = f"CAM grid {h} x {w}, bilinear, coloured where above its own mean; one scale per row"
    if left_out > 0:
        scale += f"; {left_out} less probable classes not drawn"
    figure.text(0.15 / width, 0.22 / height, note, fontsize=8, color=INK, va="bottom")
    figure.text(0.15 / width, 0.08 / height, scale, fontsize=7, color=QUIET, va="bottom")


def show_cam(axes: Axes, case: CamCase, index: int, norm: Normalize) -> None:
    """Lay the CAM of a class, minus its mean, over the film and mark its highest cell."""
    show_map(axes, case, case.centred[index], norm, cam_colours())
    point = highest_cell(case, index)
    if point is not None:
        axes.plot(*point, marker="+", markersize=11, markeredgewidth=3.2, color="black", alpha=0.6, clip_on=False)
        axes.plot(*point, marker="+", markersize=10, markeredgewidth=1.6, color="white", clip_on=False)


def cam_norm(case: CamCase, classes: Sequence[int] | range) -> Normalize:
    """One scale for the CAMs of some classes: from zero, a map's own mean, to the highest value above it."""
    high = float(case.centred[list(classes)].max())
    return Normalize(0.0, high if high > 0 else 1.0)


def _colour_bar(figure: Figure, grid: GridSpec, norm: Normalize) -> None:
    place = grid.get_grid_positions(figure)
    bottom, top, right = float(place[0][0]), float(place[1][0]), float(place[3][-1])
    width = float(figure.get_figwidth())
    axes = figure.add_axes((right + 0.1 / width, bottom + 0.15 * (top - bottom), 0.1 / width, 0.7 * (top - bottom)))
    bar = figure.colorbar(ScalarMappable(norm, cam_colours(solid=True)), cax=axes)
    high = norm.vmax or 0.0
    bar.set_ticks([0.0, high], labels=["mean", f"{high:+.3g}"])
    axes.tick_params(labelsize=7.5, length=2, colors=QUIET)
    axes.set_title("CAM", fontsize=7.5, color=QUIET, pad=4)
    bar.outline.set_visible(False)


def cam_colours(*, solid: bool = False) -> Colormap:
    """Dark violet to yellow (perceptually uniform); low values let the film through."""
    return see_through("inferno", 0.15, solid=solid, opaque_from=0.08)
