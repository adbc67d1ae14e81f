"""The picture of a global map: over the mean film, raw, and beside the mean gaze. Arrays in, figures out."""

import textwrap
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgb
from matplotlib.figure import Figure

from callbacks.panel_parts import (
    DPI,
    INK,
    PANEL_HEIGHT,
    QUIET,
    CamCase,
    Floats,
    aspect_of,
    bar_below,
    gaze_colours,
    gaze_norm,
    see_through,
    short,
    show_film,
    show_map,
)
from callbacks.saliency_panels import difference_colours
from callbacks.text_fit import fitting_size, wrapped

NOT_COMPARED = "#ffffff"
"""Colour of pixels that are left out, in every picture of global maps: neither a film nor a map shows it."""

_MARGIN, _GAP, _TITLES, _BAR, _LINE = 0.15, 0.1, 0.3, 0.48, 0.19
_NARROWEST = 1.9
_HEADLINE, _DOT = 10.5, "   ·   "
# all lengths in inches

Where = npt.NDArray[np.bool_]


def film_case(film: Floats | None, size: tuple[int, int]) -> CamCase:
    """The mean film as the ground of panels; a grey canvas of size (H, W) where it is not known."""
    ground = np.full(size, 0.5) if film is None else film
    return CamCase("", ground, cams=np.zeros((0, 1, 1)), probability=np.zeros(0))


def inside(values: Floats, where: Where) -> Floats:
    """The map ``[H, W]`` with NaN, which is drawn as not compared, outside ``where`` and for infinity."""
    return np.where(where & np.isfinite(values), np.asarray(values, np.float64), np.nan)


def range_norm(values: Floats) -> Normalize:
    """Scale from the lowest to the highest value that is drawn; of a constant map its value is the lower end."""
    drawn = values[np.isfinite(values)]
    low, high = (float(drawn.min()), float(drawn.max())) if drawn.size else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def is_even(values: Floats) -> bool:
    """Whether all values that are drawn are the same; false if there are none."""
    drawn = values[np.isfinite(values)]
    return bool(drawn.size) and float(drawn.min()) == float(drawn.max())


def show_compared(axes: Axes, case: CamCase, values: Floats, norm: Normalize, colours: Colormap) -> None:
    """Lay a map ``[h, w]`` over the film, and the colour of what is not compared where it is NaN."""
    left_out = ~np.isfinite(values)
    if left_out.any():
        height, width = case.film.shape
        colour = np.array([*to_rgb(NOT_COMPARED), 1.0])
        extent = (0, width, height, 0)
        axes.imshow(left_out[..., None] * colour, extent=extent, interpolation="nearest")
    show_map(axes, case, values, norm, colours)


def say(axes: Axes, case: CamCase, words: str) -> None:
    """Write into the middle of a panel, readable on bright and dark."""
    x0, y0, x1, y1 = case.box
    text = axes.text((x0 + x1) / 2, (y0 + y1) / 2, words, color="white", ha="center", va="center", fontsize=10)
    text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="black", alpha=0.6)])


def map_colours(*, solid: bool = False) -> Colormap:
    """The colours of CAMs; the lowest third of the range lets the film through."""
    return see_through("inferno", 0.15, solid=solid, opaque_from=1 / 3)


def draw_global_map(
    values: Floats,
    where: Where,
    *,
    film: Floats | None,
    n_films: int | None,
    gaze: Floats | None,
    title: str,
    note: str,
) -> Figure:
    """Draw the mean training film, the map over it, the raw map, the mean training gaze and the difference.

    Over the film the map is stretched for the eye, from its lowest to its highest value; the raw map stands beside it
    on a scale from 0 to 1, or to its maximum where that is higher. Gaze and difference are densities in multiples of an
    even map. Maps over the film are drawn where they are compared only. Over a constant map stands "even".

    Args:
        values: the map ``[H, W]``, not negative.
        where: bool ``[H, W]``: the pixels that are compared.
        film: mean training film ``[H, W]`` in [0, 1]; None: not known.
        n_films: how many films were averaged; None: not known.
        gaze: mean training gaze ``[H, W]``, not negative; None: there is none, and two panels less.
        title: the numbers, printed above the panels; broken at its middle dots and made smaller where it is too long.
        note: printed at the foot: what data.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.
    """
    scale = (
        "Stretched: colours from the map's lowest to its highest value; in the lowest third the film shows through."
        " Raw: the same map on the full scale, on the whole canvas."
    )
    if gaze is not None:
        scale += (
            " Gaze: multiples of an even density, square-root scale; the film shows through low values."
            " Map minus gaze: both as densities, in the same unit, linear scale."
        )
    if not where.all():
        scale += " White: less than half of the training films are there; not compared."
    case = film_case(film, (values.shape[0], values.shape[1]))
    page = _Page(case, 3 if gaze is None else 5, title, note, scale)
    show_film(page.axes(0), case, "film not known" if n_films is None else f"mean of {n_films} films", room=page.cell)
    drawn = inside(values, where)
    norm = range_norm(drawn)
    even = is_even(drawn)
    low, high = (f"{norm.inverse(end):.3g}" for end in (0.0, 1.0))
    labels = [f"{low} everywhere", ""] if even else [low, high]
    axes = page.over_film(1, "map, stretched", drawn, norm, map_colours, labels)
    if even:
        say(axes, case, "even")
    most = max(1.0, float(np.max(values, where=np.isfinite(values), initial=0.0)))
    full, solid = Normalize(0.0, most), map_colours(solid=True)
    axes = page.axes(2)
    show_film(axes, case, "map, raw", room=page.cell)
    show_map(axes, case, values, full, solid)
    page.bar(2, ScalarMappable(full, solid), ["0", short(most)])
    if gaze is not None:
        page.gaze(_times_even(gaze, where), _times_even(values, where))
    return page.figure


class _Page:
    """One row of panels; lengths in inches."""

    def __init__(self, case: CamCase, columns: int, title: str, note: str, scale: str) -> None:
        self.case = case
        self.panel = min(PANEL_HEIGHT, 2.7 / aspect_of(case))
        self.cell = max(self.panel * aspect_of(case), _NARROWEST)
        self.width = columns * self.cell + (columns - 1) * _GAP + 2 * _MARGIN
        lines = textwrap.wrap(scale, int((self.width - 2 * _MARGIN) / 0.052))
        room = self.width - 2 * _MARGIN
        headline = wrapped(title.split(_DOT), _DOT, _HEADLINE, room, "bold")
        foot = 0.3 + 0.13 * len(lines)
        self.bottom = foot + _BAR
        self.height = self.bottom + self.panel + _TITLES + 0.13 + _LINE * len(headline)
        self.figure = Figure(figsize=(self.width, self.height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)
        self._write(self.bottom + self.panel + _TITLES, "\n".join(headline), INK, _HEADLINE, weight="bold")
        self._write(foot - 0.2, note, INK, 8)
        self._write(0.07, "\n".join(lines), QUIET, 7)

    def axes(self, column: int) -> Axes:
        place = (self._left(column) / self.width, self.bottom / self.height)
        return self.figure.add_axes((*place, self.cell / self.width, self.panel / self.height))

    def over_film(
        self,
        column: int,
        title: str,
        values: Floats,
        norm: Normalize,
        colours: Callable[..., Colormap],
        labels: list[str],
    ) -> Axes:
        axes = self.axes(column)
        show_film(axes, self.case, title, dim=True, room=self.cell)
        show_compared(axes, self.case, values, norm, colours())
        self.bar(column, ScalarMappable(norm, colours(solid=True)), labels)
        return axes

    def gaze(self, looked: Floats, weighed: Floats) -> None:
        high = np.nanmax(looked, keepdims=True, initial=0.0)
        labels = ["0", short(float(high.max()) / 4), f"{short(float(high.max()))}x even"]
        self.over_film(3, "mean training gaze", looked, gaze_norm(high), gaze_colours, labels)
        difference = weighed - looked
        most = float(np.nanmax(np.abs(difference), initial=0.0)) or 1.0
        labels = [f"\N{MINUS SIGN}{short(most)}\ngaze more", "0\nfilm shows", f"+{short(most)}\nmap more"]
        self.over_film(4, "map minus gaze", difference, Normalize(-most, most), difference_colours, labels)

    def bar(self, column: int, colours: ScalarMappable, labels: list[str]) -> None:
        bar_below(self.figure, (self._left(column), self.bottom, self.cell), colours, labels)

    def _left(self, column: int) -> float:
        return _MARGIN + column * (self.cell + _GAP)

    def _write(self, bottom: float, words: str, colour: str, size: float, weight: str = "normal") -> None:
        size = fitting_size(words, size, self.width - 2 * _MARGIN, weight)
        place = (_MARGIN / self.width, bottom / self.height)
        self.figure.text(*place, words, fontsize=size, color=colour, weight=weight, va="bottom", linespacing=1.25)


def _times_even(values: Floats, where: Where) -> Floats:
    """A map as a density over the pixels of ``where``, in multiples of an even one."""
    drawn = inside(values, where)
    mean = float(np.nanmean(drawn)) if np.isfinite(drawn).any() else 0.0
    return np.asarray(drawn / (mean or 1.0))
