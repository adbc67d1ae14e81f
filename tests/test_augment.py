import numpy as np
import pytest

from data_modules.augment import PRESETS, Augmentation, Augmenter, affine_from_probes, move_fixations
from gaze_lightning.gaze import Fixations, render_saliency

SIZE = (96, 80)
BOX = (0.0, 0.0, 80.0, 96.0)


def gaze(n=12, seed=0, round_spots=True, visible=False):
    """Fixations whose spots stay inside the image when it is moved a little."""
    g = np.random.default_rng(seed)
    x, y = g.uniform(25, 55, n), g.uniform(30, 66, n)
    sigma_x = g.uniform(2, 4, n)
    sigma_y = sigma_x if round_spots else g.uniform(2, 4, n)
    shown = np.stack([x - 6, y - 6, x + 7, y + 5], axis=1) if visible else None
    return Fixations(x, y, g.uniform(0.1, 1, n), sigma_x, sigma_y, np.arange(n), shown)


def render(fixations):
    f = fixations
    return render_saliency(f.x, f.y, f.duration, f.sigma_x, f.sigma_y, SIZE, visible=f.visible, normalise="none")


def as_film(saliency):
    return np.rint(saliency / saliency.max() * 255).astype(np.uint8)


CASES = {
    "flip": (Augmentation(flip=1.0), {"round_spots": False, "visible": False}, 1e-9),
    "crop": (Augmentation(scale=0.2), {"round_spots": False}, 0.02),
    "shift": (Augmentation(translate=0.1), {"round_spots": False}, 0.02),
    "rotate": (Augmentation(rotate=20), {}, 0.02),
    "all at once": (Augmentation(rotate=15, scale=0.15, translate=0.05, flip=0.5), {}, 0.02),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("epoch", range(4))
def test_map_of_moved_points_equals_moved_map(case, epoch):
    options, kind, tolerance = CASES[case]
    fixations = gaze(**kind)
    before = render(fixations)
    result = Augmenter(options, SIZE, seed=1)(as_film(before), fixations, BOX, epoch, 7)
    after = render(result.fixations) / before.max()
    difference = np.abs(result.image / 255 - after).max()
    assert difference < tolerance + 1.5 / 255, "rounding to uint8 and bilinear interpolation are all that differs"
    if case != "flip":
        assert np.abs(result.image / 255 - before / before.max()).max() > 3 * tolerance, "something must have moved"


def test_visible_rectangles_follow_a_flip_exactly():
    fixations = gaze(visible=True, round_spots=False)
    result = Augmenter(Augmentation(flip=1.0), SIZE, seed=0)(np.zeros(SIZE, np.uint8), fixations, BOX, 0, 0)
    np.testing.assert_allclose(render(result.fixations), render(fixations)[:, ::-1], atol=1e-4)


def test_a_rotated_visible_rectangle_covers_its_corners():
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 5], [np.sin(0.3), np.cos(0.3), -2]])
    fixations = gaze(visible=True)
    moved = move_fixations(fixations, turn)
    for before, after in zip(fixations.visible, moved.visible, strict=True):
        corners = np.array([[before[i], before[j], 1] for i in (0, 2) for j in (1, 3)]) @ turn.T
        np.testing.assert_allclose(after, [*corners.min(0), *corners.max(0)])


def test_sigma_scales_with_the_root_of_the_determinant_for_round_spots():
    matrix = 1.3 * np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0]])
    moved = move_fixations(gaze(), matrix)
    np.testing.assert_allclose(moved.sigma_x, gaze().sigma_x * np.sqrt(np.linalg.det(matrix[:, :2])))
    np.testing.assert_allclose(moved.sigma_y, moved.sigma_x)


def test_probes_recover_an_affine():
    matrix = np.array([[0.9, -0.2, 3], [0.1, 1.1, -4]])
    probes = np.array([[0.0, 0], [80, 0], [0, 96]])
    np.testing.assert_allclose(affine_from_probes(probes, probes @ matrix[:, :2].T + matrix[:, 2]), matrix, atol=1e-12)


def test_same_seed_epoch_and_index_give_the_same_sample_in_any_order():
    film, fixations = as_film(render(gaze())), gaze()
    strong = PRESETS["strong"]
    first = {key: Augmenter(strong, SIZE, 3)(film, fixations, BOX, *key) for key in [(0, 1), (0, 2), (1, 1)]}
    again = Augmenter(strong, SIZE, 3)
    for key in [(1, 1), (0, 2), (0, 1)]:
        result = again(film, fixations, BOX, *key)
        np.testing.assert_array_equal(result.image, first[key].image)
        np.testing.assert_array_equal(result.fixations.x, first[key].fixations.x)
    assert len({first[key].image.tobytes() for key in first}) == 3
    assert not np.array_equal(Augmenter(strong, SIZE, 4)(film, fixations, BOX, 0, 1).image, first[(0, 1)].image)


def test_the_global_random_generators_are_left_alone():
    import random

    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    before = (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    Augmenter(PRESETS["strong"], SIZE, 3)(np.zeros(SIZE, np.uint8), gaze(), BOX, 0, 0)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002


def test_padding_stays_black_when_brightness_changes():
    box = (0.0, 16.0, 80.0, 80.0)  # a landscape film
    film = np.zeros(SIZE, np.uint8)
    film[16:80] = 120
    changed = [
        Augmenter(Augmentation(brightness=0.3, contrast=0.3), SIZE, 0)(film, gaze(), box, 0, i) for i in range(8)
    ]
    assert all(not result.image[:16].any() and not result.image[80:].any() for result in changed)
    assert len({int(result.image[40, 40]) for result in changed}) > 4


def test_the_films_box_moves_with_the_film():
    box = (10.0, 20.0, 60.0, 70.0)
    film = np.zeros(SIZE, np.uint8)
    film[20:70, 10:60] = 255
    for index in range(6):
        result = Augmenter(Augmentation(scale=0.2, translate=0.05, flip=0.5), SIZE, 0)(film, gaze(), box, 0, index)
        rows, columns = np.nonzero(result.image > 127)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(result.film_box, found, atol=0.75)


def test_a_flip_needs_to_be_asked_for():
    assert Augmentation().flip == 0
    assert all(preset is None or preset.flip == 0 for preset in PRESETS.values())


def test_points_outside_are_moved_and_not_lost():
    fixations = Fixations([-3.0, 90.0], [5.0, 100.0], [1, 1], [2, 2], [2, 2], [0, 1])
    result = Augmenter(Augmentation(flip=1.0), SIZE, 0)(np.zeros(SIZE, np.uint8), fixations, BOX, 0, 0)
    np.testing.assert_allclose(result.fixations.x, [83, -10], atol=1e-4)
