"""How a global map changes in a training: arrays in, figure out."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from callbacks.global_map_panels import Where, film_case, inside, is_even, say, show_compared
from callbacks.panel_parts import DPI, INK, QUIET, Floats, aspect_of, bar_below, show_film
from callbacks.saliency_panels import difference_colours
from callbacks.text_fit import fitting_size

_MARGIN, _GAP, _CELL = 0.15, 0.12, 1.75
_TITLES, _BELOW, _HEAD, _BAR = 0.4, 0.26, 0.12, 0.4
# all lengths in inches
_SEEN = 0.1
"""Deviations below this share of the scale are hardly coloured."""


class MapOfEpoch(NamedTuple):
    """A map and what it is called on the page."""

    name: str
    """E.g. ``epoch 3``."""
    values: Floats
    """``[H, W]``."""
    with_last: float
    """Correlation with the last map; NaN where one of the two is constant."""


def choose_epochs(epochs: Sequence[int], most: int = 7) -> list[int]:
    """Choose at most ``most`` evenly spaced epochs and the last one.

    Args:
        epochs: those with a map, ascending.
        most: how many besides the last.
    """
    before = epochs[:-1]
    if len(before) > most:
        before = [before[place] for place in np.linspace(0, len(before) - 1, most).round().astype(int).tolist()]
    return [*before, *epochs[-1:]]


def draw_evolution(maps: Sequence[MapOfEpoch], where: Where, *, film: Floats | None, note: str) -> Figure:
    """Draw maps of a training in their order, each minus its own mean, over the dimmed mean film.

    One symmetric scale serves all: orange where a pixel weighs more than the map's mean, blue where less. How high the
    mean is stands above each map with its standard deviation, both over the pixels of ``where``. The film shows through
    at the mean: over a map that is the same everywhere stands "even", over one whose colours are too faint to be seen
    "nearly even".

    Args:
        maps: at least one; the last is that of the end.
        where: bool ``[H, W]``: the pixels that are compared, and drawn.
        film: mean training film ``[H, W]`` in [0, 1]; None: not known.
        note: printed at the foot: what data.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.
    """
    case = film_case(film, (where.shape[0], where.shape[1]))
    columns = len(maps) if len(maps) <= 5 else -(-len(maps) // 2)
    rows = -(-len(maps) // columns)
    panel = min(2.1, _CELL / aspect_of(case))
    row = _TITLES + panel + _BELOW
    width = max(columns * (_CELL + _GAP) - _GAP, 5.4) + 2 * _MARGIN
    scale = "Each map minus its own mean, one scale for all. CC: correlation with the last map."
    if not where.all():
        scale += " White: less than half of the training films are there; not compared."
    lines = textwrap.wrap(scale, int((width - 2 * _MARGIN) / 0.052))
    foot = 0.33 + 0.13 * len(lines)
    height = _HEAD + rows * row + _BAR + foot
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    drawn = [inside(one.values, where) for one in maps]
    deviations = [_deviation(values) for values in drawn]
    most = max(float(np.nanmax(np.abs(values), initial=0.0)) for values in deviations) or 1.0
    norm = Normalize(-most, most)
    for index, (one, values, deviation) in enumerate(zip(maps, drawn, deviations, strict=True)):
        left = _MARGIN + index % columns * (_CELL + _GAP)
        bottom = height - _HEAD - index // columns * row - _TITLES - panel
        axes = figure.add_axes((left / width, bottom / height, _CELL / width, panel / height))
        numbers = f"mean {np.nanmean(values):.2f}  sd {np.nanstd(values):.3f}" if np.isfinite(values).any() else "NaN"
        show_film(axes, case, numbers, colour=QUIET, dim=True, room=_CELL)
        show_compared(axes, case, deviation, norm, difference_colours())
        if is_even(values) or np.nanmax(np.abs(deviation), initial=0.0) < _SEEN * most:
            say(axes, case, "even" if is_even(values) else "nearly even")
        middle = (left + _CELL / 2) / width
        text: dict[str, Any] = {"ha": "center", "va": "bottom", "color": INK}
        figure.text(middle, (bottom + panel + 0.2) / height, one.name, fontsize=9, weight="bold", **text)
        figure.text(middle, (bottom - 0.18) / height, _words(one, index == len(maps) - 1), fontsize=8, **text)
    bar = ScalarMappable(norm, difference_colours(solid=True))
    labels = [f"\N{MINUS SIGN}{most:.2g} below its mean", "0: the film shows through", f"above its mean +{most:.2g}"]
    bar_below(figure, (_MARGIN, foot + _BAR - 0.1, min(width - 2 * _MARGIN, 4.5)), bar, labels)
    size = fitting_size(note, 8, width - 2 * _MARGIN)
    figure.text(_MARGIN / width, (foot - 0.2) / height, note, fontsize=size, color=INK, va="bottom")
    words = "\n".join(lines)
    figure.text(_MARGIN / width, 0.08 / height, words, fontsize=7, color=QUIET, va="bottom", linespacing=1.25)
    return figure


def _deviation(values: Floats) -> Floats:
    """A map minus its mean; exactly zero of a constant one."""
    if is_even(values):
        return np.where(np.isfinite(values), 0.0, np.nan)
    return np.asarray(values - np.nanmean(values)) if np.isfinite(values).any() else values


def _words(one: MapOfEpoch, is_last: bool) -> str:
    if is_last:
        return "last"
    return "CC undefined" if np.isnan(one.with_last) else f"CC {one.with_last:.2f}".replace("-", "\N{MINUS SIGN}")
