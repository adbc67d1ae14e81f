import json
import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multimatch_gaze import docomparison
from multimatch_gaze.multimatch_gaze import gen_scanpath_structure, simplify_scanpath

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import MultiMatch, multimatch_scores

Array = npt.NDArray[np.float64]
FRAME = (100, 120)
DIAGONAL = math.hypot(*FRAME)


def reading(x: npt.ArrayLike, y: npt.ArrayLike, duration: npt.ArrayLike) -> Fixations:
    duration = np.asarray(duration, dtype=np.float64)
    sigma = np.full(len(duration), 5.0)
    return Fixations(x, y, duration, sigma, sigma, np.cumsum(duration) - duration)


def random_reading(rng: np.random.Generator, n: int) -> Fixations:
    return reading(rng.uniform(0, FRAME[1], n), rng.uniform(0, FRAME[0], n), rng.gamma(2, 0.15, n))


def table(path: Fixations) -> npt.NDArray[Any]:
    result = np.zeros(len(path), dtype=[("start_x", float), ("start_y", float), ("duration", float)])
    result["start_x"], result["start_y"], result["duration"] = path.x, path.y, path.duration
    return result


def thresholds(measure: MultiMatch, frame: tuple[int, int]) -> dict[str, float]:
    amplitude = measure.amplitude_threshold * math.hypot(*frame)
    return {"TAmp": amplitude, "TDir": measure.direction_threshold, "TDur": measure.duration_threshold}


def package(a: Fixations, b: Fixations, measure: MultiMatch, frame: tuple[int, int] = FRAME) -> Array | None:
    """multimatch_gaze's scores; None where it fails: parallel saccades (acos of 1 + 1e-16), a single short saccade."""
    options = thresholds(measure, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scores = docomparison(table(a), table(b), [frame[1], frame[0]], grouping=measure.simplify, **options)
        except (IndexError, ValueError):
            return None
    return np.array([np.ravel(score)[0] for score in scores], dtype=np.float64)


def saccades(path: Fixations, measure: MultiMatch) -> Array:
    """Rows of step_x, step_y, x, y, duration; simplified by the package."""
    structure = gen_scanpath_structure(table(path))
    if measure.simplify:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = simplify_scanpath(structure, **thresholds(measure, FRAME))
    steps = structure["sac"]
    n = len(steps["x"])
    return np.array([steps["lenx"], steps["leny"], steps["x"], steps["y"], structure["fix"]["dur"][:n]]).T


def alignments(n: int, m: int) -> Iterator[list[tuple[int, int]]]:
    if n == m == 1:
        yield [(0, 0)]
    for i, j in ((n - 1, m - 1), (n - 1, m), (n, m - 1)):
        if i and j:
            for path in alignments(i, j):
                yield [*path, (n - 1, m - 1)]


def scores_along(u: Array, v: Array, path: list[tuple[int, int]]) -> tuple[float, Array]:
    """Cost and scores of an alignment of two results of `saccades`, literally."""
    cost, differences = 0.0, []
    for i, j in path:
        apart = math.dist(u[i, :2], v[j, :2])
        cost += apart if (i, j) != (0, 0) else 0.0
        angle = abs(math.atan2(u[i, 1], u[i, 0]) - math.atan2(v[j, 1], v[j, 0]))
        longer = max(u[i, 4], v[j, 4])
        differences.append(
            [
                apart / (2 * DIAGONAL),
                min(angle, 2 * math.pi - angle) / math.pi,
                abs(math.hypot(*u[i, :2]) - math.hypot(*v[j, :2])) / DIAGONAL,
                math.dist(u[i, 2:4], v[j, 2:4]) / DIAGONAL,
                abs(u[i, 4] - v[j, 4]) / longer if longer else 0.0,
            ]
        )
    return cost, 1 - np.median(differences, axis=0)


def cheapest_scores(u: Array, v: Array) -> Array:
    """Scores ``[k, 5]`` of all alignments that cost the least, up to rounding."""
    results = [scores_along(u, v, path) for path in alignments(len(u), len(v))]
    least = min(cost for cost, _ in results)
    return np.array([scores for cost, scores in results if cost <= least + 1e-9])


@st.composite
def continuous(draw: st.DrawFn) -> Fixations:
    return random_reading(np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.integers(3, 25)))


@st.composite
def gridded(draw: st.DrawFn, shortest: float = 0.1) -> Fixations:
    n = draw(st.integers(3, 6))
    x, y = (draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) for _ in range(2))
    duration = draw(st.lists(st.sampled_from([shortest, 0.2, 0.4]), min_size=n, max_size=n))
    return reading(20.0 * np.array(x), 20.0 * np.array(y), duration)


@settings(max_examples=60, deadline=None)
@given(continuous(), continuous(), st.booleans(), st.floats(0, 0.5), st.floats(0, 0.6), st.floats(0, 180))
def test_scores_are_those_of_the_package(
    a: Fixations, b: Fixations, simplify: bool, amplitude: float, duration: float, direction: float
) -> None:
    measure = MultiMatch((0.2,) * 5, simplify, direction, duration, amplitude)
    expected = package(a, b, measure)
    assume(expected is not None)
    np.testing.assert_allclose(multimatch_scores(a, b, FRAME, measure), expected, atol=1e-6, rtol=0)


@settings(max_examples=100, deadline=None)
@given(gridded(shortest=0.0), gridded(shortest=0.0))
def test_scores_are_those_of_a_cheapest_alignment(a: Fixations, b: Fixations) -> None:
    measure = MultiMatch(simplify=False)
    found = multimatch_scores(a, b, FRAME, measure)
    cheapest = cheapest_scores(saccades(a, measure), saccades(b, measure))
    assert np.abs(cheapest - found).max(axis=1).min() < 1e-6
    assert multimatch_scores(b, a, FRAME, measure).tolist() == found.tolist()


@settings(max_examples=120, deadline=None)
@given(gridded(), gridded(), st.booleans())
def test_gridded_paths_without_ties_have_the_packages_scores(a: Fixations, b: Fixations, simplify: bool) -> None:
    measure = MultiMatch(simplify=simplify, direction_threshold=40.0, amplitude_threshold=0.2)
    expected = package(a, b, measure)
    assume(expected is not None)
    assert expected is not None
    found = multimatch_scores(a, b, FRAME, measure)
    cheapest = cheapest_scores(saccades(a, measure), saccades(b, measure))
    if np.ptp(cheapest, axis=0).max() < 1e-9:
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    else:  # the package takes any of them
        for scores in (found, expected):
            assert np.abs(cheapest - scores).max(axis=1).min() < 1e-6


@pytest.mark.parametrize("simplify", [False, True])
def test_real_paths_have_the_packages_scores(simplify: bool) -> None:
    if not os.environ.get("GAZE_OPEN_DATA"):
        pytest.skip("GAZE_OPEN_DATA is not set")
    points = pd.read_csv(Path(os.environ["GAZE_OPEN_DATA"]) / "cxr_p_gaze" / "fixations.csv")
    points = points.sort_values(["image_id", "order"], kind="stable")
    gaze = [
        reading(own["x"].to_numpy() * 1024, own["y"].to_numpy() * 1024, 0.2 * own["n_samples"].to_numpy())
        for _, own in points.groupby("image_id", sort=False)
    ]
    measure, rng = MultiMatch(simplify=simplify), np.random.default_rng(0)
    for i, j in rng.integers(0, len(gaze), (100, 2)):
        expected = package(gaze[i], gaze[j], measure, (1024, 1024))
        assert expected is not None
        found = multimatch_scores(gaze[i], gaze[j], (1024, 1024), measure)
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_saccades_that_the_package_cannot_merge_are_handled() -> None:
    forwards = reading([0, 10 / 3, 10, 20], [0, 1 / 3, 1, 2], [0.1] * 4)
    ending = reading([0, 1, 2], [0, 1, 1], [0.1] * 3)
    standing = reading([5] * 4, [5] * 4, [0.1] * 4)
    back = reading([0, 50, 0], [0, 0, 0], [0.1] * 3)
    for path in (forwards, ending, standing, back):
        for measure in (MultiMatch(amplitude_threshold=0.0), MultiMatch(), MultiMatch(direction_threshold=180.0)):
            assert multimatch_scores(path, path, FRAME, measure).tolist() == [1.0] * 5
    two = reading([0, 10, 20, 20], [0, 0, 0, 50], [0.1] * 4)
    merged = reading([0, 20, 20], [0, 0, 50], [0.1] * 3)
    straight = MultiMatch(amplitude_threshold=0.0)
    assert multimatch_scores(two, merged, FRAME, straight).tolist() == [1.0] * 5
    kept = multimatch_scores(two, merged, FRAME, MultiMatch(amplitude_threshold=0.0, duration_threshold=0.1))
    assert kept[2] < 1.0  # the fixation is not shorter than the threshold


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(gridded(), continuous(), st.just(Fixations.empty())), min_size=2, max_size=7), st.randoms())
def test_matrix_is_symmetric_and_does_not_depend_on_order_or_blocks(gaze: list[Fixations], random: Any) -> None:
    measure = MultiMatch(amplitude_threshold=0.2)
    prepared, n = measure.prepare(gaze, FRAME), len(gaze)
    matrix = prepared.block(slice(None), slice(None))
    assert matrix.dtype == np.float32
    assert matrix.shape == (n, n) == (len(prepared),) * 2
    assert np.isfinite(matrix).all()
    assert matrix.min() >= 0
    assert matrix.max() <= 1
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 1).all()
    assert prepared.valid.tolist() == [len(path) >= 3 for path in gaze]
    assert not (matrix - np.eye(n))[~prepared.valid].any()
    order = random.sample(range(n), n)
    again = measure.prepare([gaze[k] for k in order], FRAME).block(slice(None), slice(None))
    assert (again == matrix[np.ix_(order, order)]).all()
    rows, columns = slice(random.randrange(n), None), slice(0, random.randrange(n + 1))
    assert (prepared.block(rows, columns) == matrix[rows, columns]).all()
    scores = prepared.scores(rows, columns)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores @ np.float32(measure.weights), matrix[rows, columns], atol=1e-6)


def test_weighted_mean_and_its_range() -> None:
    rng = np.random.default_rng(0)
    gaze = [random_reading(rng, 12), random_reading(rng, 9), random_reading(rng, 12)]
    gaze.append(reading(gaze[0].x, gaze[0].y, gaze[0].duration))  # a copy
    for weights in ((0.1, 0.1, 0.1, 0.1, 0.6), (0.2, 0.3, 0.5, 0.0, 0.0)):
        measure = MultiMatch(weights)
        matrix = measure.prepare(gaze, FRAME).block(slice(0, 4), slice(0, 4))
        assert matrix[0, 1] == np.float32(np.dot(weights, multimatch_scores(gaze[0], gaze[1], FRAME, measure)))
        assert matrix[0, 3] == 1.0
    far = reading([-900, 900, -900, 900], [0, 900, 0, -900], [0.5] * 4)
    near = reading([5000, 5001, 5000, 5002], [0, 1, 0, 1], [0.5] * 4)
    scores = multimatch_scores(far, near, FRAME, MultiMatch(simplify=False))
    assert scores[[0, 2, 3]].tolist() == [0.0] * 3
    assert scores[4] == 1.0


def test_durations_of_zero_are_equal() -> None:
    none, some = reading([0, 50, 90], [0, 50, 0], [0.0] * 3), reading([0, 50, 90], [0, 50, 0], [0.5] * 3)
    assert multimatch_scores(none, none, FRAME)[4] == 1.0
    assert multimatch_scores(none, some, FRAME, MultiMatch(simplify=False))[4] == 0.0


def test_short_paths() -> None:
    rng = np.random.default_rng(0)
    short, long = random_reading(rng, 2), random_reading(rng, 5)
    assert np.isnan(multimatch_scores(short, long, FRAME)).all()
    assert MultiMatch(minimum_fixations=5).prepare([short, long], FRAME).valid.tolist() == [False, True]
    assert MultiMatch(minimum_fixations=6).prepare([short, long], FRAME).valid.tolist() == [False, False]
    assert MultiMatch().prepare([], FRAME).block(slice(None), slice(None)).shape == (0, 0)


def test_blocks_from_several_threads() -> None:
    rng = np.random.default_rng(0)
    prepared = MultiMatch().prepare([random_reading(rng, int(n)) for n in rng.integers(3, 40, 40)], FRAME)
    matrix = prepared.block(slice(None), slice(None))
    parts = [slice(k, k + 10) for k in range(0, 40, 10)]
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda rows: prepared.block(rows, slice(None)), parts))
    assert (np.concatenate(blocks) == matrix).all()


def test_parameters_name_all_arguments() -> None:
    measure = MultiMatch(weights=(0.2,) * 5, simplify=False)
    parameters = measure.parameters
    assert parameters["weights"] == [0.2] * 5
    assert parameters["simplify"] is False
    assert set(parameters) == {
        "weights",
        "simplify",
        "direction_threshold",
        "duration_threshold",
        "amplitude_threshold",
        "minimum_fixations",
    }
    assert MultiMatch(**json.loads(json.dumps(parameters))).parameters == parameters
    assert measure.parallel
    assert not measure.mirror_invariant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": (0.5, 0.5, 0.5, 0.0, 0.0)}, "sum 1"),
        ({"weights": (-0.5, 0.5, 0.5, 0.5, 0.0)}, "not negative"),
        ({"weights": (math.nan, 0.5, 0.5, 0.0, 0.0)}, "weights"),
        ({"weights": (0.5, 0.5)}, "five numbers"),
        ({"direction_threshold": -1.0}, "direction_threshold"),
        ({"duration_threshold": math.nan}, "duration_threshold"),
        ({"amplitude_threshold": -0.1}, "amplitude_threshold"),
        ({"minimum_fixations": 2}, "at least 3"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultiMatch(**arguments)


def test_raw_samples_are_refused() -> None:
    rng = np.random.default_rng(0)
    long, longer, short = (random_reading(rng, n) for n in (500, 501, 40))
    none = Fixations.empty()
    for gaze in ([longer, longer, short], [longer, none, none], [longer] * 3):
        with pytest.raises(ConfigurationError, match=r"median reading has 501 points.*point_source=fixations"):
            MultiMatch().prepare(gaze, FRAME)
    for gaze in ([long] * 3, [longer, short, short], [none, none]):
        assert MultiMatch().prepare(gaze, FRAME).valid.tolist() == [len(path) > 0 for path in gaze]


def test_frames_and_slices_are_checked() -> None:
    with pytest.raises(ValueError, match="positive height and width"):
        MultiMatch().prepare([], (0, 10))
    with pytest.raises(ValueError, match="step 1"):
        MultiMatch().prepare([Fixations.empty()] * 4, FRAME).block(slice(0, 4, 2), slice(None))
