"""Compiled part of MultiMatch: simplification of a scan path, comparison of all pairs of a block.

Compiled at the first call in a process, about four seconds for all of it. The machine code is not kept on disk: the
folder of the sources may be read-only, and a relation matrix is built once, in minutes.

A path is a row of saccades. It is stored as seven columns per saccade, see the constants below.
"""

import math

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STEP_X, STEP_Y, ANGLE, LENGTH, START_X, START_Y, DURATION = range(7)
"""Columns of a packed saccade: its vector, the vector's angle (radians, 0 to 2 pi) and length, the fixation where it
starts and how long that lasted. The last fixation's duration has no saccade and is not used, as in the toolbox."""


@numba.njit(nogil=True, error_model="numpy")
def simplify(
    step_x: Array, step_y: Array, x: Array, y: Array, duration: Array, amplitude: float, degrees: float, seconds: float
) -> int:
    """Merge saccades in place until neither rule merges any; see :class:`MultiMatch` for the rules.

    Args:
        step_x: ``[n]``, horizontal parts of the saccades, pixels.
        step_y: ``[n]``, vertical parts.
        x: ``[n]``, where they start.
        y: ``[n]``.
        duration: ``[n + 1]``, of the fixations before each saccade and after the last.
        amplitude: saccades shorter than this, in pixels, may be merged.
        degrees: saccades whose directions differ by less may be merged.
        seconds: fixations shorter than this may vanish.

    Returns:
        Number of saccades that are left, in the first places of the arrays.
    """
    n = len(step_x)
    before = n + 1
    while True:
        n = _merge_straight(step_x, step_y, x, y, duration, n, degrees, seconds)
        n, shortened = _merge_short(step_x, step_y, x, y, duration, n, amplitude, seconds)
        # multimatch_gaze stops when the number of durations stays; a merged last saccade leaves one too many there
        after = n + 2 if shortened else n + 1
        if after == before:
            return n
        before = after


@numba.njit(nogil=True, error_model="numpy")
def _merge_straight(
    step_x: Array, step_y: Array, x: Array, y: Array, duration: Array, n: int, degrees: float, seconds: float
) -> int:
    """One pass over pairs of saccades with nearly the same direction."""
    last = duration[n]
    i = kept = 0
    while i < n:
        step_x[kept], step_y[kept], x[kept], y[kept] = step_x[i], step_y[i], x[i], y[i]
        short = i + 1 < n and duration[i + 1] < seconds
        duration[kept] = duration[i]
        if short and _turn(step_x[i], step_y[i], step_x[i + 1], step_y[i + 1]) < degrees:
            step_x[kept] = step_x[i] + step_x[i + 1]
            step_y[kept] = step_y[i] + step_y[i + 1]
            i += 1
        i += 1
        kept += 1
    duration[kept] = last
    return kept


@numba.njit(nogil=True, error_model="numpy")
def _merge_short(
    step_x: Array, step_y: Array, x: Array, y: Array, duration: Array, n: int, amplitude: float, seconds: float
) -> tuple[int, bool]:
    """One pass over short saccades; whether the last one was merged is the second result."""
    last, before_last = duration[n], duration[n - 1]
    end_x, end_y = step_x[n - 1], step_y[n - 1]
    if n > 1:
        end_x += step_x[n - 2]
        end_y += step_y[n - 2]
    shortened = False
    i = kept = 0
    while i < n:
        short = math.sqrt(step_x[i] * step_x[i] + step_y[i] * step_y[i]) < amplitude
        if i == n - 1 and kept > 0 and short and (last < seconds or before_last < seconds):
            step_x[kept - 1], step_y[kept - 1] = end_x, end_y
            shortened = True
            break
        brief = i + 1 < n and (duration[i + 1] < seconds or duration[i] < seconds)
        step_x[kept], step_y[kept], x[kept], y[kept] = step_x[i], step_y[i], x[i], y[i]
        duration[kept] = duration[i]
        if short and brief:
            step_x[kept] = step_x[i] + step_x[i + 1]
            step_y[kept] = step_y[i] + step_y[i + 1]
            i += 1
        i += 1
        kept += 1
    duration[kept] = last
    return kept, shortened


@numba.njit(nogil=True, error_model="numpy")
def _turn(ax: float, ay: float, bx: float, by: float) -> float:
    """Angle between two saccades in degrees; NaN, which is below no threshold, where one has no length."""
    product = math.sqrt(ax * ax + ay * ay) * math.sqrt(bx * bx + by * by)
    if product == 0.0:
        return math.nan
    return math.degrees(math.acos(min(1.0, max(-1.0, (ax * bx + ay * by) / product))))


@numba.njit(nogil=True, error_model="numpy")
def compare_block(
    paths: Array,
    offsets: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    diagonal: float,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Array:
    """Compare every reading of ``rows`` with every one of ``columns``.

    Args:
        paths: ``[7, n]``: all saccades of all readings, contiguous.
        offsets: ``[N + 1]``: reading ``k`` has the saccades ``offsets[k] : offsets[k + 1]``; none: not valid.
        order: ``[N]``: rank of the path's content: of a pair, the lower one is the first path.
        diagonal: of the frame, pixels.
        rows: first and last + 1.
        columns: first and last + 1.

    Returns:
        ``[r, c, 5]``: vector, direction, length, position, duration; 0 where one is not valid, 1 on the diagonal.
    """
    scores = np.zeros((rows[1] - rows[0], columns[1] - columns[0], 5))
    longest = 0
    for first, stop in (rows, columns):
        for k in range(first, stop):
            longest = max(longest, offsets[k + 1] - offsets[k])
    total = np.empty(2 * longest * (longest + 2) + 1)
    room = np.empty((2, longest))
    along = np.empty((5, 2 * longest))
    limits = (2.0 * diagonal, math.pi, diagonal, diagonal, 1.0)
    for i in range(rows[0], rows[1]):
        for j in range(columns[0], columns[1]):
            row, column = i - rows[0], j - columns[0]
            if i == j:
                for k in range(5):
                    scores[row, column, k] = 1.0
            elif columns[0] <= j < i < columns[1] and rows[0] <= j:  # met before, the other way round
                for k in range(5):
                    scores[row, column, k] = scores[j - rows[0], i - columns[0], k]
            elif offsets[i] < offsets[i + 1] and offsets[j] < offsets[j + 1]:
                a, b = (i, j) if order[i] <= order[j] else (j, i)
                n, m = offsets[a + 1] - offsets[a], offsets[b + 1] - offsets[b]
                _add_up(paths, offsets[a], offsets[b], n, m, total, room)
                steps = _differences(paths, offsets[a], offsets[b], n, m, total, along)
                for k in range(5):
                    scores[row, column, k] = min(1.0, max(0.0, 1.0 - _median(along[k], steps) / limits[k]))
    return scores


@numba.njit(nogil=True, error_model="numpy")
def _differences(paths: Array, a: int, b: int, n: int, m: int, total: Array, along: Array) -> int:
    """Walk the cheapest alignment back from its end; fill ``along`` ``[5, steps]`` and return the steps.

    Args:
        paths: all saccades.
        a: first saccade of the first path.
        b: first saccade of the second path.
        n: number of saccades of the first path.
        m: number of saccades of the second path.
        total: as `_add_up` fills it.
        along: differences of vector, direction, length, position, duration at each step.
    """
    width = n + 2
    i, j, steps = n - 1, m - 1, 0
    while True:
        p, q = a + i, b + j
        x, y = paths[STEP_X, p] - paths[STEP_X, q], paths[STEP_Y, p] - paths[STEP_Y, q]
        along[0, steps] = math.sqrt(x * x + y * y)
        turn = abs(paths[ANGLE, p] - paths[ANGLE, q])
        along[1, steps] = 2 * math.pi - turn if turn > math.pi else turn
        along[2, steps] = abs(paths[LENGTH, p] - paths[LENGTH, q])
        x, y = paths[START_X, p] - paths[START_X, q], paths[START_Y, p] - paths[START_Y, q]
        along[3, steps] = math.sqrt(x * x + y * y)
        longer = max(paths[DURATION, p], paths[DURATION, q])
        along[4, steps] = abs(paths[DURATION, p] - paths[DURATION, q]) / longer if longer > 0.0 else 0.0
        steps += 1
        if i == 0 and j == 0:
            return steps
        before = (i + j - 1) * width + i
        both = total[before - width] if i > 0 and j > 0 else math.inf
        up, left = total[before], total[before + 1]
        if both <= up and both <= left:
            i -= 1
            j -= 1
        elif up <= left:
            i -= 1
        else:
            j -= 1


@numba.njit(nogil=True, error_model="numpy")
def _add_up(paths: Array, a: int, b: int, n: int, m: int, total: Array, room: Array) -> None:
    """Fill the costs of the cheapest ways from the first pair of saccades to each pair (i, j).

    Pairs lie in rows of equal ``i + j``, ``n + 2`` values long: those of a row depend on the two rows before only, so
    that the compiler can compute several at once. Pair (i, j) is in place ``i + 1``, with infinity to both sides.
    """
    width = n + 2
    for j in range(m):
        room[0, m - 1 - j] = paths[STEP_X, b + j]
        room[1, m - 1 - j] = paths[STEP_Y, b + j]
    total[0], total[1], total[2] = math.inf, 0.0, math.inf  # scipy's search, too, starts behind the first pair
    for k in range(1, n + m - 1):
        low, high = max(0, k - m + 1), min(n - 1, k)
        count, start, shift = high - low + 1, k * width + low, m - 1 - k + low
        ax, ay = paths[STEP_X, a + low : a + high + 1], paths[STEP_Y, a + low : a + high + 1]
        bx, by = room[0, shift : shift + count], room[1, shift : shift + count]
        total[start] = total[start + count + 1] = math.inf
        here = total[start + 1 : start + 1 + count]
        up, left = total[start - width : start - width + count], total[start - width + 1 : start - width + 1 + count]
        first = start - 2 * width if k > 1 else start - width  # no diagonal step ends in the second row
        both = total[first : first + count]
        for t in range(count):
            x, y = ax[t] - bx[t], ay[t] - by[t]
            best = up[t] if up[t] < left[t] else left[t]
            best = both[t] if both[t] < best else best
            here[t] = math.sqrt(x * x + y * y) + best


@numba.njit(nogil=True, error_model="numpy")
def _median(values: Array, n: int) -> float:
    """Median of the first ``n`` values, which are reordered: Hoare's selection."""
    middle = n // 2
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            break
    upper: float = values[middle]
    if n % 2:
        return upper
    lower: float = values[0]
    for k in range(1, middle):
        lower = max(lower, values[k])
    return 0.5 * (lower + upper)
