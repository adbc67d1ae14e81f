"""Pages of films, gaze and predicted gaze: arrays in, figures out."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from callbacks.cam_panels import cam_colours, cam_norm, show_cam
from callbacks.panel_parts import (
    DPI,
    INK,
    PANEL_HEIGHT,
    QUIET,
    TRUE,
    CamCase,
    Floats,
    aspect_of,
    bar_below,
    even_labels,
    gaze_colours,
    gaze_norm,
    outline,
    say_no_gaze,
    short,
    show_film,
    show_fixations,
    show_map,
    times_even,
    write_legend,
    write_row_title,
)
from gaze_lightning.metrics import correlation_coefficient, resample_density

_MARGIN, _GAP = 0.15, 0.1
_WIDEST, _NARROWEST = 2.7, 1.85  # cells of a row
_HEAD, _TITLES, _BAR = 0.1, 0.52, 0.4
_BLUE, _ORANGE, _MIDDLE = "#1f7cff", "#ff8f1f", "#d9d9d9"
# all lengths in inches

_FEW = 200
"""More points than this, raw samples of an eye tracker, would cover the maps."""


@dataclass(frozen=True)
class GazeComparison:
    """Gaze and predicted gaze of one case.

    Attributes:
        predicted: density that sums to 1, on the grid of the gaze map; without gaze on its own.
        gaze: density that sums to 1, or None without gaze.
        difference: predicted minus gaze, sums to zero, or None without gaze.
        cc: Pearson correlation of the two in [-1, 1]; NaN without gaze and where one of them is constant.
    """

    predicted: Floats
    gaze: Floats | None
    difference: Floats | None
    cc: float

    @property
    def highest(self) -> Floats:
        """The one of the two densities with the higher maximum, which is the end of their common scale."""
        if self.gaze is None or self.gaze.max() <= self.predicted.max():
            return self.predicted
        return self.gaze


def compare(case: CamCase) -> GazeComparison:
    """Bring the predicted gaze to the grid of the gaze map, its mass kept, and compare them.

    NaN and infinity, of a network that has diverged, count as zero: an observer does not end a training.

    Args:
        case: a case with ``saliency``.

    Raises:
        ValueError: the case has no predicted gaze.
    """
    if case.saliency is None:
        raise ValueError(f"{case.name} has no predicted gaze: the outputs of its task have no saliency")
    finite = np.nan_to_num(np.asarray(case.saliency, np.float64), posinf=0.0)
    if case.gaze is None or not case.gaze.any():
        return GazeComparison(finite, None, None, float("nan"))
    gaze = np.asarray(case.gaze, np.float64)
    on_grid = resample_density(torch.from_numpy(finite)[None], (gaze.shape[0], gaze.shape[1]))
    cc = correlation_coefficient(on_grid, torch.from_numpy(gaze)[None])
    predicted = np.asarray(on_grid[0].numpy())
    return GazeComparison(predicted, gaze, predicted - gaze, float(cc))


def explained_class(case: CamCase) -> int:
    """The class whose CAM is drawn: the true one (the most probable of several), else the most probable of all."""
    candidates = case.true_classes if case.has_label and case.true_classes else range(len(case.probability))
    return max(candidates, key=lambda k: float(case.probability[k]))


def draw_saliency_page(cases: Sequence[CamCase], class_names: Sequence[str], *, note: str) -> Figure:
    """Draw cases as rows: film, gaze, predicted gaze, difference, and the CAM of one class where there are CAMs.

    Gaze and predicted gaze are densities on the grid of the gaze map and share one scale. The difference is predicted
    minus gaze on a symmetric scale: orange where the model expects too much gaze, blue where too little, nothing at
    zero. Circles on both are the fixations; raw samples, hundreds of them, are left out. The CAM is that of
    ``explained_class``, drawn as on the pages of CAMs. Cases without gaze show the prediction alone.

    Args:
        cases: one to about four cases with ``saliency``.
        class_names: ``K`` names; may be empty.
        note: printed at the foot: what data, which epoch.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.

    Raises:
        ValueError: a case has no predicted gaze.
    """
    cases = [_without_raw_samples(case) for case in cases]
    comparisons = [compare(case) for case in cases]
    with_cams = bool(class_names) and any(len(case.cams) for case in cases)
    columns = 5 if with_cams else 4
    widest = max(aspect_of(case) for case in cases)
    panel = min(PANEL_HEIGHT, _WIDEST / widest)
    cell = max(panel * widest, _NARROWEST)
    width = columns * cell + (columns - 1) * _GAP + 2 * _MARGIN
    scale = textwrap.wrap(_scale_of(cases[0], comparisons, with_cams), int((width - 2 * _MARGIN) / 0.052))
    foot = 0.5 + 0.13 * len(scale)
    row = _TITLES + panel + _BAR
    height = _HEAD + len(cases) * row + foot
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for index, (case, comparison) in enumerate(zip(cases, comparisons, strict=True)):
        bottom = height - _HEAD - index * row - _TITLES - panel
        _Row(figure, case, comparison, bottom, panel, cell).draw(class_names, with_cams)
        write_row_title(figure, case, class_names, _MARGIN / width, (bottom + panel + 0.28) / height)
    dashed = with_cams and any(map(_has_other_lesion, cases))
    write_legend(figure, cases, 0.1 / width, (foot - 0.22) / height, cams=with_cams, dashed=dashed)
    size = 8 * min(1.0, width / (0.068 * len(note))) if note else 8
    figure.text(_MARGIN / width, (foot - 0.4) / height, note, fontsize=size, color=INK, va="bottom")
    lines = "\n".join(scale)
    figure.text(_MARGIN / width, 0.07 / height, lines, fontsize=7, color=QUIET, va="bottom", linespacing=1.25)
    return figure


class _Row:
    """One row of a page; lengths in inches."""

    def __init__(
        self, figure: Figure, case: CamCase, comparison: GazeComparison, bottom: float, panel: float, cell: float
    ) -> None:
        self.figure, self.case, self.comparison = figure, case, comparison
        self.bottom, self.panel, self.cell = bottom, panel, cell

    def draw(self, class_names: Sequence[str], with_cams: bool) -> None:
        case = self.case
        film = self._axes(0)
        show_film(film, case, "film", room=self.cell)
        if case.lesions is not None:
            outline(film, case, range(len(case.lesions)))
        self._draw_gaze()
        if self.comparison.difference is not None:
            self._draw_difference(self.comparison.difference)
        if with_cams and len(case.cams):
            self._draw_cam(class_names)

    def _draw_gaze(self) -> None:
        case, comparison = self.case, self.comparison
        norm = gaze_norm(comparison.highest)
        gaze, predicted = self._axes(1), self._axes(2)
        show_film(gaze, case, "gaze", dim=comparison.gaze is not None, room=self.cell)
        if comparison.gaze is None:
            say_no_gaze(gaze, case)
            title = "predicted gaze"
        else:
            show_map(gaze, case, comparison.gaze, norm, gaze_colours())
            show_fixations(gaze, case)
            title = f"predicted gaze   {_cc_words(comparison.cc)}"
        show_film(predicted, case, title, dim=True, room=self.cell)
        show_map(predicted, case, comparison.predicted, norm, gaze_colours())
        show_fixations(predicted, case)
        first = 2 if comparison.gaze is None else 1
        bar = ScalarMappable(norm, gaze_colours(solid=True))
        length = (2 - first) * (self.cell + _GAP) + self._bar_length()
        self._bar(first, length, bar, even_labels(case, comparison.highest))

    def _draw_difference(self, difference: Floats) -> None:
        axes = self._axes(3)
        show_film(axes, self.case, "difference", dim=True, room=self.cell)
        most = float(np.abs(difference).max()) or 1.0
        norm = Normalize(-most, most)
        show_map(axes, self.case, difference, norm, difference_colours())
        words = short(times_even(self.case, np.abs(difference)))
        bar = ScalarMappable(norm, difference_colours(solid=True))
        self._bar(3, self._bar_length(), bar, [f"\N{MINUS SIGN}{words} too little", "0", f"too much +{words}"])

    def _draw_cam(self, class_names: Sequence[str]) -> None:
        case = self.case
        index = explained_class(case)
        true = case.has_label and index in case.true_classes
        axes = self._axes(4)
        title = f"CAM {class_names[index]}  {case.probability[index]:.2f}{'  true' if true else ''}"
        show_film(axes, case, title, colour=TRUE if true else INK, dim=True, room=self.cell)
        norm = cam_norm(case, [index])
        show_cam(axes, case, index, norm)
        outline(axes, case, [k for k in range(len(class_names)) if k != index], dashed=True)
        outline(axes, case, [index])
        bar = ScalarMappable(norm, cam_colours(solid=True))
        self._bar(4, self._bar_length(), bar, ["mean", f"{norm.vmax:+.3g}"])

    def _axes(self, column: int) -> Axes:
        width, height = (float(side) for side in self.figure.get_size_inches())
        left = _MARGIN + column * (self.cell + _GAP)
        return self.figure.add_axes((left / width, self.bottom / height, self.cell / width, self.panel / height))

    def _bar_length(self) -> float:
        return max(self.panel * aspect_of(self.case), _NARROWEST)

    def _bar(self, column: int, length: float, colours: ScalarMappable, labels: Sequence[str]) -> None:
        left = _MARGIN + column * (self.cell + _GAP) + (self.cell - self._bar_length()) / 2
        bar_below(self.figure, (left, self.bottom, length), colours, labels)


def difference_colours(*, solid: bool = False) -> Colormap:
    """Blue below, orange above, a pair that all kinds of colour vision tell apart; zero is transparent or light."""
    steps = np.linspace(-1, 1, 257)
    if solid:
        return LinearSegmentedColormap.from_list("difference", [_BLUE, _MIDDLE, _ORANGE], N=257)
    opacity = 0.85 * np.clip((np.abs(steps) - 0.04) / 0.66, 0, 1)
    sides = [_BLUE if step < 0 else _ORANGE for step in steps]
    colours = [(*to_rgb(side), float(alpha)) for side, alpha in zip(sides, opacity, strict=True)]
    return LinearSegmentedColormap.from_list("difference_film", colours, N=257)


def _without_raw_samples(case: CamCase) -> CamCase:
    return case if case.fixations is None or len(case.fixations) <= _FEW else replace(case, fixations=None)


def _has_other_lesion(case: CamCase) -> bool:
    own = explained_class(case)
    return case.lesions is not None and any(bool(mask.any()) for k, mask in enumerate(case.lesions) if k != own)


def _cc_words(cc: float) -> str:
    return "CC undefined" if np.isnan(cc) else f"CC {cc:.2f}".replace("-", "\N{MINUS SIGN}")


def _scale_of(case: CamCase, comparisons: Sequence[GazeComparison], with_cams: bool) -> str:
    """What the foot says about scales and grids."""
    assert case.saliency is not None
    own = case.saliency.shape
    words = "Gaze densities as multiples of gaze spread evenly over the film, square-root scale"
    grid = next((comparison.gaze.shape for comparison in comparisons if comparison.gaze is not None), None)
    if grid is not None:
        words += ", one for gaze and prediction"
        if grid != own:
            words += (
                f"; prediction brought from {own[0]} x {own[1]} to the gaze's grid {grid[0]} x {grid[1]}, mass kept"
            )
        words += ". Difference: predicted minus gaze, same unit, linear scale. CC: their correlation"
    if with_cams:
        h, w = case.cams.shape[-2:]
        words += f". CAM grid {h} x {w}, bilinear, coloured where above its own mean"
    return words + "."
