"""MultiMatch: scan paths compared as rows of saccades."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.fixations import Fixations
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity, check_frame
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze, limits

Array = npt.NDArray[np.float64]

SCORES = ("vector", "direction", "length", "position", "duration")
"""Names of the five scores, in their order."""

MOST_POINTS = 500
"""Median length of the readings above which they are taken for raw samples of an eye tracker."""


class MultiMatch(GazeSimilarity):
    """Weighted mean of the five MultiMatch scores (Jarodzka et al. 2010, Dewhurst et al. 2012).

    A scan path is the row of its saccades. Two paths are aligned by the cheapest monotone path through the matrix of
    ``|u_i - v_j|`` (steps right, down and diagonal; the first pair costs nothing). Along it, with ``D`` the diagonal
    of the frame and medians:

    - vector: ``1 - med |u_i - v_j| / (2 D)``
    - direction: ``1 - med angle(u_i, v_j) / pi``
    - length: ``1 - med ||u_i| - |v_j|| / D``
    - position: ``1 - med |start_i - start_j| / D``
    - duration: ``1 - med |a - b| / max(a, b)`` of the fixations before the saccades (equal ones differ by 0)

    each clipped to 0 to 1 (positions may lie outside of the frame). The values are those of the ``multimatch_gaze``
    package, simplification included. Where several alignments cost exactly the same, the package takes whichever its
    heap yields first; here the diagonal step goes first, and of a pair of readings the one whose path has fewer
    saccades, then the lower content, gives the rows. So the measure is symmetric to the last bit, does not depend on
    the order of the readings, and is 1 for equal paths.

    Simplification repeats two passes until the path stays as it is. Pass 1 merges neighbouring saccades whose
    directions differ by less than ``direction_threshold`` if the fixation between them is shorter than
    ``duration_threshold``. Pass 2 merges a saccade shorter than ``amplitude_threshold`` with the next if a fixation at
    one of its ends (for the last saccade: one of the last two) is that short. The merged saccade keeps the first one's
    start and duration. A short last saccade replaces the one before by the sum of the last two of the path, as in the
    toolbox, also where that one had just been merged itself; a single saccade stays (the package fails there).

    Scan paths are rows of fixations. Raw samples of an eye tracker (60 per second and more) are refused: their steps
    are no saccades, and the work for a pair of readings grows with the square of their number. So are, where relations
    are built, readers joined end to end and cells of a mean map (``needs_scan_paths``).

    Durations are the fixations' own: ``data.init_args.gaze_weight`` does not reach this measure.

    The first call in a process compiles for some seconds; about 5 microseconds per pair and thread then (real readings
    of 47 fixations).

    Args:
        weights: of vector, direction, length, position, duration; not negative, sum 1. The default is that of McGIP's
            first released revision, so 60 % is the likeness of durations.
        simplify: merge saccades before the comparison, as McGIP does.
        direction_threshold: degrees; 45 is McGIP's and the original toolbox's.
        duration_threshold: in the unit of the fixations' durations, normally seconds. Our choice: the 0.3 s of the
            original toolbox. McGIP has 100 samples of a tracker whose rate is not given. CXR-P counts samples, of
            which 0.3 merges nothing.
        amplitude_threshold: fraction of the frame's diagonal; McGIP's 160 px on a screen of 1920 x 1080. The original
            toolbox has 0.1.
        minimum_fixations: readings with fewer are not valid; at least 3, as in McGIP and ``multimatch_gaze``.

    Raises:
        ConfigurationError: if an argument is out of its range.
    """

    parallel = True
    needs_scan_paths = True

    def __init__(
        self,
        weights: tuple[float, float, float, float, float] = (0.1, 0.1, 0.1, 0.1, 0.6),
        simplify: bool = True,
        direction_threshold: float = 45.0,
        duration_threshold: float = 0.3,
        amplitude_threshold: float = 160 / 2203,
        minimum_fixations: int = 3,
    ) -> None:
        if len(weights) != len(SCORES) or not min(weights) >= 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
            raise ConfigurationError(
                f"MultiMatch.weights must be five numbers, not negative, with sum 1, in the order {', '.join(SCORES)}: "
                f"got {list(weights)}"
            )
        thresholds = {
            "direction_threshold": direction_threshold,
            "duration_threshold": duration_threshold,
            "amplitude_threshold": amplitude_threshold,
        }
        for name, value in thresholds.items():
            if not value >= 0:
                raise ConfigurationError(f"MultiMatch.{name} must not be negative, got {value}; 0 merges nothing")
        if minimum_fixations < 3:
            raise ConfigurationError(
                f"MultiMatch.minimum_fixations must be at least 3 (two saccades), got {minimum_fixations}"
            )
        self.weights = tuple(float(weight) for weight in weights)
        self.simplify = simplify
        self.direction_threshold = direction_threshold
        self.duration_threshold = duration_threshold
        self.amplitude_threshold = amplitude_threshold
        self.minimum_fixations = minimum_fixations

    def prepare(self, gaze: Sequence[Fixations], frame: tuple[int, int]) -> "PreparedMultiMatch":
        """Simplify and pack the scan paths, and compile the comparison; see the base class.

        Raises:
            ConfigurationError: If half of the readings that are long enough have more than ``MOST_POINTS`` points.
            ValueError: If the frame has no area.
        """
        check_frame(frame)
        lengths = [len(path) for path in gaze if len(path) >= self.minimum_fixations]
        if lengths and (median := float(np.median(lengths))) > MOST_POINTS:
            raise ConfigurationError(
                f"MultiMatch compares rows of fixations, but the median reading has {median:,.0f} points (more than "
                f"{MOST_POINTS}): these look like the raw samples of an eye tracker. Use "
                "data.init_args.point_source=fixations (in a gaze file of your own: fixations in place of samples), or "
                "a measure of maps (MapCC, DHash, Moments)"
            )
        return PreparedMultiMatch([self._saccades(path, frame) for path in gaze], math.hypot(*frame), self.weights)

    def _saccades(self, path: Fixations, frame: tuple[int, int]) -> Array:
        """Return ``[7, n]``, see the kernel; ``n`` is 0 for a path that is too short."""
        if len(path) < self.minimum_fixations:
            return np.zeros((7, 0))
        step_x, step_y, duration = np.diff(path.x), np.diff(path.y), path.duration.copy()
        x, y = path.x[:-1].copy(), path.y[:-1].copy()
        n = len(step_x)
        if self.simplify:
            from gaze_lightning.gaze.similarity.multimatch_kernel import simplify  # numba takes half a second to load

            amplitude = float(self.amplitude_threshold * math.hypot(*frame))
            degrees, seconds = float(self.direction_threshold), float(self.duration_threshold)
            n = simplify(step_x, step_y, x, y, duration, amplitude, degrees, seconds)
        step_x, step_y = step_x[:n], step_y[:n]
        angle = np.arctan2(step_y, step_x)
        angle = np.where(angle < 0, np.pi + (np.pi + angle), angle)
        return np.stack([step_x, step_y, angle, np.sqrt(step_x**2 + step_y**2), x[:n], y[:n], duration[:n]])


class PreparedMultiMatch(PreparedGaze):
    """Packed scan paths.

    Args:
        paths: per reading ``[7, n]``, see the kernel; ``n`` is 0 where the reading is not valid.
        diagonal: of the frame, pixels.
        weights: of the five scores.
    """

    def __init__(self, paths: Sequence[Array], diagonal: float, weights: Sequence[float]) -> None:
        lengths = np.array([path.shape[1] for path in paths], dtype=np.int64)
        super().__init__(lengths > 0)
        self._paths = np.ascontiguousarray(np.concatenate([np.zeros((7, 0)), *paths], axis=1))
        self._offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        content = [(path.shape[1], path.tobytes()) for path in paths]
        rank = {key: place for place, key in enumerate(sorted(set(content)))}
        self._order = np.array([rank[key] for key in content], dtype=np.int64)
        self._diagonal = diagonal
        self._weights = tuple(weights)
        self._scores((0, 0), (0, 0))  # compiles here, not in every thread at once

    def block(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return part of the matrix of weighted means; see the base class. Entries do not depend on the block."""
        first, second = limits(rows, len(self)), limits(columns, len(self))
        scores = self._scores(first, second)
        total = np.zeros(scores.shape[:2])
        for k, weight in enumerate(self._weights):
            total += weight * scores[..., k]
        return np.minimum(total, 1.0).astype(np.float32)

    def scores(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return the five scores ``[r, c, 5]``: vector, direction, length, position, duration.

        They are 1 on the diagonal and 0 in the other entries of readings that are not valid.

        Raises:
            ValueError: If a slice has a step other than 1.
        """
        return self._scores(limits(rows, len(self)), limits(columns, len(self))).astype(np.float32)

    def _scores(self, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        from gaze_lightning.gaze.similarity.multimatch_kernel import compare_block

        result: Array = compare_block(self._paths, self._offsets, self._order, self._diagonal, rows, columns)
        return result


def multimatch_scores(
    a: Fixations, b: Fixations, frame: tuple[int, int], measure: MultiMatch | None = None
) -> npt.NDArray[np.float64]:
    """Compare two scan paths.

    Args:
        a: One path.
        b: The other one, in pixels of the same frame.
        frame: Height and width in pixels.
        measure: Settings of the simplification; the defaults of :class:`MultiMatch` if None. Its weights do not matter.

    Returns:
        float64 ``[5]``: vector, direction, length, position, duration from 0 to 1; NaN if a path is too short.

    Raises:
        ValueError: If the frame has no area.
    """
    prepared = (measure or MultiMatch()).prepare([a, b], frame)
    return prepared._scores((0, 1), (1, 2))[0, 0] if prepared.valid.all() else np.full(5, np.nan)
