"""The simulated reading against published statistics of real reading, on films made by hand (no drawing needed).

Bands: medians over 800 readings of CXR-P (Saab et al.), measured once on normalised coordinates: 38 fixations per
reading (5 % 19, 95 % 105), weighted standard deviation 0.19 in x and y, step length 0.084, 55 % of the steps under 0.1
and 14 % over 0.3, return within 0.1 after 5 fixations 15 %, the three fullest of 8 x 8 cells hold 0.43 of the dwell.
EGD-CXR: 45 fixations and 23 s per film.
"""

from dataclasses import replace

import numpy as np
import pytest

from data_modules.phantom.film import Film, Finding
from data_modules.phantom.gaze import ScanPath, simulate_reading
from data_modules.phantom.knobs import PhantomKnobs

H, W = 240, 200
REGIONS = {
    "right apex": (0.32, 0.20),
    "left apex": (0.68, 0.20),
    "right upper": (0.28, 0.32),
    "left upper": (0.72, 0.32),
    "right mid": (0.25, 0.47),
    "left mid": (0.75, 0.47),
    "right lower": (0.25, 0.62),
    "left lower": (0.75, 0.62),
    "right hilum": (0.40, 0.45),
    "left hilum": (0.60, 0.44),
    "heart": (0.56, 0.62),
    "aortic knob": (0.57, 0.30),
    "right angle": (0.16, 0.75),
    "left angle": (0.84, 0.75),
    "spine": (0.50, 0.35),
    "right shoulder": (0.15, 0.14),
    "left shoulder": (0.85, 0.14),
    "abdomen": (0.65, 0.85),
}


def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    rows, columns = np.mgrid[:H, :W]
    return (((columns + 0.5) / W - cx) / rx) ** 2 + (((rows + 0.5) / H - cy) / ry) ** 2 < 1


def film(focal: bool, rng: np.random.Generator) -> Film:
    anatomy = {
        "right_lung": ellipse(0.3, 0.45, 0.14, 0.3),
        "left_lung": ellipse(0.7, 0.45, 0.14, 0.3),
        "mediastanum": ellipse(0.52, 0.55, 0.16, 0.3),
        "aortic_knob": ellipse(0.57, 0.3, 0.04, 0.04),
    }
    findings = []
    if focal:
        radius = rng.uniform(0.06, 0.115)
        mask = ellipse(rng.choice([0.28, 0.72]), rng.uniform(0.3, 0.65), radius, radius * W / H)
        findings = [Finding("Consolidation", mask, 0.6, True)]
    return Film(
        image=np.zeros((H, W), dtype=np.uint8),
        diagnosis="pneumonia" if focal else "Normal",
        view="PA",
        anatomy=anatomy,
        findings=findings,
        search_regions={name: (x * W, y * H) for name, (x, y) in REGIONS.items()},
        chest_box=(0.14 * W, 0.13 * H, 0.86 * W, 0.76 * H),
    )


def readings(n: int, knobs: PhantomKnobs | None = None, focal: bool | None = None) -> list[tuple[Film, ScanPath]]:
    result = []
    for i in range(n):
        rng = np.random.default_rng([11, i])
        one = film(i % 3 > 0 if focal is None else focal, rng)
        result.append((one, simulate_reading(one, knobs or PhantomKnobs(), rng)))
    return result


@pytest.fixture(scope="module")
def default() -> list[tuple[Film, ScanPath]]:
    return readings(300)


def test_counts_and_times_are_those_of_real_reading(default: list[tuple[Film, ScanPath]]) -> None:
    counts = np.array([len(path) for _, path in default])
    assert counts.min() >= 5
    assert counts.max() <= 255
    assert 35 <= np.median(counts) <= 46
    assert 15 <= np.quantile(counts, 0.05) <= 24
    assert 80 <= np.quantile(counts, 0.95) <= 125
    assert 40 <= counts.mean() <= 52
    assert 19 <= np.mean([path.total for _, path in default]) <= 27
    durations = np.concatenate([path.duration for _, path in default])
    assert 0.28 <= np.median(durations) <= 0.42
    assert 0.4 <= np.log(durations).std() <= 0.65


def test_spread_steps_and_concentration_are_those_of_real_reading(default: list[tuple[Film, ScanPath]]) -> None:
    spread, steps, fullest, returns = [], [], [], []
    for _, path in default:
        x, y, weight = path.x / W, path.y / H, path.duration / path.duration.sum()
        mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
        spread.append([np.sqrt((weight * (x - mean_x) ** 2).sum()), np.sqrt((weight * (y - mean_y) ** 2).sum())])
        steps.append(np.hypot(np.diff(x), np.diff(y)))
        cells = np.histogram2d(y.clip(0, 0.999), x.clip(0, 0.999), bins=8, range=((0, 1), (0, 1)), weights=weight)[0]
        fullest.append(np.sort(cells.ravel())[-3:].sum())
        if len(x) > 5:
            returns.append(np.hypot(x[5:] - x[:-5], y[5:] - y[:-5]) < 0.1)
    median_x, median_y = np.median(spread, axis=0)
    assert 0.16 <= median_x <= 0.22
    assert 0.13 <= median_y <= 0.22
    step = np.concatenate(steps)
    assert 0.06 <= np.median(step) <= 0.11
    assert 0.50 <= (step < 0.1).mean() <= 0.65
    assert 0.10 <= (step > 0.3).mean() <= 0.24
    assert 0.37 <= np.median(fullest) <= 0.50
    assert 0.10 <= np.concatenate(returns).mean() <= 0.20


def test_times_increase_without_overlap_and_the_first_look_is_central(default: list[tuple[Film, ScanPath]]) -> None:
    first = []
    for _, path in default:
        assert (path.duration > 0).all()
        assert (path.start[1:] > path.start[:-1] + path.duration[:-1]).all()
        first.append([path.x[0] / W - 0.5, path.y[0] / H - 0.445])
        assert (path.finding[:2] == -1).all()
    assert np.abs(np.mean(first, axis=0)).max() < 0.05


def test_a_few_looks_leave_the_film(default: list[tuple[Film, ScanPath]]) -> None:
    x, y = (np.concatenate([getattr(path, axis) for _, path in default]) for axis in "xy")
    outside = (x < 0) | (x >= W) | (y < 0) | (y >= H)
    assert 0.003 < outside.mean() < 0.03


def share_inside(one: Film, path: ScanPath) -> float:
    on = (path.x >= 0) & (path.x < W) & (path.y >= 0) & (path.y < H)
    hit = one.findings[0].mask[path.y[on].astype(int), path.x[on].astype(int)]
    return float((path.duration[on] * hit).sum() / path.duration[on].sum())


def test_gaze_is_enriched_on_the_lesion_but_is_no_annotation() -> None:
    pairs = readings(300, focal=True)
    inside = np.mean([share_inside(one, path) for one, path in pairs])
    area = np.mean([one.findings[0].mask.mean() for one, _ in pairs])
    assert 5 <= inside / area <= 14  # 8 in the SIIM masks under CXR-P gaze
    columns, rows = np.arange(0, W, 2) + 0.5, np.arange(0, H, 2) + 0.5
    on_lesion = []
    for one, path in pairs:
        sigma = 0.0246 * H
        g_x = np.exp(-((columns - path.x[:, None]) ** 2) / (2 * sigma**2))
        g_y = np.exp(-((rows - path.y[:, None]) ** 2) / (2 * sigma**2))
        gaze_map = (g_y * path.duration[:, None]).T @ g_x
        row, column = np.unravel_index(gaze_map.argmax(), gaze_map.shape)
        on_lesion.append(one.findings[0].mask[int(rows[row]), int(columns[column])])
    assert 0.4 <= np.mean(on_lesion) <= 0.7


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_lesion_share_knob_is_the_share_of_the_dwell(share: float) -> None:
    knobs = replace(PhantomKnobs(), gaze_lesion_share=share, gaze_miss_rate=0.0)
    got = [path.duration[path.finding >= 0].sum() / path.duration.sum() for _, path in readings(200, knobs, focal=True)]
    assert abs(np.mean(got) - share) < 0.05


def test_miss_rate_knob_is_the_share_of_readings_that_never_dwell_on_the_sign() -> None:
    knobs = replace(PhantomKnobs(), gaze_miss_rate=0.3)
    pairs = readings(300, knobs, focal=True)
    missed = np.array([path.missed for _, path in pairs])
    assert 0.2 < missed.mean() < 0.4
    assert all((path.finding == -1).all() for _, path in pairs if path.missed)
    assert np.mean([share_inside(*pair) for pair, miss in zip(pairs, missed, strict=True) if miss]) < 0.06
    assert not any(path.missed for _, path in readings(50, knobs, focal=False))


def test_noise_knob_widens_the_gaze_around_the_lesion() -> None:
    distance = {}
    for noise in (0.0, 0.06):
        knobs = replace(PhantomKnobs(), gaze_noise=noise, gaze_miss_rate=0.0)
        distance[noise] = np.mean([share_inside(*pair) for pair in readings(100, knobs, focal=True)])
    assert distance[0.06] < 0.8 * distance[0.0]


def test_same_stream_same_reading_and_readers_differ() -> None:
    one = film(True, np.random.default_rng(0))
    first, again, other = (
        simulate_reading(one, PhantomKnobs(), np.random.default_rng(5), reader=reader) for reader in (1, 1, 2)
    )
    assert np.array_equal(first.x, again.x)
    assert np.array_equal(first.start, again.start)
    assert len(first) != len(other) or not np.allclose(first.x, other.x)
