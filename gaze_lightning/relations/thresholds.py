"""From which similarity on a pair counts as related."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError

_ROWS = 256


@dataclass(frozen=True)
class Threshold:
    """A threshold as it was asked for: exactly one of the two.

    Args:
        tau: pairs with a similarity above it are related; 1 or more: no pair is.
        positive_rate: share of the pairs of valid readings that are related, between 0 and 1; portable between
            measures, trackers and maps.

    Raises:
        ConfigurationError: none or both are given, or a value is out of its range.
    """

    tau: float | None = None
    positive_rate: float | None = None

    def __post_init__(self) -> None:
        if (self.tau is None) == (self.positive_rate is None):
            given = "neither" if self.tau is None else f"tau={self.tau:g} and positive_rate={self.positive_rate:g}"
            raise ConfigurationError(
                f"Related pairs need either tau (a similarity) or positive_rate (a share of pairs), got {given}: set "
                "one of them and leave the other null (in a training, e.g. --relations.positive_rate=null)"
            )
        if self.tau is not None and not 0 <= self.tau < math.inf:
            raise ConfigurationError(f"tau={self.tau} must be a similarity, 0 or more: similarities lie from 0 to 1")
        if self.positive_rate is not None and not 0 < self.positive_rate < 1:
            raise ConfigurationError(
                f"positive_rate={self.positive_rate} must lie between 0 and 1: it is a share of the pairs, 0.01 for 1 %"
            )

    @property
    def name(self) -> str:
        """``tau-0.7`` or ``rate-0.01``."""
        return f"rate-{self.positive_rate!r}" if self.tau is None else f"tau-{self.tau!r}"

    def of(
        self,
        scores: npt.NDArray[np.float32],
        valid: npt.NDArray[np.bool_],
        films: npt.NDArray[np.int64] | None = None,
    ) -> float:
        """The similarity that it stands for among these pairs, see `threshold_of`."""
        if self.tau is not None:
            return self.tau
        assert self.positive_rate is not None
        return threshold_of(scores, valid, self.positive_rate, films)


def threshold_of(
    scores: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    positive_rate: float,
    films: npt.NDArray[np.int64] | None = None,
) -> float:
    """Return the lowest tau above which no more than the given share of the pairs of valid readings lie.

    Exact. Pairs as similar as tau are not related (strict inequality), so ties make fewer pairs than asked for, never
    more.

    Args:
        scores: float32 ``[N, N]``, symmetric, in [0, 1]; may be a memory map.
        valid: bool ``[N]``.
        positive_rate: between 0 and 1.
        films: see `order_statistics`.

    Raises:
        ValueError: there is no pair of valid readings, or the rate is not between 0 and 1.
    """
    if not 0 < positive_rate < 1:
        raise ValueError(f"positive_rate={positive_rate} must lie between 0 and 1")
    pairs = number_of_pairs(valid, films)
    above = math.floor(positive_rate * pairs + 1e-9)  # 0.29 * 100 is 28.999...
    return float(order_statistics(scores, valid, [pairs - 1 - above], films)[0])


def number_of_pairs(valid: npt.NDArray[np.bool_], films: npt.NDArray[np.int64] | None = None) -> int:
    """Pairs of valid readings, with ``films`` of two different ones only."""
    n = int(valid.sum())
    sizes: list[int] = [] if films is None else np.unique(films[valid], return_counts=True)[1].tolist()
    return n * (n - 1) // 2 - sum(k * (k - 1) // 2 for k in sizes)


def order_statistics(
    scores: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    ranks: Sequence[int],
    films: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the values that would stand at some places if all pairs of valid readings were sorted.

    Floats that are not negative sort like their bits: one pass counts the upper 16 bits, a second one the lower 16
    where a wanted value lies. Memory does not grow with the number of pairs.

    Args:
        scores: float32 ``[N, N]``, symmetric, not negative; may be a memory map.
        valid: bool ``[N]``.
        ranks: places, 0 for the least value.
        films: int64 ``[N]``: pairs of readings of one film are left out; None: there are none.

    Returns:
        float32 ``[len(ranks)]``.

    Raises:
        ValueError: there is no such place; with fewer than two valid readings (of two films) there is none at all.
    """
    n, pairs = int(valid.sum()), number_of_pairs(valid, films)
    if any(not 0 <= rank < pairs for rank in ranks):
        raise ValueError(f"{n} valid readings have {pairs} pairs: there is no place {list(ranks)} among them")
    upper = np.zeros(1 << 16, dtype=np.int64)
    for bits in _pair_bits(scores, valid, films):
        upper += np.bincount(bits >> 16, minlength=1 << 16)
    ends = np.cumsum(upper)
    bins = np.searchsorted(ends, np.asarray(ranks, dtype=np.int64), side="right")
    lower = {int(which): np.zeros(1 << 16, dtype=np.int64) for which in bins}
    for bits in _pair_bits(scores, valid, films):
        high = bits >> 16
        for which, counts in lower.items():
            counts += np.bincount(bits[high == which] & 0xFFFF, minlength=1 << 16)
    found = []
    for rank, which in zip(ranks, bins, strict=True):
        within = rank - (ends[which] - upper[which])
        low = int(np.searchsorted(np.cumsum(lower[int(which)]), within, side="right"))
        found.append((int(which) << 16) | low)
    return np.array(found, dtype=np.uint32).view(np.float32)


def _pair_bits(
    scores: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], films: npt.NDArray[np.int64] | None
) -> Iterator[npt.NDArray[np.int64]]:
    """The similarities of all pairs of valid readings, each once, as the integers that their bits are."""
    for start in range(0, len(valid), _ROWS):
        stop = min(start + _ROWS, len(valid))
        rows, columns = np.arange(start, stop), np.arange(start, len(valid))
        wanted = (columns[None, :] > rows[:, None]) & valid[start:stop, None] & valid[None, start:]
        if films is not None:
            wanted &= films[start:stop, None] != films[None, start:]
        values = np.asarray(scores[start:stop, start:])[wanted] + np.float32(0)  # -0 becomes 0
        yield values.view(np.uint32).astype(np.int64)
