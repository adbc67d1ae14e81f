"""Work of unknown length says how long it takes."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pytorch_lightning.utilities import rank_zero_info

T = TypeVar("T")

LONG = 5.0
"""Seconds of work that deserve a line."""

_MEASURED = 0.5  # seconds of work after which the rest is estimated


def announced(items: Iterable[T], n: int, what: str) -> Iterator[T]:
    """Yield the items; say one line, once, as soon as all of them look like taking more than `LONG`.

    The time is what passes between the items, extrapolated from the first ones.

    Args:
        items: one per step of the work.
        n: their number.
        what: what is made, as the beginning of a sentence.
    """
    start, said = time.perf_counter(), False
    for done, item in enumerate(items):
        passed = time.perf_counter() - start
        if not said and done and passed > _MEASURED and passed / done * n > LONG:
            rank_zero_info(f"{what} takes about {passed / done * n:.0f} s.")
            said = True
        yield item
