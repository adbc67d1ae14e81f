"""Simulated reading: a survey of the film, revisits, and dwell on what was found.

The constants were set so that the number of fixations, their spread, the lengths of the steps, how often the eye comes
back and how concentrated the dwell is agree with 800 radiologists' readings of CXR-P (Saab et al.) and with the totals
of EGD-CXR (about 45 fixations and 23 s per film). No training result was looked at. What was not fitted: where on the
chest people look, which depends on the task (CXR-P was a search for pneumothorax).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_modules.phantom.film import BoolMask, Film
from data_modules.phantom.knobs import PhantomKnobs

FloatArray = npt.NDArray[np.float64]

_MEDIAN_COUNT = {False: 34.0, True: 45.0}  # without and with signs of disease
_COUNT_LOG_SD = 0.46
_MEDIAN_DURATION = 0.34  # s
_DURATION_LOG_SD = 0.52
_DWELL_FACTOR = 1.5  # fixations on a finding last longer
_VISIT = {False: 2.2, True: 4.0}  # fixations per visit: survey, finding
_FIRST_SEARCH = 2  # fixations before the first finding can be named
_DISTRACTOR_PULL = 0.15  # against 1 for a sign of the diagnosis
_LOCAL_STEP = 0.018  # sd of a step inside a visit, fraction of the height
_REGION_SPREAD = 0.085  # sd of a visit's first fixation around the region's centre
_OFF_FILM = 0.012  # share of glances that leave the film


@dataclass(frozen=True)
class ScanPath:
    """One simulated reading of one film, all arrays float64 ``[N]`` unless said otherwise.

    Attributes:
        start: seconds since the film appeared, increasing.
        duration: seconds.
        x: film pixels, continuous; may lie outside ``[0, W)``.
        y: film pixels, continuous; may lie outside ``[0, H)``.
        pupil: pupil diameter, mm.
        finding: int64, index into ``film.findings`` that drew the fixation, -1 for the survey.
        missed: the reader overlooked the signs of the diagnosis.
        total: seconds from the film's appearance to the end of the reading.
    """

    start: FloatArray
    duration: FloatArray
    x: FloatArray
    y: FloatArray
    pupil: FloatArray
    finding: npt.NDArray[np.int64]
    missed: bool
    total: float

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class _Habits:
    """What makes one reader differ from another."""

    speed: float
    thoroughness: float
    style: int

    @classmethod
    def of(cls, reader: int) -> "_Habits":
        rng = np.random.default_rng([7919, reader])
        if reader == 0:  # the one reader of EGD-CXR: the calibrated average
            return cls(1.0, 1.0, 0)
        return cls(float(np.exp(0.12 * rng.normal())), float(np.exp(0.15 * rng.normal())), int(rng.integers(3)))


def simulate_reading(film: Film, knobs: PhantomKnobs, rng: np.random.Generator, reader: int = 0) -> ScanPath:
    """Simulate one reader looking at one film.

    Args:
        film: what is read; at least one search region.
        knobs: ``gaze_lesion_share``, ``gaze_noise`` and ``gaze_miss_rate`` are used.
        rng: source of all randomness.
        reader: who reads; habits (pace, thoroughness, order of the survey) differ between readers.

    Returns:
        The scan path, 5 to 255 fixations, in film pixels.
    """
    height, width = film.image.shape
    habits = _Habits.of(reader)
    abnormal = any(finding.of_class for finding in film.findings)
    missed = bool(abnormal and rng.random() < knobs.gaze_miss_rate)
    median = _MEDIAN_COUNT[abnormal and not missed] * habits.thoroughness
    count = int(np.clip(round(median * np.exp(_COUNT_LOG_SD * rng.normal())), 5, 255))

    x, y, finding = _positions(film, knobs, rng, count, habits.style, missed)
    noise = knobs.gaze_noise * height
    drift = 0.5 * noise * rng.normal(size=2)
    x = x + drift[0] + noise * rng.normal(size=count)
    y = y + drift[1] + noise * rng.normal(size=count)
    _look_away(x, y, rng, height, width)

    pace = habits.speed * np.exp(0.12 * rng.normal())
    duration = pace * _MEDIAN_DURATION * np.exp(_DURATION_LOG_SD * rng.normal(size=count))
    duration = np.clip(np.where(finding >= 0, _DWELL_FACTOR * duration, duration), 0.1, 3.0)
    step = np.hypot(np.diff(x, prepend=x[0]), np.diff(y, prepend=y[0])) / height
    blink = np.where(rng.random(count) < 0.08, rng.uniform(0.12, 0.4, count), 0.0)
    gap = 0.03 + 0.1 * np.minimum(step, 1.0) + rng.exponential(0.035, count) + blink
    gap[0] += 0.15
    start = np.cumsum(gap) + np.concatenate([[0.0], np.cumsum(duration)[:-1]])
    pupil = rng.normal(3.2, 0.35) + 0.08 * np.cumsum(rng.normal(size=count)) / np.sqrt(count)
    return ScanPath(start, duration, x, y, pupil, finding, missed, float(start[-1] + duration[-1] + 0.2))


def _positions(
    film: Film, knobs: PhantomKnobs, rng: np.random.Generator, count: int, style: int, missed: bool
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Where the eye goes, before measurement noise: x, y in pixels and the finding behind each fixation or -1."""
    height = film.image.shape[0]
    centre = _chest_centre(film)
    regions = np.array([film.search_regions[name] for name in sorted(film.search_regions)], dtype=np.float64)
    interest = rng.gamma(1.5, size=len(regions)) + 0.05
    tour = _tour(regions, centre, film.image.shape, style, rng)

    pull = np.array(
        [
            (0.0 if missed else 0.5 + finding.severity) if finding.of_class else _DISTRACTOR_PULL
            for finding in film.findings
        ]
    )
    share = knobs.gaze_lesion_share * min(1.0, float(pull.sum()))
    if 0.0 < share < 1.0:
        share = float(rng.beta(6.0 * share, 6.0 * (1.0 - share)))  # some linger, some glance
    ratio = _DWELL_FACTOR * _VISIT[True] / _VISIT[False]
    chance = share / (share + ratio * (1.0 - share))  # of a visit, for that share of the dwell

    focus: dict[int, FloatArray] = {}
    x, y = np.empty(count), np.empty(count)
    cause = np.full(count, -1, dtype=np.int64)
    done = 0
    position = centre + 0.05 * height * rng.normal(size=2)  # the eye starts in the middle
    x[0], y[0] = position
    done = 1
    while done < count:
        which = -1
        dwelt = _DWELL_FACTOR * float((cause[:done] >= 0).sum())
        behind = dwelt < share * (dwelt + float((cause[:done] < 0).sum()))
        if done >= _FIRST_SEARCH and rng.random() < (2.0 if behind else 0.5) * chance:
            which = int(rng.choice(len(pull), p=pull / pull.sum()))
            target = focus[which] = _point_in(film.findings[which].mask, rng, focus.get(which))
        else:
            if tour and rng.random() < 0.35:
                region = tour.pop(0)
            else:  # back to what interests this reader, rather near than far
                near = np.exp(-np.hypot(*(regions - position).T) / (0.13 * height))
                weight = interest * near
                region = int(rng.choice(len(regions), p=weight / weight.sum()))
            target = regions[region] + rng.uniform(0.0, 0.3) * (centre - regions[region])
            target = target + _REGION_SPREAD * height * rng.normal(size=2)
        stay = int(rng.geometric(1.0 / _VISIT[which >= 0]))
        for _ in range(min(stay, count - done)):
            x[done], y[done] = target
            cause[done] = which
            done += 1
            target = target + _LOCAL_STEP * height * rng.normal(size=2)
        position = np.array([x[done - 1], y[done - 1]])
    return x, y, cause


def _chest_centre(film: Film) -> FloatArray:
    xmin, ymin, xmax, ymax = film.chest_box
    return np.array([(xmin + xmax) / 2, (ymin + ymax) / 2])


def _tour(
    regions: FloatArray, centre: FloatArray, shape: tuple[int, ...], style: int, rng: np.random.Generator
) -> list[int]:
    """Order of the first survey: 0 from the top, side by side; 1 lung after lung; 2 from the middle outwards."""
    u, v = regions[:, 0] / shape[1], regions[:, 1] / shape[0]
    key = (v, u + 0.25 * v, np.hypot(*(regions - centre).T) / shape[0])[style]
    order = np.argsort(key + 0.05 * rng.normal(size=len(regions)))
    return [int(region) for region in order if rng.random() < 0.8]


def _point_in(mask: BoolMask, rng: np.random.Generator, focus: FloatArray | None) -> FloatArray:
    """A random point (x, y) of a mask in pixels, drawn towards the place looked at before where the mask allows."""
    inside = np.flatnonzero(mask)
    row, column = divmod(int(inside[rng.integers(len(inside))]), mask.shape[1])
    point = np.array([column, row]) + rng.random(2)
    if focus is None:
        return point
    middle = (focus + point) / 2
    return middle if mask[int(middle[1]), int(middle[0])] else point


def _look_away(x: FloatArray, y: FloatArray, rng: np.random.Generator, height: int, width: int) -> None:
    """Send a few fixations off the film, in place: to the worklist at the left, the keyboard below, anywhere."""
    for index in np.flatnonzero(rng.random(len(x)) < _OFF_FILM):
        beyond = 0.02 + rng.exponential(0.15)
        side = rng.choice(3, p=[0.5, 0.2, 0.3])
        if side == 0:
            x[index] = -beyond * width
        elif side == 1:
            x[index] = (1.0 + beyond) * width
        else:
            y[index] = (1.0 + beyond) * height
