"""Pages of films with their gaze: what the loaders make of a source, before any training."""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from callbacks.panel_parts import (
    DPI,
    INK,
    PANEL_HEIGHT,
    CamCase,
    aspect_of,
    gaze_colours,
    outline,
    show_film,
    show_fixations,
    show_map,
)


def draw_gaze_page(cases: Sequence[CamCase], class_names: Sequence[str], *, note: str) -> Figure:
    """Draw cases as rows: film with lesion outlines, film with fixations, film with the saliency map.

    Args:
        cases: one to about four cases; their CAMs are not used.
        class_names: names of the classes, for the titles; may be empty.
        note: printed at the foot.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.
    """
    cell = PANEL_HEIGHT * max(aspect_of(case) for case in cases)
    row, foot, head = PANEL_HEIGHT + 0.62, 0.35, 0.12
    width, height = 3 * cell + 0.5, len(cases) * row + foot + head
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for index, case in enumerate(cases):
        top = height - head - index * row - 0.52
        grid = GridSpec(
            1,
            3,
            figure=figure,
            left=0.15 / width,
            right=1 - 0.15 / width,
            top=top / height,
            bottom=(top - PANEL_HEIGHT) / height,
            wspace=0.06,
        )
        truth = ", ".join(class_names[k] for k in case.true_classes)
        title = f"{case.name}   ·   {truth}" if truth else case.name
        figure.text(0.15 / width, (top + 0.26) / height, title, fontsize=10, color=INK, weight="bold", va="bottom")
        film, points, gaze = (figure.add_subplot(grid[0, column]) for column in range(3))
        show_film(film, case, "film")
        outline(film, case, range(len(class_names)))
        count = 0 if case.fixations is None else len(case.fixations)
        show_film(points, case, f"{count} fixations" if count else "no gaze")
        show_fixations(points, case)
        show_film(gaze, case, "saliency map", dim=True)
        if case.gaze is not None:
            show_map(gaze, case, case.gaze, Normalize(0.0, float(case.gaze.max()) or 1.0), gaze_colours())
    figure.text(0.15 / width, 0.1 / height, note, fontsize=8, color=INK, va="bottom")
    return figure
