import albumentations as A
import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from data_modules.appearance import blurred, covered, with_gamma
from data_modules.augment import PRESETS, Augmentation, Augmenter, affine_from_probes, move_fixations
from data_modules.crops import draw_crop
from data_modules.errors import DataError
from data_modules.samplers import sample_generator
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
    "random crop": (Augmentation(crop=0.4), {"round_spots": False}, 0.02),
    "crop of a moved film": (Augmentation(rotate=15, translate=0.05, flip=0.5, crop=0.5), {}, 0.02),
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


def test_named_augmentations_move_as_they_always_did():
    """Affines of the version without crops; documented runs depend on them."""
    stored = {
        "light": [
            [0.9522487, 0.020795, -0.0881032, -0.020795, 0.9522486, 1.123865],
            [0.9548954, 0.015984, 2.036948, -0.015984, 0.9548956, 1.8043751],
            [0.9940696, -0.011801, 0.8036668, 0.011801, 0.9940696, 0.8126202],
        ],
        "strong": [
            [0.8566095, 0.0374307, -0.0610555, -0.0374307, 0.8566095, 2.37997],
            [0.8646032, 0.0289533, 6.0261145, -0.0289533, 0.8646032, 5.6571784],
            [0.982142, -0.0233221, 1.8337848, 0.0233221, 0.982142, 2.9243009],
        ],
    }
    for name, matrices in stored.items():
        for key, matrix in zip([(0, 0), (3, 7), (12, 345)], matrices, strict=True):
            found = Augmenter(PRESETS[name], SIZE, 11)(np.zeros(SIZE, np.uint8), gaze(), BOX, *key).matrix
            np.testing.assert_allclose(found.ravel(), matrix, atol=2e-6)


@pytest.mark.parametrize("name", ["light", "strong"])
def test_named_augmentations_show_what_they_always_showed(name):
    """Bit for bit what the version without crops, blur and gamma did, written out."""
    o, film = PRESETS[name], np.random.default_rng(5).integers(0, 256, SIZE).astype(np.uint8)
    tones = A.RandomBrightnessContrast(o.brightness, o.contrast, brightness_by_max=True, p=1.0)
    shift = (-o.translate, o.translate)
    place = A.Affine(
        rotate=(-o.rotate, o.rotate), scale=(1 - o.scale, 1 + o.scale), translate_percent={"x": shift, "y": shift},
        keep_ratio=True, interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0,
    )  # fmt: skip
    for key in [(0, 0), (3, 7), (12, 345)]:
        generator = np.random.default_rng((11, *key))
        seeds = [int(generator.integers(2**32)) for _ in range(3)]  # the second is of the flip that never comes
        for transform, seed in ((tones, seeds[0]), (place, seeds[2])):
            transform.set_random_seed(seed)
        wanted = place(image=tones(image=film)["image"])["image"]
        np.testing.assert_array_equal(Augmenter(o, SIZE, 11)(film, gaze(), BOX, *key).image, wanted)


def test_views_of_a_sample_are_independent_and_the_first_is_the_only_one_of_before():
    film, fixations = as_film(render(gaze())), gaze()
    augmenter = Augmenter(PRESETS["strong"], SIZE, 3)
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    views = [[augmenter(film, fixations, BOX, *key, view=view) for key in keys] for view in (0, 1)]
    for key, first in zip(keys, views[0], strict=True):
        np.testing.assert_array_equal(augmenter(film, fixations, BOX, *key).image, first.image)
    assert len({result.matrix.tobytes() for results in views for result in results}) == 18
    assert sample_generator(1, 2, 3).random() == np.random.default_rng((1, 2, 3)).random()


def crops(options, fixations, n=60, box=BOX):
    augmenter = Augmenter(options, SIZE, seed=2)
    film = np.full(SIZE, 100, np.uint8)
    return [augmenter(film, fixations, box, 0, index) for index in range(n)]


def kept(fixations, moved):
    """Share of the weight of the points on the canvas that is still there."""
    here = (fixations.x >= 0) & (fixations.x < 80) & (fixations.y >= 0) & (fixations.y < 96)
    still = here & (moved.x >= 0) & (moved.x < 80) & (moved.y >= 0) & (moved.y < 96)
    return fixations.duration[still].sum() / fixations.duration[here].sum()


def test_crops_are_as_large_as_asked_for_and_keep_their_shape():
    zooms = np.array([result.matrix for result in crops(Augmentation(crop=0.25), Fixations.empty(), 300)])
    areas = 1 / (zooms[:, 0, 0] * zooms[:, 1, 1])
    np.testing.assert_allclose(zooms[:, 0, 0], zooms[:, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(zooms[:, [0, 1], [1, 0]], 0, atol=1e-6)
    assert areas.min() > 0.25 - 1e-6
    assert areas.max() <= 1 + 1e-6
    np.testing.assert_allclose(areas.mean(), 0.625, atol=0.05)
    corners = zooms[:, :, 2] / zooms[:, 0, :1]  # minus the crop's first corner, canvas pixels
    assert (corners <= 1e-4).all()
    assert (-corners <= np.array([80, 96]) * (1 - np.sqrt(areas))[:, None] + 1e-4).all()


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_a_crop_keeps_its_share_of_the_gaze(share):
    g = np.random.default_rng(4)
    n = 20
    fixations = Fixations(
        g.uniform(-5, 85, n), g.uniform(-5, 101, n), g.uniform(0.1, 1, n), *np.full((2, n), 2.0), g.random(n)
    )
    results = crops(Augmentation(crop=0.3, crop_keeps_gaze=share), fixations)
    zooms = np.array([result.matrix[0, 0] for result in results])
    cropped = zooms > 1 + 1e-6
    assert all(
        kept(fixations, result.fixations) >= share - 1e-9 for result, own in zip(results, cropped, strict=True) if own
    )
    free = crops(Augmentation(crop=0.3, crop_keeps_gaze=0), fixations)
    assert min(kept(fixations, result.fixations) for result in free) < share, "the rule has something to do"
    if share < 1:
        assert cropped.mean() > 0.2


def test_where_no_crop_keeps_the_gaze_there_is_none():
    corners = Fixations([0.1, 79.9, 0.1, 79.9], [0.1, 0.1, 95.9, 95.9], *np.ones((4, 4)))
    for result in crops(Augmentation(crop=0.3, crop_keeps_gaze=1.0), corners, 10):
        np.testing.assert_allclose(result.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-5)
        assert (result.image == 100).all()


def test_weights_decide_what_a_crop_must_keep():
    """One long fixation in the middle and many short ones at the corners: by duration alone crops are free."""
    x, y = [40, *[0.5, 79.5] * 10], [48, *[0.5, 95.5] * 10]
    fixations = Fixations(x, y, [100, *[0.1] * 20], *np.ones((2, 21)), np.arange(21))
    options = Augmentation(crop=0.5)
    film = np.zeros(SIZE, np.uint8)
    cropped = {}
    for weight in ("duration", "count"):
        augmenter = Augmenter(options, SIZE, 2, weight=weight)
        cropped[weight] = np.mean([augmenter(film, fixations, BOX, 0, n).matrix[0, 0] > 1.03 for n in range(40)])
    assert cropped["duration"] > 0.8
    assert cropped["count"] < 0.1


def test_a_crop_shows_some_of_the_film():
    box = (0.0, 40.0, 80.0, 56.0)
    for result in crops(Augmentation(crop=0.02), Fixations.empty(), 100, box):
        x0, y0, x1, y1 = result.film_box
        assert x1 - x0 >= 1
        assert y1 - y0 >= 1


def test_crops_take_the_same_numbers_whatever_becomes_of_them():
    matrix, none = np.eye(3)[:2], np.zeros((0, 2))
    after = []
    for points in (none, np.array([[0.1, 0.1], [79.9, 95.9]])):
        generator = np.random.default_rng(0)
        corners = np.array([[0.0, 0], [80, 0], [0, 96], [80, 96]])
        draw_crop(generator, 0.3, SIZE, matrix, corners, points, np.ones(len(points)), 1.0)
        after.append(generator.random())
    assert after[0] == after[1]


def test_blur_is_scipys_within_the_film_and_leaves_the_padding_alone():
    film = np.zeros(SIZE, np.uint8)
    film[16:80] = np.random.default_rng(0).integers(40, 216, (64, 80))
    result = blurred(film, (0.0, 16.0, 80.0, 80.0), 1.7)
    wanted = gaussian_filter(film[16:80].astype(float), 1.7, mode="reflect", truncate=5)
    assert np.abs(result[16:80] - wanted).max() < 2.5
    assert not result[:16].any()
    assert not result[80:].any()


def test_films_are_blurred_as_often_as_asked_for():
    film = np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8)
    augmenter = Augmenter(Augmentation(blur=0.3, blur_sigma=(0.01, 0.02)), SIZE, 0)
    spread = np.array([augmenter(film, Fixations.empty(), BOX, 0, n).image.std() for n in range(300)])
    assert (spread < 0.7 * film.std()).mean() == pytest.approx(0.3, abs=0.08)
    assert (np.abs(spread - film.std()) < 0.5).mean() == pytest.approx(0.7, abs=0.08)


def test_gamma_bends_grey_values_between_black_and_white():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(with_gamma(values, 2.0), np.rint(values.astype(float) ** 2 / 255))
    np.testing.assert_array_equal(with_gamma(values, 1.0), values)
    augmenter = Augmenter(Augmentation(gamma=0.5), SIZE, 0)
    grey = [augmenter(np.full(SIZE, 128, np.uint8), Fixations.empty(), BOX, 0, n).image[48, 40] for n in range(200)]
    lowest, highest = 255 * (128 / 255) ** 1.5, 255 * (128 / 255) ** (1 / 1.5)
    assert lowest - 0.51 <= min(grey) < lowest + 8
    assert highest - 8 < max(grey) <= highest + 0.51


def test_a_film_whose_edge_lies_a_rounding_error_before_the_canvas_stays_visible():
    film = np.full(SIZE, 120, np.uint8)
    box = (-7e-15, -7e-15, 80.0, 96.0)
    assert film[covered(box)].shape == SIZE
    result = Augmenter(Augmentation(brightness=0.1, blur=1.0), SIZE, 0)(film, gaze(), box, 0, 0)
    assert result.image.min() > 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0.0}, "crop must be above 0"),
        ({"crop": 1.2}, "crop must be"),
        ({"crop_keeps_gaze": -0.1}, "crop_keeps_gaze must be"),
        ({"flip": 2.0}, "flip must be"),
        ({"blur": -1.0}, "blur must be"),
        ({"blur_sigma": (0.02, 0.01)}, "smaller one first"),
        ({"blur_sigma": (0.0, 0.01)}, "positive"),
        ({"gamma": -0.5}, "gamma must be"),
    ],
)
def test_impossible_augmentations_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        Augmentation(**options)


def test_the_preset_for_two_views_changes_tones_and_leaves_sides_and_gaze():
    preset = PRESETS["contrastive"]
    assert (preset.flip, preset.crop, preset.blur) == (0, 1, 0.5)
    assert min(preset.brightness, preset.contrast) > PRESETS["strong"].brightness
    assert preset.rotate <= PRESETS["light"].rotate
    assert preset.translate <= PRESETS["light"].translate


def test_what_could_differ_between_two_views():
    assert not Augmentation().varies
    assert not Augmentation(flip=1.0).varies
    assert Augmentation(flip=0.5).varies
    assert Augmentation(crop=0.9).varies
    assert Augmentation(blur=0.1).varies
    assert all(preset.varies for preset in PRESETS.values() if preset is not None)
