"""The maps of repeated trainings on one page: arrays in, figure out."""

import math
import textwrap
from collections.abc import Mapping
from statistics import fmean

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from callbacks.cam_cases import numpy_of
from callbacks.global_map_panels import film_case, inside, is_even, map_colours, range_norm, say, show_compared
from callbacks.panel_parts import DPI, INK, QUIET, show_film
from callbacks.text_fit import fitting_size
from gaze_lightning.evaluation.map_stability import MapStability

_MARGIN, _GAP, _CELL = 0.15, 0.12, 1.75
_NAME, _TITLES, _BELOW = 0.3, 0.24, 0.3
# all lengths in inches


def draw_stability_page(arms: Mapping[str, MapStability], *, note: str) -> Figure:
    """Draw a row of maps for each arm, one column per run.

    Args:
        arms: name of the arm -> its maps; at least one.
        note: printed at the foot: what data.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.
    """
    panels = {name: min(2.4, _CELL * arm.compared.shape[0] / arm.compared.shape[1]) for name, arm in arms.items()}
    columns = max(len(arm.runs) for arm in arms.values())
    width = max(columns * (_CELL + _GAP) - _GAP, 3.6) + 2 * _MARGIN
    lines = textwrap.wrap(_scale_of(arms), int((width - 2 * _MARGIN) / 0.052))
    foot = 0.3 + 0.13 * len(lines)
    height = 0.1 + sum(_NAME + _TITLES + panel + _BELOW for panel in panels.values()) + foot
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = height - 0.1
    for name, arm in arms.items():
        _draw_arm(figure, name, arm, top, panels[name])
        top -= _NAME + _TITLES + panels[name] + _BELOW
    size = fitting_size(note, 8, width - 2 * _MARGIN)
    figure.text(_MARGIN / width, (foot - 0.17) / height, note, fontsize=size, color=INK, va="bottom")
    words = "\n".join(lines)
    figure.text(_MARGIN / width, 0.07 / height, words, fontsize=7, color=QUIET, va="bottom", linespacing=1.25)
    return figure


def _draw_arm(figure: Figure, name: str, arm: MapStability, top: float, panel: float) -> None:
    width, height = (float(side) for side in figure.get_size_inches())
    defined = [value for value in arm.pairs if not math.isnan(value)]
    title = name if not defined else f"{name}   ·   mean correlation of run pairs {_signed(fmean(defined))}"
    size = fitting_size(title, 10.5, width - 2 * _MARGIN, "bold")
    figure.text(_MARGIN / width, (top - 0.22) / height, title, fontsize=size, color=INK, weight="bold", va="bottom")
    bottom = top - _NAME - _TITLES - panel
    where = arm.compared.numpy()
    case = film_case(np.ones(where.shape), (where.shape[0], where.shape[1]))
    for column, (run, with_others) in enumerate(zip(arm.runs, arm.with_others, strict=True)):
        left = _MARGIN + column * (_CELL + _GAP)
        axes = figure.add_axes((left / width, bottom / height, _CELL / width, panel / height))
        cc = "" if math.isnan(with_others) else f"   CC {_signed(with_others)}"
        show_film(axes, case, f"run {column + 1}{cc}", room=_CELL)
        values = inside(numpy_of(run.values), where)
        show_compared(axes, case, values, range_norm(values), map_colours(solid=True))
        if is_even(values):
            say(axes, case, "even")
        span = f"{np.nanmin(values):.3g} to {np.nanmax(values):.3g}" if np.isfinite(values).any() else "not finite"
        place = ((left + _CELL / 2) / width, (bottom - 0.17) / height)
        figure.text(*place, span, fontsize=7.5, color=QUIET, ha="center", va="bottom")


def _scale_of(arms: Mapping[str, MapStability]) -> str:
    """What the foot says."""
    words = "Each map stretched from its lowest to its highest value, which stand below it."
    if any(not math.isnan(value) for arm in arms.values() for value in arm.with_others):
        words += " CC: correlation with the mean map of the arm's other runs."
    if not all(arm.compared.all() for arm in arms.values()):
        words += " White: less than half of the training films are there in some run; not compared."
    return words


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
