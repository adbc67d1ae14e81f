"""A page of readings and of those that are related to them by gaze: arrays in, figure out."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from callbacks.panel_parts import DPI, INK, QUIET, TRUE, CamCase, gaze_colours, gaze_norm, show_fixations, show_map
from callbacks.text_fit import fitting_size, wrapped
from gaze_lightning.gaze.saliency import render_saliency
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.privacy import opaque_id
from gaze_lightning.protocols import TrainingGaze

_MARGIN, _GAP, _CELL = 0.15, 0.1, 1.45
_TITLE, _BELOW, _BETWEEN = 0.2, 0.19, 0.1
_HEAD, _SIDE, _AWAY = 0.42, 2.7, 0.45
# all lengths in inches
_GRID = 96
"""Cells of a map's longer side."""

Rows = npt.NDArray[np.int64]


def draw_relation_page(
    gaze: TrainingGaze,
    relations: RelationMatrix,
    anchors: int = 6,
    partners: int = 4,
    seed: int = 0,
    note: str = "",
    class_names: Sequence[str] = (),
) -> Figure:
    """Draw what counts as similar gaze: a few readings, each with its most similar ones and an unrelated one.

    A row is one anchor: its gaze on the frame (heat map, fixations as circles in the order of the scan path), its most
    similar related readings with their similarity, and at the end a reading drawn from those that are not related to
    it. Anchors are readings with at least one related reading, of as many classes as there are (of unknown class only
    where no other is there), and of each class from those with few related readings to those with many. At the side
    stand the distribution of the number of related readings and its summary. Readings are named by opaque ids.

    Args:
        gaze: of the readings of ``relations``, in any order.
        relations: of these readings.
        anchors: rows at most.
        partners: related readings per row at most.
        seed: of the choice of anchors and unrelated readings.
        note: printed at the foot: what data.
        class_names: ``K`` names; without them classes are not shown.

    Returns:
        A figure with the Agg canvas; no global state of pyplot is touched.

    Raises:
        ValueError: ``anchors`` or ``partners`` not positive, or readings of the relations that have no gaze here.
    """
    if anchors < 1 or partners < 1:
        raise ValueError(f"anchors is {anchors}, partners {partners}: both must be positive")
    place = {sample_id: i for i, sample_id in enumerate(gaze.sample_ids)}
    unknown = sum(sample_id not in place for sample_id in relations.ids)
    if unknown:
        raise ValueError(f"{unknown} of the {len(relations)} related readings are not among those with gaze")
    rng = np.random.default_rng(seed)
    readings = _Readings(gaze, [place[sample_id] for sample_id in relations.ids], class_names)
    rows = _choose(relations.degrees, readings.classes, anchors, rng)
    aspect = gaze.frame[1] / gaze.frame[0]
    row_height = _TITLE + _CELL / aspect + _BELOW + _BETWEEN
    body = max(len(rows) * row_height, 3.7)
    columns = partners + 2
    left_part = columns * (_CELL + _GAP) + _GAP
    width = 2 * _MARGIN + left_part + _AWAY + _SIDE
    foot_words = [words for words in (note, _legend(readings.named)) if words]
    foot_lines = wrapped(foot_words, "   ·   ", 8, width - 2 * _MARGIN)
    foot = 0.14 + 0.16 * len(foot_lines)
    height = _HEAD + body + foot
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _heading(figure, "anchor", _MARGIN)
    _heading(figure, "most similar of those related to it", _MARGIN + _CELL + 2 * _GAP)
    _heading(figure, "unrelated", _MARGIN + left_part - _CELL)
    for number, row in enumerate(rows):
        top = height - _HEAD - number * row_height - _TITLE
        _draw_row(figure, readings, relations, int(row), partners, top, rng)
    if not len(rows):
        figure.text(_MARGIN / width, 1 - (_HEAD + 0.3) / height, "No reading is related to another.", color=INK)
    _draw_degrees(figure, relations, width - _MARGIN - _SIDE)
    for number, line in enumerate(reversed(foot_lines)):
        size = fitting_size(line, 8, width - 2 * _MARGIN)
        figure.text(_MARGIN / width, (0.08 + 0.16 * number) / height, line, fontsize=size, color=QUIET, va="bottom")
    return figure


class _Readings:
    """The readings in the order of the relations' rows."""

    def __init__(self, gaze: TrainingGaze, order: list[int], class_names: Sequence[str]) -> None:
        self.ids = [gaze.sample_ids[i] for i in order]
        self.films = gaze.films[order]
        self.named = bool(class_names) and gaze.labels is not None
        self.names = list(class_names)
        self.labels = None if gaze.labels is None else gaze.labels[order]
        self._gaze, self._frame = [gaze.gaze[i] for i in order], gaze.frame

    @property
    def classes(self) -> Rows:
        """One number per reading that is equal for equal labels, -1 where nothing is known; all 0 without labels."""
        if self.labels is None or not len(self.ids):
            return np.zeros(len(self.ids), dtype=np.int64)
        columns = np.nan_to_num(self.labels.reshape(len(self.ids), -1).astype(np.float64), nan=-1)
        numbers = np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return np.where((columns < 0).all(axis=1), -1, numbers)

    def class_of(self, row: int) -> str:
        """Names of the classes that hold; empty where nothing is known or shown."""
        if self.labels is None or not self.named:
            return ""
        label = self.labels[row]
        if label.ndim == 0:
            return self.names[int(label)] if label >= 0 else ""
        positive = [name for name, value in zip(self.names, label, strict=True) if value == 1]
        return ", ".join(positive) or ("none" if (label == 0).any() else "")

    def share_class(self, a: int, b: int) -> bool:
        """Whether both have a class, or both are known to have none."""
        if self.labels is None or not self.named:
            return False
        one, other = self.labels[a], self.labels[b]
        if one.ndim == 0:
            return bool(one == other and one >= 0)
        return bool(((one == 1) & (other == 1)).any()) or self.class_of(a) == self.class_of(b) == "none"

    def case(self, row: int) -> CamCase:
        """The reading on a black frame of some 100 cells."""
        height, width = self._frame
        scale = _GRID / max(self._frame)
        cells = (max(1, round(height * scale)), max(1, round(width * scale)))
        points = self._gaze[row].affine(cells[1] / width, cells[0] / height, 0, 0)
        density = render_saliency(
            points.x,
            points.y,
            points.weights("duration"),
            points.sigma_x,
            points.sigma_y,
            cells,
            visible=points.visible,
        )
        circles = np.stack([points.x, points.y, points.duration], axis=1)
        return CamCase("", np.zeros(cells), np.zeros((0, *cells)), np.zeros(0), gaze=density, fixations=circles)


def _choose(degrees: Rows, classes: Rows, most: int, rng: np.random.Generator) -> Rows:
    """Rows with related readings: classes in turn, and within a class at even steps of the sorted degrees."""
    by_class = []
    there = np.unique(classes[degrees > 0])
    for one in there[there >= 0] if (there >= 0).any() else there:
        rows = np.flatnonzero((classes == one) & (degrees > 0))
        if len(rows):
            rows = rng.permutation(rows)
            by_class.append(rows[np.argsort(degrees[rows], kind="stable")])
    if len(by_class) > most:
        by_class = [by_class[i] for i in np.sort(rng.choice(len(by_class), most, replace=False))]
    counts = [0] * len(by_class)
    while sum(counts) < min(most, sum(map(len, by_class))):
        for index, rows in enumerate(by_class):
            if counts[index] < len(rows) and sum(counts) < most:
                counts[index] += 1
    chosen = [
        rows[((np.arange(count) + 0.5) * len(rows) / count).astype(np.int64)]
        for rows, count in zip(by_class, counts, strict=True)
    ]
    return np.concatenate(chosen).astype(np.int64) if chosen else np.zeros(0, dtype=np.int64)


def _draw_row(
    figure: Figure,
    readings: _Readings,
    relations: RelationMatrix,
    row: int,
    partners: int,
    top: float,
    rng: np.random.Generator,
) -> None:
    entries = slice(relations.indptr[row], relations.indptr[row + 1])
    related, scores = relations.indices[entries].astype(np.int64), relations.scores[entries]
    count = f"{len(related)} related"
    title = readings.class_of(row) or ("class unknown" if readings.named else count)
    _panel(figure, readings, row, _MARGIN, top, title, INK, count if readings.named else "")
    left = _MARGIN + _CELL + 2 * _GAP
    order = np.argsort(-scores, kind="stable")[:partners]
    for column, entry in enumerate(order):
        other = int(related[entry])
        words = [f"{scores[entry]:.2f}", readings.class_of(other)]
        colour = TRUE if readings.share_class(row, other) else INK
        title = "  ".join(word for word in words if word)
        same = "same film" if readings.films[other] == readings.films[row] else ""
        _panel(figure, readings, other, left + column * (_CELL + _GAP), top, title, colour, same)
    far = relations.valid.copy()
    far[related] = False
    far &= readings.films != readings.films[row]
    candidates = np.flatnonzero(far)
    if len(candidates):
        other = int(rng.choice(candidates))
        colour = TRUE if readings.share_class(row, other) else INK
        at = left + partners * (_CELL + _GAP) + _GAP
        _panel(figure, readings, other, at, top, readings.class_of(other) or "unrelated", colour, "")


def _panel(
    figure: Figure, readings: _Readings, row: int, left: float, top: float, title: str, colour: str, beside: str
) -> None:
    """One reading: what it is above, the opaque id and a remark below."""
    width, height = (float(side) for side in figure.get_size_inches())
    case = readings.case(row)
    panel = _CELL * case.film.shape[0] / case.film.shape[1]
    axes = figure.add_axes((left / width, (top - panel) / height, _CELL / width, panel / height))
    assert case.gaze is not None
    show_map(axes, case, case.gaze, gaze_norm(case.gaze), gaze_colours(solid=True))
    _scan_path(axes, case)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = fitting_size(title, 8.5, _CELL, "bold")
    figure.text(
        left / width, (top + 0.05) / height, title, fontsize=size, color=colour, weight="bold", va="bottom", ha="left"
    )
    low = (top - panel - 0.03) / height
    figure.text(left / width, low, opaque_id(readings.ids[row]), fontsize=6.5, color=QUIET, va="top")
    figure.text((left + _CELL) / width, low, beside, fontsize=6.5, color=QUIET, va="top", ha="right")


def _scan_path(axes: Axes, case: CamCase) -> None:
    if case.fixations is None or not len(case.fixations):
        return
    x, y = case.fixations[:, 0], case.fixations[:, 1]
    axes.plot(x, y, color="white", linewidth=0.5, alpha=0.45)
    show_fixations(axes, case)


def _draw_degrees(figure: Figure, relations: RelationMatrix, left: float) -> None:
    """Histogram of the number of related readings, and its summary below."""
    width, height = (float(side) for side in figure.get_size_inches())
    degrees = relations.degrees[relations.valid]
    tall = 1.6
    axes = figure.add_axes((left / width, 1 - (_HEAD + tall) / height, _SIDE / width, tall / height))
    _heading(figure, "extra positives per reading", left)
    highest = int(degrees.max(initial=1))
    step = max(1, -(-(highest + 1) // 24))
    axes.hist(
        degrees,
        bins=[edge - 0.5 for edge in range(0, highest + step + 1, step)],
        color="#3b6ea5",
        edgecolor="white",
        lw=0.4,
    )
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=7, length=2, colors=QUIET)
    axes.set_xlabel("related readings", fontsize=7.5, color=QUIET, labelpad=2)
    axes.set_ylabel("readings", fontsize=7.5, color=QUIET, labelpad=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for number, (words, value) in enumerate(_summary(relations, degrees)):
        y = 1 - (_HEAD + tall + 0.5 + 0.19 * number) / height
        figure.text(left / width, y, words, fontsize=8, color=INK, va="bottom")
        figure.text((left + _SIDE) / width, y, value, fontsize=8, color=INK, va="bottom", ha="right")


def _summary(relations: RelationMatrix, degrees: Rows) -> list[tuple[str, str]]:
    n = len(degrees)
    lines = [
        ("readings", f"{len(relations):,}"),
        ("with enough gaze to compare", f"{n:,}"),
        ("related pairs", f"{len(relations.indices) // 2:,}"),
    ]
    if n > 1:
        lines += [
            ("share of all pairs", f"{100 * len(relations.indices) / (n * (n - 1)):.2g} %"),
            ("related readings: mean", f"{degrees.mean():.1f}"),
            ("median", f"{np.median(degrees):g}"),
            ("90 % have at most", f"{np.quantile(degrees, 0.9, method='higher'):g}"),
            ("most", f"{degrees.max()}"),
            ("readings without any", f"{100 * (degrees == 0).mean():.0f} %"),
        ]
    return [*lines, ("similarity above", f"{relations.threshold:.3g}")]


def _heading(figure: Figure, words: str, left: float) -> None:
    width, height = (float(side) for side in figure.get_size_inches())
    figure.text(left / width, 1 - 0.27 / height, words, fontsize=9.5, color=INK, weight="bold", va="bottom")


def _legend(named: bool) -> str:
    words = (
        "Heat map: seconds, from 0 to its own highest value. Circles: fixations, area by duration. Number: similarity."
    )
    return f"{words} Green: a class in common with the anchor." if named else words
