"""What a REFLACX reader marks: ellipses with certainties, and the labels of the whole film."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_modules.phantom.boxes import Box, box_of
from data_modules.phantom.film import BoolMask, Film
from data_modules.phantom.labels import PHASE_1, PHASES_2_3, SUPPORT_DEVICES, certainty, phase_label
from data_modules.phantom.tables import Cell

_FALSE_ALARM = 0.05
_SMALL_PART = 0.1


@dataclass(frozen=True)
class Drawn:
    """One ellipse: its box (xmin, ymin, xmax, ymax, film pixels), its label in the phase's set, certainty 1..5."""

    box: Box
    label: str
    certainty: int


def draw_ellipses(film: Film, phase: int, missed: bool, rng: np.random.Generator) -> list[Drawn]:
    """Ellipses of one reader.

    Args:
        film: what is read.
        phase: 1, 2 or 3; its label set is used, findings without a label in it are left out.
        missed: the reader overlooked the signs of the diagnosis.
        rng: reader noise on certainty and outline, and now and then a false alarm.

    Returns:
        One ellipse per separate part of each finding that the reader names.
    """
    drawn: list[Drawn] = []
    for finding in film.findings:
        label = phase_label(finding.label, phase)
        if label is None or (finding.of_class and missed):
            continue
        sure = certainty(finding.severity, rng)
        if sure:
            drawn += [Drawn(_sloppy(box, film, rng), label, sure) for box in _parts(finding.mask)]
    if rng.random() < _FALSE_ALARM:
        label = str(rng.choice(["Atelectasis", "Consolidation", "Groundglass opacity"]))
        x1, y1, x2, y2 = box_of(film.anatomy[str(rng.choice(["left_lung", "right_lung"]))])
        x, y = x1 + rng.uniform(0.2, 0.6) * (x2 - x1), y1 + rng.uniform(0.2, 0.6) * (y2 - y1)
        box = (round(x), round(y), round(x + 0.35 * (x2 - x1)), round(y + 0.2 * (y2 - y1)))
        drawn.append(Drawn(_sloppy(box, film, rng), label, int(rng.integers(1, 3))))
    return drawn


def named_labels(film: Film, drawn: Sequence[Drawn], phase: int, rng: np.random.Generator) -> dict[str, Cell]:
    """Label columns of the metadata: certainties (maximum over the ellipses), flags, and the text ``Other``."""
    labels: dict[str, Cell] = dict.fromkeys(PHASE_1 if phase == 1 else PHASES_2_3, 0)
    for label in labels:
        labels[label] = max((one.certainty for one in drawn if one.label == label), default=0)
    labels[SUPPORT_DEVICES] = any(finding.label == SUPPORT_DEVICES for finding in film.findings)
    if phase == 1:
        labels["Quality issue"] = bool(rng.random() < 0.03)
    other = sorted(
        {
            finding.label.lower()
            for finding in film.findings
            if finding.label != SUPPORT_DEVICES and phase_label(finding.label, phase) is None
        }
    )
    if rng.random() < 0.06:
        other.append(str(rng.choice(["scoliosis", "calcified granuloma", "degenerative changes"])))
    labels["Other"] = "|".join(other) or None
    return labels


def _parts(mask: BoolMask) -> list[Box]:
    """Boxes of the separate parts of a mask, without crumbs."""
    left, top, right, bottom = box_of(mask)
    crop = mask[top:bottom, left:right].astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
    least = _SMALL_PART * stats[1:, cv2.CC_STAT_AREA].max()
    return [
        (left + x, top + y, left + x + wide, top + y + high)
        for x, y, wide, high, area in stats[1:].tolist()
        if area >= least
    ]


def _sloppy(box: Box, film: Film, rng: np.random.Generator) -> Box:
    """The box of the ellipse that a hurried hand draws around a box: a little larger, each side off by some."""
    height, width = film.image.shape
    x1, y1, x2, y2 = box
    wide, high = max(x2 - x1, 2), max(y2 - y1, 2)
    grow = rng.normal(0.06, 0.08, 4)
    left, right = round(max(x1 - grow[0] * wide, 0)), round(min(x2 + grow[2] * wide, width))
    top, bottom = round(max(y1 - grow[1] * high, 0)), round(min(y2 + grow[3] * high, height))
    return min(left, width - 2), min(top, height - 2), max(right, left + 2), max(bottom, top + 2)
