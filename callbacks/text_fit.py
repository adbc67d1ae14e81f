"""Text that stays inside the page: its width, the size and the lines in which it fits."""

from collections.abc import Sequence

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

_SPARE = 1.04
"""Agg rounds the width of each glyph to whole pixels."""


def width_of(words: str, size: float, weight: str = "normal") -> float:
    """Width in inches of one line in matplotlib's default font, ``size`` in points."""
    if not words.strip():
        return 0.0
    outline = TextPath((0.0, 0.0), words, size=size, prop=FontProperties(weight=weight))
    return _SPARE * float(outline.get_extents().width) / 72


def fitting_size(words: str, size: float, room: float, weight: str = "normal") -> float:
    """The largest font size, at most ``size`` points, at which every line fits into ``room`` inches."""
    widest = max(width_of(line, size, weight) for line in words.split("\n"))
    return size if widest <= room else size * room / widest


def wrapped(parts: Sequence[str], separator: str, size: float, room: float, weight: str = "normal") -> list[str]:
    """Join ``parts`` by ``separator``, and begin a new line before a part that does not fit into ``room`` inches."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}{separator}{part}"
        if width_of(longer, size, weight) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
