import copy

import pytest
import torch
from timm.layers.cbam import SpatialAttn
from torch import nn
from torch.nn import functional as F

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models import (
    BatchStackAttention,
    FreeMask,
    GlobalAttention,
    LocalAttention,
    fit_map,
    standardise,
)

SIZE = (12, 9)


def images_of(n=4, seed=0):
    return torch.rand(n, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def smooth_target():
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    return 0.05 + 0.9 * torch.exp(-4 * ((x - 0.2) ** 2 + y**2))


# batch stack


def test_batch_stack_is_a_weighted_sum_of_the_standardised_images_of_the_batch():
    attention, images = BatchStackAttention(4, SIZE, start=0.4), images_of()
    weights = attention.pixels.score.weight.flatten()
    literal = torch.sigmoid(sum(w * film for w, film in zip(weights, standardise(images), strict=True)) + 0.4)
    torch.testing.assert_close(attention(images), literal[None])


def test_batch_stack_depends_on_the_order_of_its_batch():
    attention, images = BatchStackAttention(4, SIZE), images_of()
    assert not torch.allclose(attention(images), attention(images.flip(0)))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_batch_stack_refuses_another_batch_size_in_training_only(n):
    attention = BatchStackAttention(4, SIZE)
    with pytest.raises(ConfigurationError, match=rf"has {n} images.*built for 4.*smaller"):
        attention(images_of(n))
    assert torch.equal(attention.eval()(images_of(n)), attention.stored_map)


def test_batch_stack_stores_the_mean_of_the_training_maps_of_an_epoch():
    attention = BatchStackAttention(4, SIZE, "conv")
    attention(images_of(seed=9))
    attention.start_epoch()
    maps = [attention(images_of(seed=seed)) for seed in range(3)]
    assert maps[0].requires_grad
    assert attention.map_count == 3
    torch.testing.assert_close(attention.map_sum, sum(maps).detach())
    attention.eval()(images_of(seed=5))
    assert attention.map_count == 3
    attention.store_map()
    torch.testing.assert_close(attention(images_of(2)), torch.stack(maps).mean(dim=0).detach())


def test_batch_stack_keeps_its_stored_map_when_a_new_epoch_starts_and_when_it_is_loaded():
    attention = BatchStackAttention(4, SIZE)
    attention(images_of())
    attention.store_map()
    kept = attention.stored_map.clone()
    attention.start_epoch()
    attention.store_map()
    assert torch.equal(attention.stored_map, kept)
    loaded = BatchStackAttention(4, SIZE)
    loaded.load_state_dict(attention.state_dict())
    assert torch.equal(loaded.state_dict()["stored_map"], kept)


def test_batch_stack_saves_the_mean_of_its_training_maps_and_nothing_of_the_films():
    attention = BatchStackAttention(4, SIZE)
    a = attention(images_of()).detach()
    saved = attention.state_dict()
    torch.testing.assert_close(saved["stored_map"], a)
    assert set(saved) == {"pixels.score.weight", "pixels.score.bias", "stored_map"}


def test_batch_stack_freezes_at_the_mean_of_its_training_maps():
    attention = BatchStackAttention(4, SIZE)
    a = attention(images_of()).detach()
    attention.store_map()
    attention.freeze()
    torch.testing.assert_close(attention(images_of(2)), a)
    attention(images_of(2)).sum().backward()
    assert all(not p.grad.any() for p in attention.parameters())
    assert attention.map_count == 1


def test_batch_stack_forgets_its_training_maps_when_weights_are_loaded():
    attention, other = BatchStackAttention(4, SIZE), BatchStackAttention(4, SIZE, seed=1)
    other(images_of())
    kept = other.state_dict()["stored_map"].clone()
    attention(images_of())
    attention.load_state_dict(other.state_dict())
    attention.store_map()
    assert torch.equal(attention.stored_map, kept)


def test_batch_stack_takes_a_gradient_from_the_loss():
    attention = BatchStackAttention(4, SIZE, "conv", rescale=True)
    a = attention(images_of())
    assert a.mean().item() == pytest.approx(1, abs=1e-6)
    (a * images_of()).square().sum().backward()
    assert all(p.grad.any() for p in attention.parameters())


def test_batch_stack_cannot_be_fitted():
    with pytest.raises(ConfigurationError, match="anchor_set"):
        fit_map(BatchStackAttention(4, SIZE), smooth_target())


# free mask


def test_a_free_mask_has_one_logit_per_pixel():
    mask = FreeMask(SIZE, start=2.0)
    assert [p.numel() for p in mask.parameters()] == [12 * 9]
    torch.testing.assert_close(mask(images_of()), torch.full((1, 1, *SIZE), 0.880797))
    (mask(images_of()) * images_of()).sum().backward()
    literal = images_of().sum(dim=0, keepdim=True) * 0.880797 * (1 - 0.880797)
    torch.testing.assert_close(mask.theta.grad, literal)


def test_saving_a_free_mask_stores_its_map():
    mask = FreeMask(SIZE, rescale=True)
    with torch.no_grad():
        mask.theta.copy_(torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0)))
    saved = mask.state_dict()
    literal = torch.sigmoid(mask.theta) / torch.sigmoid(mask.theta).mean()
    torch.testing.assert_close(saved["stored_map"], literal.detach())
    assert torch.equal(mask.eval()(images_of()), saved["stored_map"])


# local attention


def test_local_attention_is_the_equation_of_cbam():
    torch.manual_seed(0)
    attention, x = LocalAttention(3), torch.randn(2, 5, 6, 4)
    a = attention(x)
    assert a.shape == (2, 1, 6, 4)
    weight, bias = attention.conv.weight[0], attention.conv.bias[0]
    padded = F.pad(torch.stack([x.mean(dim=1), x.max(dim=1).values], dim=1), (1, 1, 1, 1))
    for b, v, u in ((0, 0, 0), (1, 3, 2), (1, 5, 3)):
        logit = (weight * padded[b, :, v : v + 3, u : u + 3]).sum() + bias
        assert a[b, 0, v, u].item() == pytest.approx(torch.sigmoid(logit).item(), abs=1e-6)


def test_local_attention_is_that_of_timm_without_its_batch_normalisation():
    torch.manual_seed(0)
    theirs, ours, x = SpatialAttn(7), LocalAttention(7), torch.randn(2, 5, 10, 8)
    theirs.conv.bn = nn.Identity()
    with torch.no_grad():
        ours.conv.weight.copy_(theirs.conv.conv.weight)
        ours.conv.bias.zero_()
    torch.testing.assert_close(ours(x) * x, theirs(x))


def test_local_attention_is_the_image_s_own():
    torch.manual_seed(0)
    attention, x = LocalAttention(), torch.randn(3, 5, 10, 8)
    a = attention(x)
    assert not torch.allclose(a[0], a[1])
    torch.testing.assert_close(attention(x[1:2]), a[1:2])


def test_local_attention_wants_an_odd_kernel():
    with pytest.raises(ValueError, match="odd"):
        LocalAttention(4)


# fitted start


@pytest.mark.parametrize("rescale", [False, True])
def test_a_free_mask_can_be_fitted_to_any_target(rescale):
    mask, target = FreeMask(SIZE, rescale=rescale), smooth_target()
    assert fit_map(mask, target) > 0.995
    found = torch.sigmoid(mask.theta)[0, 0]
    assert (found - target).abs().max() < 0.08
    torch.testing.assert_close(mask.stored_map[0, 0], found.detach() / (found.mean() if rescale else 1))


@pytest.mark.parametrize(("kind", "least"), [("linear", 0.85), ("conv", 0.95)])
def test_a_pixel_classifier_can_be_fitted_and_reports_the_correlation(kind, least):
    attention, target = GlobalAttention(64, SIZE, kind), smooth_target()
    attention.set_anchors(standardise(images_of(64)))
    before = torch.get_rng_state()
    found = fit_map(attention, target)
    assert torch.equal(torch.get_rng_state(), before)
    assert found > least
    literal = torch.corrcoef(torch.stack([attention.current_map().flatten(), target.flatten()]))[0, 1]
    assert found == pytest.approx(literal.item(), abs=1e-5)
    assert torch.equal(attention.stored_map, attention.current_map())
    assert all(p.grad is None for p in attention.parameters())


def test_a_linear_fit_reaches_the_minimum_of_its_convex_loss():
    attention, target = GlobalAttention(64, SIZE), smooth_target()
    attention.set_anchors(standardise(images_of(64)))
    fit_map(attention, target)
    reached = F.binary_cross_entropy(attention.current_map()[0, 0], target).item()
    # the same from scratch, in float64, by Newton's method
    x = torch.cat([attention.anchors[0].flatten(1).T, torch.ones(108, 1)], dim=1).double()
    y, theta = target.flatten().double(), torch.zeros(65, dtype=torch.float64)
    for _ in range(30):
        p = torch.sigmoid(x @ theta)
        theta -= torch.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (p - y))
    best = F.binary_cross_entropy(torch.sigmoid(x @ theta), y).item()
    assert best - 1e-6 < reached < best + 1e-3


def test_one_anchor_fits_only_what_it_resembles():
    target = smooth_target()
    like, unlike = (GlobalAttention(1, SIZE) for _ in range(2))
    like.set_anchors(standardise(torch.logit(target)[None, None]))
    unlike.set_anchors(standardise(images_of(1)))
    assert fit_map(like, target) > 0.999
    assert fit_map(unlike, target) < 0.7


def test_fitting_works_where_gradients_are_switched_off():
    mask = FreeMask(SIZE)
    with torch.no_grad():
        assert fit_map(mask, smooth_target()) > 0.99


def test_no_steps_leave_the_parameters_as_they_are():
    attention = GlobalAttention(4, SIZE)
    attention.set_anchors(standardise(images_of(4)))
    before = copy.deepcopy(attention.pixels.state_dict())
    fit_map(attention, smooth_target(), steps=0)
    assert all(torch.equal(before[key], value) for key, value in attention.pixels.state_dict().items())


@pytest.mark.parametrize("target", [torch.full((9, 12), 0.5), torch.zeros(SIZE), torch.full(SIZE, float("nan"))])
def test_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match="the target"):
        fit_map(FreeMask(SIZE), target)
