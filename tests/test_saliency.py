import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaze_lightning.gaze import Fixations, render_saliency, render_saliency_batch, scaled_sigma

SAMPLINGS = ["auto", "point", "cell"]
NORMALISATIONS = ["sum", "max", "none"]


def points(n, size, seed=0, low=0.3, high=6.0):
    """x, y, weight, sigma_x, sigma_y [5, n] and rectangles [n, 4] around each point, in cells of a map."""
    rng = np.random.default_rng(seed)
    h, w = size
    x, y = rng.uniform(-1, w + 1, n), rng.uniform(-1, h + 1, n)
    margin = rng.uniform(0.2, max(size) / 2, (4, n))
    shown = np.stack([x - margin[0], y - margin[1], x + margin[2], y + margin[3]], axis=1)
    return np.stack([x, y, rng.uniform(0.1, 1, n), *rng.uniform(low, high, (2, n))]), shown


def phi(z):
    return 0.5 * math.erfc(-z / math.sqrt(2))


def literal(fixations, size, visible=None, sampling="auto", density=False, normalise="sum"):
    """The formulas of the docstring, cell by cell."""
    h, w = size
    result = np.zeros(size)

    def profile(k, p, s, low, high):
        rule = ("cell" if s < 1 else "point") if sampling == "auto" else sampling
        top = 1 / (math.sqrt(2 * math.pi) * s)
        if rule == "point":
            value = math.exp(-((k + 0.5 - p) ** 2) / (2 * s * s)) if low <= k + 0.5 <= high and low < high else 0.0
            return value * top if density else value
        a, b = min(max(k, low), max(low, high)), min(max(k + 1, low), max(low, high))
        return (phi((b - p) / s) - phi((a - p) / s)) * (1 if density else 1 / top)

    for n, (x, y, weight, sx, sy) in enumerate(fixations.T):
        x0, y0, x1, y1 = (-math.inf, -math.inf, math.inf, math.inf) if visible is None else visible[n]
        for u in range(h):
            for v in range(w):
                result[u, v] += weight * profile(u, y, sy, y0, y1) * profile(v, x, sx, x0, x1)
    total = {"sum": result.sum(), "max": result.max(), "none": 1.0}[normalise]
    return result / total if total > 0 else result


def batch(fixations, visible=None, dtype=torch.float64):
    points_tensor = torch.from_numpy(fixations.T.copy()).to(dtype)[None]
    shown = None if visible is None else torch.from_numpy(visible)[None].to(dtype)
    return points_tensor, torch.ones(points_tensor.shape[:2], dtype=torch.bool), shown


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("clipped", [False, True])
def test_numpy_and_torch_equal_the_literal_loop(sampling, normalise, density, clipped):
    size = (11, 17)
    f, shown = points(6, size)
    visible = shown if clipped else None
    options = {"sampling": sampling, "density": density, "normalise": normalise}
    expected = literal(f, size, visible, **options)
    tolerance = 1e-12 * expected.max()
    np.testing.assert_allclose(render_saliency(*f, size, visible=visible, **options), expected, rtol=0, atol=tolerance)
    fixations, mask, rectangles = batch(f, visible)
    rendered = render_saliency_batch(fixations, mask, size, visible=rectangles, **options)
    assert rendered.shape == (1, 1, *size)
    assert rendered.dtype == torch.float64
    np.testing.assert_allclose(rendered[0, 0].numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("n", "size"), [(1, (7, 7)), (45, (224, 224)), (60, (48, 40))])
def test_float32_batch_equals_numpy_within_a_millionth_of_the_maximum(n, size):
    f, _ = points(n, size, low=0.4, high=12)
    f = f.astype(np.float32).astype(np.float64)
    expected = render_saliency(*f, size)
    fixations, mask, _ = batch(f, dtype=torch.float32)
    rendered = render_saliency_batch(fixations, mask, size)
    assert rendered.dtype == torch.float32
    assert np.abs(rendered[0, 0].numpy() - expected).max() < 1e-6 * expected.max()


def test_a_one_pixel_fixation_lands_in_its_cell():
    for x, y in [(0.5, 0.5), (12.5, 3.5), (16.5, 10.5)]:
        saliency = render_saliency([x], [y], [1], [0.05], [0.05], (11, 17))
        assert saliency[int(y), int(x)] == pytest.approx(1, abs=1e-12)


def test_integer_pixel_index_plus_a_half_is_the_peak_and_symmetric():
    saliency = render_saliency([8.5], [5.5], [1], [2.0], [2.0], (11, 17), normalise="none")
    assert saliency[5, 8] == 1.0
    np.testing.assert_allclose(saliency, saliency[::-1, ::-1], atol=1e-15)


def test_cell_integral_equals_the_sum_of_a_finely_sampled_map():
    size, fine = (5, 6), 64
    f, shown = points(4, size, low=0.25, high=0.9)
    shown = np.round(shown * fine) / fine  # rectangle edges on the fine grid
    coarse = render_saliency(*f, size, visible=shown, sampling="cell", density=True, normalise="none")
    scaled = f * np.array([fine, fine, 1, fine, fine])[:, None]
    finely = render_saliency(
        *scaled, (5 * fine, 6 * fine), visible=shown * fine, sampling="point", density=True, normalise="none"
    )
    summed = finely.reshape(5, fine, 6, fine).sum((1, 3))
    np.testing.assert_allclose(coarse, summed, atol=2e-4 * coarse.max())


def test_auto_integrates_narrow_axes_and_samples_wide_ones():
    one = ([3.2], [2.7], [1])
    both = render_saliency(*one, [0.4], [2.0], (6, 6), normalise="none")
    expected = np.outer(
        render_saliency(*one, [2.0], [2.0], (6, 6), sampling="point", normalise="none")[:, 3],
        render_saliency(*one, [0.4], [0.4], (6, 6), sampling="cell", normalise="none")[2],
    )
    np.testing.assert_allclose(both / both.sum(), expected / expected.sum(), atol=1e-14)


def test_point_sampling_misses_what_the_integral_keeps():
    at_corner = ([3.0], [3.0], [1], [0.29], [0.29], (6, 6))
    mass = render_saliency(*at_corner, density=True, normalise="none")
    sampled = render_saliency(*at_corner, sampling="point", density=True, normalise="none")
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    assert abs(sampled.sum() - 1) > 0.2


def test_density_gives_every_gaussian_its_weight_as_mass():
    saliency = render_saliency([50], [50], [2.5], [4], [7], (100, 100), density=True, normalise="none")
    assert saliency.sum() == pytest.approx(2.5, rel=1e-9)


sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))
seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 12), seeds, st.booleans(), st.sampled_from(SAMPLINGS))
def test_flip_of_points_equals_flip_of_map(size, n, seed, clipped, sampling):
    f, shown = points(n, size, seed)
    fixations = Fixations(f[0], f[1], f[2], f[3], f[4], np.zeros(n), shown if clipped else None)
    flipped = fixations.affine(-1, -1, size[1], size[0])

    def render(r):
        return render_saliency(r.x, r.y, r.duration, r.sigma_x, r.sigma_y, size, visible=r.visible, sampling=sampling)

    np.testing.assert_allclose(render(flipped), render(fixations)[::-1, ::-1], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 12), seeds, st.integers(-5, 5), st.integers(-5, 5))
def test_shift_by_whole_cells_shifts_the_map(size, n, seed, dx, dy):
    f, shown = points(n, size, seed)
    wide = (size[0] + 10, size[1] + 10)
    home = np.array([5, 5, 0, 0, 0])[:, None]
    box = np.array([5, 5, 5, 5])
    away = np.array([dx, dy])
    before = render_saliency(*(f + home), wide, visible=shown + box, normalise="none")
    moved = f + home + np.array([dx, dy, 0, 0, 0])[:, None]
    after = render_saliency(*moved, wide, visible=shown + box + np.tile(away, 2), normalise="none")
    h, w = wide
    np.testing.assert_allclose(
        after[max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)],
        before[max(0, -dy) : h + min(0, -dy), max(0, -dx) : w + min(0, -dx)],
        atol=1e-10,
    )


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 12), seeds, st.floats(0.25, 4), st.floats(0.25, 4))
def test_canvas_is_only_a_unit(size, n, seed, zoom_x, zoom_y):
    f, shown = points(n, size, seed)
    fixations, mask, rectangles = batch(f, shown)
    expected = render_saliency_batch(fixations, mask, size, visible=rectangles, sampling="cell")
    canvas = (size[0] * zoom_y, size[1] * zoom_x)
    scaled = fixations * torch.tensor([zoom_x, zoom_y, 1, zoom_x, zoom_y])
    boxes = rectangles * torch.tensor([zoom_x, zoom_y, zoom_x, zoom_y])
    rendered = render_saliency_batch(scaled, mask, size, canvas=canvas, visible=boxes, sampling="cell")
    torch.testing.assert_close(rendered, expected, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 12), seeds, st.sampled_from(SAMPLINGS))
def test_map_is_a_distribution(size, n, seed, sampling):
    f, _ = points(n, size, seed, low=0.5)
    saliency = render_saliency(*f, size, sampling=sampling)
    assert np.isfinite(saliency).all()
    assert (saliency >= 0).all()
    assert saliency.sum() == pytest.approx(1, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(2, 12), seeds, st.integers(1, 11))
def test_weights_add(size, n, seed, cut):
    f, shown = points(n, size, seed)
    cut = min(cut, n - 1)
    whole = render_saliency(*f, size, visible=shown, normalise="none")
    parts = [render_saliency(*f[:, s], size, visible=shown[s], normalise="none") for s in np.s_[:cut, cut:]]
    np.testing.assert_allclose(whole, sum(parts), atol=1e-12)
    doubled = f * np.array([1, 1, 2, 1, 1])[:, None]
    np.testing.assert_allclose(render_saliency(*doubled, size, visible=shown, normalise="none"), 2 * whole, atol=1e-12)
    np.testing.assert_allclose(
        render_saliency(*doubled, size, visible=shown), render_saliency(*f, size, visible=shown), atol=1e-12
    )


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_nothing_to_show_is_a_zero_map(sampling, normalise):
    options = {"sampling": sampling, "normalise": normalise}
    none = [np.zeros(0)] * 5
    hidden = np.array([[2.5, 0, 2.5, 5]])  # without area, through a cell centre
    away = np.array([[90.0, 90, 99, 99]])
    one = [np.array([2.5])] * 2 + [np.ones(1)] * 3
    far = [np.array([1e6])] * 2 + [np.ones(1)] * 3
    weightless = [np.array([2.5])] * 2 + [np.zeros(1), np.ones(1), np.ones(1)]
    for f, visible in ((none, None), (one, hidden), (one, away), (far, None), (weightless, None)):
        assert not render_saliency(*f, (4, 5), visible=visible, **options).any()
        fixations, mask, rectangles = batch(np.stack(f), visible)
        assert not render_saliency_batch(fixations, mask, (4, 5), visible=rectangles, **options).any()
    fixations, mask, _ = batch(np.stack(one))
    assert not render_saliency_batch(fixations, ~mask, (4, 5), **options).any()


def test_zero_map_beside_a_rendered_one_in_a_batch():
    f, _ = points(5, (8, 9))
    fixations, mask, _ = batch(f)
    both = render_saliency_batch(fixations.repeat(2, 1, 1), torch.cat([mask, ~mask]), (8, 9))
    assert both[0].sum() == pytest.approx(1)
    assert not both[1].any()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_padding_is_ignored_whatever_it_holds(sampling):
    f, shown = points(5, (8, 9))
    fixations, mask, rectangles = batch(f, shown)
    expected = render_saliency_batch(fixations, mask, (8, 9), visible=rectangles, sampling=sampling)
    padded = torch.cat([fixations, torch.full((1, 3, 5), torch.nan)], dim=1).requires_grad_()
    boxes = torch.cat([rectangles, torch.full((1, 3, 4), torch.nan)], dim=1)
    longer = torch.cat([mask, torch.zeros(1, 3, dtype=torch.bool)], dim=1)
    rendered = render_saliency_batch(padded, longer, (8, 9), visible=boxes, sampling=sampling)
    torch.testing.assert_close(rendered, expected)
    rendered.square().sum().backward()
    assert torch.isfinite(padded.grad).all()
    assert not padded.grad[:, 5:].any()


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_gradient_equals_finite_differences(normalise):
    f, _ = points(4, (6, 7), low=0.5)
    f[3:, 0] = 0.6  # both rules of auto, away from their seam
    fixations, mask, _ = batch(f)
    torch.autograd.gradcheck(
        lambda t: render_saliency_batch(t, mask, (6, 7), normalise=normalise), fixations.requires_grad_()
    )


def test_autocast_does_not_round_the_map():
    f, _ = points(20, (32, 32))
    fixations, mask, _ = batch(f)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rendered = render_saliency_batch(fixations.float(), mask, (32, 32))
    expected = render_saliency(*f, (32, 32))
    assert np.abs(rendered[0, 0].numpy() - expected).max() < 1e-5 * expected.max()


def test_ten_thousand_points_render_in_time_and_sum_to_one():
    f, _ = points(10_000, (224, 224), high=9)
    start = time.perf_counter()
    saliency = render_saliency(*f, (224, 224))
    fixations, mask, _ = batch(f)
    rendered = render_saliency_batch(fixations.float(), mask, (224, 224))
    assert time.perf_counter() - start < 10
    assert saliency.sum() == pytest.approx(1, abs=1e-9)
    assert rendered.double().sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("index", "bad"), [(0, np.nan), (1, np.inf), (2, -1.0), (2, np.nan), (3, 0.0), (4, -2.0), (4, np.nan)]
)
def test_bad_values_are_refused(index, bad):
    f, _ = points(3, (5, 5))
    f[index, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        render_saliency(*f, (5, 5))


def test_shapes_and_options_that_do_not_fit_are_refused():
    f, shown = points(3, (5, 5))
    fixations, mask, rectangles = batch(f, shown)
    with pytest.raises(ValueError, match=r"\[N\]"):
        render_saliency(f[0][:2], *f[1:], (5, 5))
    with pytest.raises(ValueError, match="visible"):
        render_saliency(*f, (5, 5), visible=shown[:2])
    with pytest.raises(ValueError, match="sampling"):
        render_saliency(*f, (5, 5), sampling="area")
    with pytest.raises(ValueError, match="normalise"):
        render_saliency_batch(fixations, mask, (5, 5), normalise="mean")
    with pytest.raises(ValueError, match="size"):
        render_saliency_batch(fixations, mask, (0, 5))
    with pytest.raises(ValueError, match=r"\[B, N, 5\]"):
        render_saliency_batch(fixations[..., :4], mask, (5, 5))
    with pytest.raises(ValueError, match="visible"):
        render_saliency_batch(fixations, mask, (5, 5), visible=rectangles[:, :2])


def test_papers_sigma_scales_with_the_film():
    assert scaled_sigma(3072, 2560) == 75.5
    assert scaled_sigma(224, 100) == pytest.approx(5.505, abs=1e-3)
    with pytest.raises(ValueError, match="positive"):
        scaled_sigma(0, 1)


def test_papers_sigma_is_a_share_of_the_padded_height():
    np.testing.assert_allclose(scaled_sigma([3072, 2048, 3056], [2544, 2560, 2544]), [75.5, 75.5, 75.5 * 3056 / 3072])
    np.testing.assert_allclose(scaled_sigma(1000, [800, 2000]), [75.5 * 1000 / 3072, 75.5 * 2400 / 3072])
