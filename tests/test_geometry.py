import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.geometry import FilmFit, area_resample

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(film=sizes, canvas=sizes)
def test_film_is_centred_touches_two_borders_and_is_never_cropped(film, canvas):
    x0, y0, x1, y1 = FilmFit.of(film, canvas).box(film)
    assert min(x0, y0) == pytest.approx(0, abs=1e-9)
    assert x0 + x1 == pytest.approx(canvas[1])
    assert y0 + y1 == pytest.approx(canvas[0])
    assert min(x0, y0) > -1e-9
    assert (x1 - x0) * film[0] == pytest.approx((y1 - y0) * film[1]), "the aspect is kept"


def literal_area(image, fit, canvas):
    """Integral of the film over every canvas pixel, cell by cell."""
    out = np.zeros(canvas)
    for r in range(canvas[0]):
        for c in range(canvas[1]):
            for i in range(image.shape[0]):
                for j in range(image.shape[1]):
                    y0, y1 = fit.scale * i + fit.offset_y, fit.scale * (i + 1) + fit.offset_y
                    x0, x1 = fit.scale * j + fit.offset_x, fit.scale * (j + 1) + fit.offset_x
                    height = max(0.0, min(y1, r + 1) - max(y0, r))
                    width = max(0.0, min(x1, c + 1) - max(x0, c))
                    out[r, c] += image[i, j] * height * width
    return out


@pytest.mark.parametrize(("film", "canvas"), [((13, 9), (6, 5)), ((7, 11), (6, 5)), ((3, 4), (9, 7)), ((8, 8), (8, 8))])
def test_area_resampling_equals_the_literal_integral(film, canvas):
    image = np.random.default_rng(0).uniform(0, 255, film)
    fit = FilmFit.of(film, canvas)
    np.testing.assert_allclose(area_resample(image, fit, canvas), literal_area(image, fit, canvas), atol=2e-4)


@given(film=sizes, canvas=sizes, seed=st.integers(0, 99))
def test_centre_of_mass_moves_exactly_as_a_point_does(film, canvas, seed):
    image = np.random.default_rng(seed).uniform(1, 2, film)
    fit = FilmFit.of(film, canvas)
    out = area_resample(image, fit, canvas).astype(np.float64)

    def centre(values):
        rows, columns = np.indices(values.shape) + 0.5
        return np.array([(values * columns).sum(), (values * rows).sum()]) / values.sum()

    # a film pixel is spread over the canvas pixels it covers; only inside one of them its position is rounded
    np.testing.assert_allclose(
        centre(out), fit.scale * centre(image) + [fit.offset_x, fit.offset_y], atol=0.51 / max(fit.scale, 1) + 1e-3
    )


def test_a_flat_film_stays_flat_inside_and_zero_outside():
    fit = FilmFit.of((40, 20), (30, 30))
    out = area_resample(np.full((40, 20), 100, np.uint8), fit, (30, 30))
    x0, _, x1, _ = fit.box((40, 20))
    assert (x0, x1) == (7.5, 22.5)
    np.testing.assert_allclose(out[:, 8:22], 100, rtol=1e-5)
    np.testing.assert_allclose(out[:, [7, 22]], 50, rtol=1e-5)
    assert not out[:, :7].any()
    assert not out[:, 23:].any()


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        FilmFit.of((0, 3), (4, 4))
