"""The named boxes of EGD-CXR, from the anatomy of a film."""

import numpy as np

from data_modules.phantom.film import BoolMask, Film

Box = tuple[int, int, int, int]
"""xmin, ymin, xmax, ymax in film pixels."""


def box_of(mask: BoolMask) -> Box:
    """Smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def named_boxes(film: Film) -> dict[str, Box]:
    """The 17 anatomical boxes that EGD-CXR gives for every film."""
    height, width = film.image.shape
    middle = box_of(film.anatomy["mediastanum"])
    boxes: dict[str, Box] = {}
    for side in ("right", "left"):
        lung = box_of(film.anatomy[f"{side}_lung"])
        boxes[f"{side} lung"] = lung
        for zone, low, high in (("upper", 0.0, 0.35), ("mid", 0.35, 0.65), ("lower", 0.65, 1.0)):
            boxes[f"{side} {zone} lung zone"] = _part(lung, 0.0, low, 1.0, high)
        outer = (0.0, 0.3) if side == "right" else (0.7, 1.0)
        inner = (0.6, 1.0) if side == "right" else (0.0, 0.4)
        boxes[f"{side} costophrenic angle"] = _part(lung, outer[0], 0.82, outer[1], 1.0)
        boxes[f"{side} hilar structures"] = _part(lung, inner[0], 0.38, inner[1], 0.68)
        boxes[f"{side} clavicle"] = _part(lung, 0.0, 0.02, 1.0, 0.22)
    boxes["cardiac silhouette"] = _part(middle, 0.0, 0.45, 1.0, 1.0)
    boxes["upper mediastinum"] = _part(middle, 0.15, 0.0, 0.85, 0.45)
    boxes["trachea"] = _part(middle, 0.38, 0.0, 0.58, 0.4)
    return {
        name: (max(x1, 0), max(y1, 0), min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height))
        for name, (x1, y1, x2, y2) in boxes.items()
    }


def _part(box: Box, left: float, top: float, right: float, bottom: float) -> Box:
    """The part of a box between fractions of its sides."""
    x1, y1, x2, y2 = box
    wide, high = x2 - x1, y2 - y1
    return round(x1 + left * wide), round(y1 + top * high), round(x1 + right * wide), round(y1 + bottom * high)
