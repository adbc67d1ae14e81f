import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gaze_lightning.models import noise_like, permute_pixels, principal_images, standardise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def films_of(n=40, size=(20, 16), seed=0):
    """uint8, smooth: a common shape of varying strength and a coarse and a fine disturbance."""
    g = generator(seed)
    common = F.interpolate(torch.rand(1, 1, 4, 4, generator=g), size, mode="bilinear") * torch.rand(
        n, 1, 1, 1, generator=g
    )
    coarse = F.interpolate(torch.rand(n, 1, 3, 3, generator=g), size, mode="bilinear")
    fine = torch.rand(n, 1, *size, generator=g)
    return (255 * (0.4 * common + 0.4 * coarse + 0.2 * fine)).to(torch.uint8)


def blocks_of(films, size=7):
    return lambda: iter(films.split(size))


def centred(films):
    x = films.numpy().astype(np.float64).reshape(len(films), -1)
    return x - x.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_films_lose_their_own_mean_and_share_one_standard_deviation(kind):
    films = films_of().to(kind)
    x = centred(films)
    found = standardise(films)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.flatten(1).numpy(), x / np.sqrt((x**2).mean()), atol=2e-6)


@given(st.floats(-3, 3), st.floats(0.1, 9))
@settings(deadline=None, max_examples=20)
def test_exposure_and_common_contrast_do_not_matter(shift, scale):
    films = films_of(4).double() / 255
    own = torch.arange(4).view(4, 1, 1, 1) * shift
    torch.testing.assert_close(standardise(films * scale + own), standardise(films), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("level", [0, 1, 77, 255, 0.1])
def test_a_constant_film_is_exactly_zero(level):
    films = films_of(3, (224, 224)).float()
    films[1] = level
    found = standardise(films)
    assert not found[1].any()
    assert found[0].any()


def test_only_constant_films_are_refused():
    with pytest.raises(ValueError, match="constant"):
        standardise(torch.full((3, 1, 5, 5), 0.1))


def test_principal_images_are_those_of_a_singular_value_decomposition():
    films = films_of()
    x = centred(films)
    _, values, rows = np.linalg.svd(x, full_matrices=False)
    found = principal_images(blocks_of(films), 4, seed=0, passes=12)
    assert found.images.shape == (4, 1, 20, 16)
    assert found.images.dtype == torch.float32
    for image, row in zip(found.images.flatten(1).numpy(), rows, strict=False):
        row = row * np.sign(row[np.abs(row).argmax()]) * np.sqrt(row.size)
        np.testing.assert_allclose(image, row, atol=2e-3)
    assert found.explained == pytest.approx((values[:4] ** 2).sum() / (values**2).sum(), abs=1e-6)


def test_the_usual_number_of_passes_explains_almost_as_much():
    films = films_of(120)
    values = np.linalg.svd(centred(films), compute_uv=False) ** 2
    found = principal_images(blocks_of(films), 20, seed=1)
    best = values[:20].sum() / values.sum()
    assert best - 0.002 < found.explained < best + 1e-6


def test_principal_images_are_orthogonal_of_rms_one_with_a_positive_largest_value():
    images = principal_images(blocks_of(films_of()), 6, seed=0).images.flatten(1)
    torch.testing.assert_close(images @ images.T / images.shape[1], torch.eye(6), atol=1e-5, rtol=0)
    assert (images.max(dim=1).values == images.abs().max(dim=1).values).all()
    torch.testing.assert_close(images.mean(dim=1), torch.zeros(6), atol=1e-5, rtol=0)


def test_explained_is_the_share_that_a_projection_keeps():
    films = films_of()
    found = principal_images(blocks_of(films), 5, seed=0)
    x, basis = centred(films), found.images.flatten(1).numpy() / np.sqrt(320)
    assert found.explained == pytest.approx(((x @ basis.T) ** 2).sum() / (x**2).sum(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 13, 40])
def test_blocks_make_no_difference(size):
    films = films_of()
    found, whole = (principal_images(blocks_of(films, n), 3, seed=0) for n in (size, 1000))
    torch.testing.assert_close(found.images, whole.images, atol=1e-3, rtol=0)
    assert found.explained == pytest.approx(whole.explained, rel=1e-6)


def test_all_films_span_themselves():
    films = films_of(6)
    assert principal_images(blocks_of(films), 6, seed=0).explained == pytest.approx(1, abs=1e-6)


def test_the_global_random_state_is_left_alone_and_the_seed_decides():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    films = films_of()
    one, same = (principal_images(blocks_of(films), 3, seed=5).images for _ in range(2))
    assert torch.equal(one, same)
    permute_pixels(one, 0)
    noise_like(one, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("films", [films_of(3), films_of(3).repeat(4, 1, 1, 1)], ids=["few", "copies"])
def test_more_images_than_the_films_span_are_refused(films):
    with pytest.raises(ValueError, match="span only 3 images"):
        principal_images(blocks_of(films), 5, seed=0)


def test_constant_films_span_nothing():
    with pytest.raises(ValueError, match="span only 0 images"):
        principal_images(blocks_of(torch.full((5, 1, 20, 16), 9, dtype=torch.uint8)), 2, seed=0)


def test_tiny_films_have_no_more_images_than_pixels():
    with pytest.raises(ValueError, match="span only 3 images"):  # four pixels less the mean
        principal_images(blocks_of(films_of(30, (2, 2))), 5, seed=0)


def test_no_films_and_a_single_pass_are_refused():
    with pytest.raises(ValueError, match="no films"):
        principal_images(lambda: iter(()), 2, seed=0)
    with pytest.raises(ValueError, match="two at least"):
        principal_images(blocks_of(films_of()), 2, seed=0, passes=1)


def test_permuted_anchors_keep_every_pixel_s_features_at_another_place():
    anchors = standardise(films_of(5))
    moved = permute_pixels(anchors, seed=0)
    before, after = anchors.flatten(1).T, moved.flatten(1).T
    assert not torch.equal(before, after)
    order = [int((before == features).all(dim=1).nonzero()[0]) for features in after]
    assert sorted(order) == list(range(320))
    assert torch.equal(permute_pixels(anchors, seed=0), moved)
    assert not torch.equal(permute_pixels(anchors, seed=1), moved)


def test_noise_anchors_are_standardised_and_independent_of_the_films():
    anchors = standardise(films_of(5))
    noise = noise_like(anchors, seed=0)
    assert noise.shape == anchors.shape
    torch.testing.assert_close(noise, standardise(noise))
    assert torch.corrcoef(torch.stack([anchors.flatten(), noise.flatten()]))[0, 1].abs() < 0.1
    assert torch.equal(noise, noise_like(torch.zeros_like(anchors), seed=0))
