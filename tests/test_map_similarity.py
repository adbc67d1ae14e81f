import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze import Fixations, render_saliency
from gaze_lightning.gaze.similarity import DHash, GazeSimilarity, MapCC, Moments

Array = npt.NDArray[np.float64]
FRAME = (96, 128)
ALL = slice(None)


def blobs(x: Any, y: Any, sigma: Any, duration: Any = 1.0) -> Fixations:
    x, y, sigma, duration = (
        np.array(v, dtype=np.float64) for v in np.broadcast_arrays(*map(np.atleast_1d, (x, y, sigma, duration)))
    )
    return Fixations(x, y, duration, sigma, sigma, np.arange(len(x), dtype=np.float64))


def similarity(measure: GazeSimilarity, *gaze: Fixations, frame: tuple[int, int] = FRAME) -> float:
    return float(measure.prepare(gaze, frame).block(slice(0, 1), slice(1, 2))[0, 0])


def rendered(path: Fixations, size: tuple[int, int], frame: tuple[int, int] = FRAME) -> Array:
    """A map of given size, point by point of the definition's inputs."""
    across, down = size[1] / frame[1], size[0] / frame[0]
    return render_saliency(
        path.x * across, path.y * down, path.duration, path.sigma_x * across, path.sigma_y * down, size, normalise="max"
    )


@st.composite
def readings(draw: st.DrawFn) -> list[Fixations]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    gaze = [
        blobs(rng.uniform(0, 128, n), rng.uniform(0, 96, n), rng.uniform(3, 20, n), rng.gamma(2, 0.2, n))
        for n in rng.integers(1, 6, draw(st.integers(1, 7)))
    ]
    if draw(st.booleans()):
        gaze.insert(draw(st.integers(0, len(gaze))), Fixations.empty())
        gaze.append(gaze[0])
    return gaze


def relative(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b) / max(a, b)


def hu_of(saliency: Array) -> tuple[float, float]:
    """First Hu invariant and mass by loops."""
    mass = x = y = second = 0.0
    for v, row in enumerate(saliency):
        for u, value in enumerate(row):
            mass, x, y = mass + value, x + u * value, y + v * value
    for v, row in enumerate(saliency):
        for u, value in enumerate(row):
            second += value * ((u - x / mass) ** 2 + (v - y / mass) ** 2)
    return second / mass**2, mass


def literal_moments(a: Fixations, b: Fixations) -> float:
    (h_a, m_a), (h_b, m_b) = (hu_of(rendered(path, (32, 32))) for path in (a, b))
    return 1 - (0.8 * relative(h_a, h_b) + 0.2 * relative(m_a, m_b))


def hash_of(path: Fixations, both_axes: bool) -> list[bool]:
    across, down = rendered(path, (8, 9)), rendered(path, (9, 8))
    bits = [across[v, u] - across[v, u + 1] > 1 / 255 for v in range(8) for u in range(8)]
    return bits + ([down[v, u] - down[v + 1, u] > 1 / 255 for v in range(8) for u in range(8)] if both_axes else [])


def literal_cosine(a: Fixations, b: Fixations, both_axes: bool = False) -> float:
    p, q = hash_of(a, both_axes), hash_of(b, both_axes)
    both = sum(s and t for s, t in zip(p, q, strict=True))
    return both / math.sqrt(sum(p) * sum(q)) if sum(p) and sum(q) else 0.0


def literal_hamming(a: Fixations, b: Fixations) -> float:
    p, q = hash_of(a, False), hash_of(b, False)
    return sum(s == t for s, t in zip(p, q, strict=True)) / 64 if any(p) and any(q) else 0.0


def literal_correlation(a: Fixations, b: Fixations) -> float:
    maps = [rendered(path, (32, 32)).ravel() for path in (a, b)]
    return max(0.0, float(np.corrcoef(maps[0], maps[1])[0, 1]))


MEASURES: dict[str, tuple[GazeSimilarity, Any]] = {
    "moments": (Moments(0.8, 0.2), literal_moments),
    "dhash": (DHash(), literal_cosine),
    "dhash_both_axes": (DHash(both_axes=True), lambda a, b: literal_cosine(a, b, both_axes=True)),
    "dhash_hamming": (DHash(hamming=True), literal_hamming),
    "map_cc": (MapCC(), literal_correlation),
}


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=15, deadline=None)
@given(gaze=readings())
def test_values_are_those_of_the_definition(name: str, gaze: list[Fixations]) -> None:
    measure, literal = MEASURES[name]
    found = measure.prepare(gaze, FRAME).block(ALL, ALL)
    for i, a in enumerate(gaze):
        for j, b in enumerate(gaze):
            expected = 1.0 if i == j else literal(a, b) if len(a) and len(b) else 0.0
            assert found[i, j] == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("measure", [*(m for m, _ in MEASURES.values()), MapCC(subtract_mean=True), MapCC(side=64)])
@settings(max_examples=15, deadline=None)
@given(gaze=readings(), random=st.randoms())
def test_matrix_is_symmetric_and_does_not_depend_on_blocks(
    measure: GazeSimilarity, gaze: list[Fixations], random: Any
) -> None:
    prepared, n = measure.prepare(gaze, FRAME), len(gaze)
    matrix = prepared.block(ALL, ALL)
    assert matrix.dtype == np.float32
    assert matrix.shape == (n, n) == (len(prepared),) * 2
    assert np.isfinite(matrix).all()
    assert matrix.min() >= 0
    assert matrix.max() <= 1
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 1).all()
    assert not (matrix - np.eye(n))[~prepared.valid].any()
    assert not prepared.valid[[len(path) == 0 for path in gaze]].any()
    rows, columns = slice(random.randrange(n), None), slice(0, random.randrange(n + 1))
    assert (prepared.block(rows, columns) == matrix[rows, columns]).all()
    order = random.sample(range(n), n)
    again = measure.prepare([gaze[k] for k in order], FRAME).block(ALL, ALL)
    limit = 1e-6 if isinstance(measure, MapCC) and measure.subtract_mean else 0.0
    np.testing.assert_allclose(again, matrix[np.ix_(order, order)], atol=limit, rtol=0)


@pytest.mark.parametrize("measure", [m for m, _ in MEASURES.values()])
def test_a_map_against_itself_is_one_and_constant_maps_are_not_valid(measure: GazeSimilarity) -> None:
    gaze = [
        blobs([40, 80], [30, 60], [8, 5]),
        Fixations.empty(),
        blobs(64, 48, 1e7),  # the same everywhere
        blobs(64, 48, 5, 0.0),  # no time
        blobs(1e6, 48, 5),  # far away
        blobs([40, 80], [30, 60], [8, 5], 3.0),  # the first, for longer
    ]
    prepared = measure.prepare(gaze, FRAME)
    assert prepared.valid.tolist() == [True, False, False, False, False, True]
    matrix = prepared.block(ALL, ALL)
    expected = np.eye(6)
    expected[0, 5] = expected[5, 0] = 1.0
    np.testing.assert_allclose(matrix, expected, atol=1e-7)
    assert measure.prepare([], FRAME).block(ALL, ALL).shape == (0, 0)


def test_large_products_are_exact() -> None:
    rng = np.random.default_rng(0)
    gaze = [blobs(*rng.uniform(0, 96, (2, 30)), rng.uniform(3, 20, 30)) for _ in range(150)]
    for measure in (MapCC(), MapCC(side=64)):
        prepared = measure.prepare(gaze, FRAME)
        matrix = prepared.block(ALL, ALL)
        assert (matrix == matrix.T).all()
        for start, stop in ((0, 1), (3, 40), (7, 148)):
            assert (prepared.block(slice(start, stop), slice(stop, None)) == matrix[start:stop, stop:]).all()
        maps = [rendered(path, (measure.side, measure.side)).ravel() for path in gaze]
        np.testing.assert_allclose(matrix, np.corrcoef(maps).clip(0), atol=1.2e-7)


def test_moments_know_size_and_number_but_not_place() -> None:
    frame, middle = (32, 32), blobs(16, 16, 3)
    assert similarity(Moments(), blobs(11, 11, 2), blobs(19, 20, 2), frame=frame) == pytest.approx(1.0, abs=1e-4)
    # one Gaussian: h = 1 / pi whatever its size, so half of the similarity is 1 and half the ratio of areas
    assert similarity(Moments(), middle, blobs(16, 16, 3.1), frame=frame) == pytest.approx(0.968, abs=1e-3)
    assert similarity(Moments(), middle, blobs(16, 16, 4), frame=frame) == pytest.approx(0.779, abs=3e-3)
    # two Gaussians a distance 2 r apart: twice the mass, h = (2 sigma^2 + r^2) / (4 pi sigma^2)
    pair, single = blobs([31.5, 52.5], 42.5, 3), blobs(42.5, 42.5, 3)
    found = similarity(Moments(side=84), single, pair, frame=(84, 84))
    assert found == pytest.approx(0.5 * 0.5 + 0.5 * 4 * 9 / (2 * 9 + 10.5**2), abs=1e-4)
    assert found == pytest.approx(0.39, abs=5e-3)
    assert Moments.mirror_invariant


def test_moments_are_those_of_one_gaussian() -> None:
    hu, mass = hu_of(rendered(blobs(20.5, 20.5, 3), (41, 41), (41, 41)))
    assert hu == pytest.approx(1 / math.pi, rel=1e-3)
    assert mass == pytest.approx(2 * math.pi * 9, rel=1e-3)


def test_dhash_knows_the_place() -> None:
    frame, left = (840, 840), blobs(210, 420, 40)
    for measure in (DHash(), DHash(both_axes=True)):
        assert similarity(measure, left, blobs(230, 420, 40), frame=frame) >= 0.9
    assert similarity(DHash(), left, blobs(230, 420, 40), frame=frame) == 1.0
    assert similarity(DHash(), left, blobs(630, 420, 40), frame=frame) == 0.0
    assert similarity(DHash(), left, blobs(210, 420, 60), frame=frame) == pytest.approx(0.76, abs=0.03)
    # without a tolerance, the tails of wide Gaussians set bits up to the right border
    wide = blobs(210, 420, 80), blobs(630, 420, 80)
    assert similarity(DHash(), *wide, frame=frame) == 0.0
    assert similarity(DHash(tolerance=0.0), *wide, frame=frame) > 0.5


def test_correlation_knows_the_place() -> None:
    left = blobs(30, 48, 8)
    assert similarity(MapCC(), left, blobs(98, 48, 8)) == 0.0
    near, nearer = (similarity(MapCC(), left, blobs(30 + shift, 48, 8)) for shift in (8, 4))
    assert 0.3 < near < nearer < 1.0


def test_subtracting_the_mean_map() -> None:
    rng = np.random.default_rng(0)
    gaze = [blobs([64, x], [48, y], [20, 6], [1.0, 0.2]) for x, y in rng.uniform(10, 90, (8, 2))]
    gaze.append(Fixations.empty())
    flat = np.array([rendered(path, (32, 32)).ravel() for path in gaze[:-1]])
    flat /= flat.sum(axis=1, keepdims=True)
    expected = np.corrcoef(flat - flat.mean(axis=0)).clip(0)
    prepared = MapCC(subtract_mean=True).prepare(gaze, FRAME)
    matrix = prepared.block(slice(0, 8), slice(0, 8))
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    assert prepared.valid.tolist() == [True] * 8 + [False]
    assert matrix.mean() < MapCC().prepare(gaze, FRAME).block(slice(0, 8), slice(0, 8)).mean() - 0.3
    # readings that are the mean map themselves have nothing of their own
    assert not MapCC(subtract_mean=True).prepare([gaze[0]] * 3, FRAME).valid.any()


@pytest.mark.parametrize("measure", [m for m, _ in MEASURES.values()])
def test_what_each_fixation_counts(measure: GazeSimilarity) -> None:
    long, short = blobs([40, 80], 48, [8, 5], [5.0, 0.5]), blobs([40, 80], 48, [8, 5], [0.5, 5.0])
    by_count = type(measure)(**{**measure.parameters, "weight": "count"})
    assert similarity(measure, long, short) < 0.99
    assert similarity(by_count, long, short) == pytest.approx(1.0, abs=1e-7)


def test_only_what_was_shown_counts() -> None:
    whole = blobs(64, 48, 20)
    clipped = Fixations(
        *(getattr(whole, k) for k in ("x", "y", "duration", "sigma_x", "sigma_y", "start")), [[0, 0, 64, 96]]
    )
    assert similarity(MapCC(), whole, clipped) < 0.9


@pytest.mark.parametrize("measure", [Moments(0.3, 0.7), DHash(True, True, 0.1, "count"), MapCC(64, True, "density")])
def test_parameters_name_all_arguments(measure: GazeSimilarity) -> None:
    parameters = measure.parameters
    again = type(measure)(**json.loads(json.dumps(parameters)))
    assert again.parameters == parameters
    assert type(measure)().parameters.keys() == parameters.keys()
    assert all(
        type(measure)().parameters[key] != value for key, value in parameters.items() if key not in ("side", "weight")
    )
    assert not measure.parallel


@pytest.mark.parametrize(
    ("measure", "arguments", "message"),
    [
        (Moments, {"w_h": 0.5, "w_m": 0.6}, "sum to 1"),
        (Moments, {"w_h": -0.5, "w_m": 1.5}, "not be negative"),
        (Moments, {"side": 1}, "at least 2"),
        (Moments, {"weight": "seconds"}, "Moments.weight"),
        (DHash, {"tolerance": 1.0}, "tolerance"),
        (DHash, {"weight": "seconds"}, "DHash.weight"),
        (MapCC, {"side": 65}, "from 2 to 64"),
        (MapCC, {"weight": "seconds"}, "MapCC.weight"),
    ],
)
def test_arguments_out_of_range_are_refused(measure: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        measure(**arguments)


@pytest.mark.parametrize("measure", [m for m, _ in MEASURES.values()])
def test_frames_and_slices_are_checked(measure: GazeSimilarity) -> None:
    with pytest.raises(ValueError, match="positive height and width"):
        measure.prepare([Fixations.empty()], (10, 0))
    with pytest.raises(ValueError, match="step 1"):
        measure.prepare([Fixations.empty()] * 4, FRAME).block(slice(None), slice(0, 4, 2))
