import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaze_lightning.gaze import Fixations


def reading(n: int = 4, seed: int = 0, visible: bool = True) -> Fixations:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 100, (n, 2, 2)), axis=1).reshape(n, 4)  # x0, y0, x1, y1
    return Fixations(
        x=rng.uniform(0, 100, n),
        y=rng.uniform(0, 80, n),
        duration=rng.uniform(0.1, 1, n),
        sigma_x=rng.uniform(1, 9, n),
        sigma_y=rng.uniform(1, 9, n),
        start=np.arange(n) / 2,
        visible=corners if visible else None,
    )


def arrays(f: Fixations) -> list[np.ndarray]:
    return [f.x, f.y, f.duration, f.sigma_x, f.sigma_y, f.start] + ([] if f.visible is None else [f.visible])


def test_arrays_become_float64_and_length_is_the_number_of_fixations():
    f = Fixations([1], [2], [3], [4], [5], [0])  # type: ignore[arg-type]
    assert len(f) == 1
    assert all(a.dtype == np.float64 for a in arrays(f))


def test_empty_reading_goes_through_every_operation():
    f = Fixations.empty()
    assert len(f) == 0
    assert len(f.affine(-2, 1, 3, 4)) == 0
    assert len(f.select(np.zeros(0, dtype=bool))) == 0
    assert f.weights("count").shape == f.weights("density").shape == (0,)


@pytest.mark.parametrize("field", ["y", "duration", "sigma_x", "start", "visible"])
def test_differing_lengths_are_refused_by_name(field):
    values = vars(reading()).copy()
    values[field] = values[field][:2]
    with pytest.raises(ValueError, match=field):
        Fixations(**values)


@pytest.mark.parametrize("field", ["x", "y", "duration", "sigma_y", "start", "visible"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_rows(field, bad):
    values = {name: value.copy() for name, value in vars(reading()).items()}
    values[field][2] = bad
    with pytest.raises(ValueError, match=rf"{field} is not finite in 1 of 4 rows: \[2\]"):
        Fixations(**values)


@pytest.mark.parametrize(("field", "bad"), [("sigma_x", 0.0), ("sigma_y", -1.0), ("duration", -0.1)])
def test_impossible_values_are_refused(field, bad):
    values = {name: value.copy() for name, value in vars(reading()).items()}
    values[field][1] = bad
    with pytest.raises(ValueError, match=r"in 1 of 4 rows: \[1\]"):
        Fixations(**values)


def test_inverted_rectangle_is_refused_and_one_without_area_is_not():
    one = [np.ones(1)] * 6
    with pytest.raises(ValueError, match="inverted"):
        Fixations(*one, visible=np.array([[5.0, 0, 4, 1]]))
    assert len(Fixations(*one, visible=np.array([[4.0, 0, 4, 1]]))) == 1


def test_select_keeps_order_and_all_fields():
    f, keep = reading(), np.array([True, False, True, True])
    for before, after in zip(arrays(f), arrays(f.select(keep)), strict=True):
        np.testing.assert_array_equal(after, before[keep])


@pytest.mark.parametrize("keep", [np.array([0, 2]), np.array([True, False]), np.array([1, 0, 1, 1])])
def test_select_refuses_anything_but_a_mask(keep):
    with pytest.raises(ValueError, match="bool"):
        reading().select(keep)


scale = st.floats(0.1, 10) | st.floats(-10, -0.1)
offset = st.floats(-100, 100)


@given(scale, scale, offset, offset, st.booleans())
def test_affine_and_its_inverse_give_back_the_reading(ax, ay, bx, by, visible):
    f = reading(visible=visible)
    back = f.affine(ax, ay, bx, by).affine(1 / ax, 1 / ay, -bx / ax, -by / ay)
    for before, after in zip(arrays(f), arrays(back), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-9)


def test_flip_mirrors_points_and_rectangle_and_keeps_sigma():
    f = Fixations(*(np.array([v]) for v in (10.5, 3, 1, 2, 4, 0)), visible=np.array([[1.0, 2, 30, 7]]))
    flipped = f.affine(-1, 1, 100, 0)
    assert flipped.x[0] == 89.5
    assert flipped.y[0] == 3
    assert (flipped.sigma_x[0], flipped.sigma_y[0]) == (2, 4)
    assert flipped.visible is not None
    assert flipped.visible[0].tolist() == [70, 2, 99, 7]


def test_each_axis_scales_its_own_position_sigma_and_rectangle():
    f = Fixations(*(np.array([v]) for v in (10, 3, 1, 2, 4, 0)), visible=np.array([[1.0, 2, 30, 7]]))
    scaled = f.affine(2, 5, 100, 1000)
    assert (scaled.x[0], scaled.y[0], scaled.sigma_x[0], scaled.sigma_y[0]) == (120, 1015, 4, 20)
    assert scaled.visible is not None
    assert scaled.visible[0].tolist() == [102, 1010, 160, 1035]
    assert (scaled.duration[0], scaled.start[0]) == (1, 0)


@pytest.mark.parametrize("numbers", [(0, 1, 0, 0), (1, 0, 0, 0), (np.nan, 1, 0, 0), (1, 1, np.inf, 0)])
def test_degenerate_affine_is_refused(numbers):
    with pytest.raises(ValueError, match="affine"):
        reading().affine(*numbers)


def test_weights_are_seconds_ones_or_densities():
    f = reading()
    np.testing.assert_array_equal(f.weights("duration"), f.duration)
    np.testing.assert_array_equal(f.weights("count"), np.ones(4))
    np.testing.assert_allclose(f.weights("density"), f.duration / f.sigma_x / f.sigma_y)
    with pytest.raises(ValueError, match="frames"):
        f.weights("frames")  # type: ignore[arg-type]
