import copy
import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses import total_variation
from gaze_lightning.models import GlobalAttention, PixelClassifier, fuse, standardise

KINDS = ("linear", "conv")
SIZE = (12, 9)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def anchors_of(n=5, size=SIZE, seed=0):
    return standardise(torch.rand(n, 1, *size, generator=generator(seed)))


def attention_of(n=5, kind="linear", **options):
    attention = GlobalAttention(n, SIZE, kind, **options)
    attention.set_anchors(anchors_of(n))
    return attention


def images_of(n=3, size=SIZE, seed=1):
    return torch.rand(n, 1, *size, generator=generator(seed))


def step(attention, images, lr=0.5):
    """One step of plain gradient descent on a loss of the weighted images."""
    loss = (fuse(images, attention(images), "multiply") - images.square()).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter -= lr * parameter.grad
            parameter.grad = None


@pytest.mark.parametrize(("kind", "n", "expected"), [("linear", 256, 257), ("conv", 256, 36_897), ("conv", 3, 465)])
def test_the_pixel_classifiers_have_the_parameters_of_the_specification(kind, n, expected):
    assert sum(p.numel() for p in PixelClassifier(n, kind).parameters()) == expected


def test_linear_is_a_weighted_sum_of_the_anchors_plus_bias_through_a_sigmoid():
    attention, anchors = attention_of(start=0.3), anchors_of()
    weights, bias = attention.pixels.score.weight.flatten().tolist(), attention.pixels.score.bias.item()
    assert bias == pytest.approx(0.3)
    a = attention.current_map()
    for v in range(SIZE[0]):
        for u in range(SIZE[1]):
            logit = sum(w * anchors[m, 0, v, u].item() for m, w in enumerate(weights)) + bias
            assert a[0, 0, v, u].item() == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


def test_conv_is_two_convolutions_with_a_relu_between():
    attention, x = attention_of(kind="conv"), F.pad(anchors_of(), (1, 1, 1, 1))
    hidden, score = attention.pixels.hidden, attention.pixels.score
    a = attention.current_map()
    for v, u in ((0, 0), (5, 4), (11, 8)):
        patch = x[:, 0, v : v + 3, u : u + 3]
        units = [(hidden.weight[k] * patch).sum() + hidden.bias[k] for k in range(16)]
        logit = sum(score.weight[0, k, 0, 0] * unit.clamp(min=0) for k, unit in enumerate(units)) + score.bias[0]
        assert a[0, 0, v, u].item() == pytest.approx(torch.sigmoid(logit).item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_first_weights_have_the_variance_of_their_fan_in_and_biases_are_zero_but_the_last(kind):
    pixels = PixelClassifier(400, kind, start=2.0)
    first = pixels.score if kind == "linear" else pixels.hidden
    fan_in = first.weight[0].numel()
    assert first.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.1)
    assert first.weight.mean().item() == pytest.approx(0, abs=4 / first.weight.numel() ** 0.5 * fan_in**-0.5)
    assert pixels.score.bias.item() == 2.0
    if kind == "conv":
        assert not pixels.hidden.bias.any()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_follow_their_seed_and_leave_the_global_generator_alone(kind):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = PixelClassifier(4, kind, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    same, other = PixelClassifier(4, kind, seed=1), PixelClassifier(4, kind, seed=2)
    assert torch.equal(one.score.weight, same.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_the_map_is_the_same_for_all_images_batch_sizes_and_orders(kind, training):
    attention = attention_of(kind=kind).train(training)
    images = images_of(6)
    a = attention(images)
    assert a.shape == (1, 1, *SIZE)
    for others in (images[:1], images[torch.tensor([3, 1, 5, 0, 2, 4])], torch.zeros(2, 1, *SIZE)):
        assert torch.equal(attention(others), a)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rescale", [False, True])
def test_the_stored_map_is_the_recomputed_one_bit_for_bit(kind, rescale):
    attention, images = attention_of(kind=kind, rescale=rescale), images_of()
    step(attention, images)
    assert not torch.equal(attention.stored_map, attention.current_map())
    attention.store_map()
    assert torch.equal(attention.stored_map, attention.current_map())
    assert torch.equal(attention.eval()(images), attention.train()(images))
    assert not attention.eval()(images).requires_grad


def test_a_rescaled_map_is_the_map_over_its_mean():
    plain, rescaled = attention_of(start=1.0), attention_of(start=1.0, rescale=True)
    assert rescaled.current_map().mean().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(rescaled.current_map(), plain.current_map() / plain.current_map().mean())


@pytest.mark.parametrize(("rescale", "expected"), [(False, 0.880797), (True, 1.0)])
def test_before_training_the_stored_map_is_even(rescale, expected):
    stored = GlobalAttention(5, SIZE, start=2.0, rescale=rescale).stored_map
    torch.testing.assert_close(stored, torch.full((1, 1, *SIZE), expected))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_an_image_loss_reaches_every_parameter_and_no_anchor(kind):
    attention, images = attention_of(kind=kind), images_of()
    F.cross_entropy(fuse(images, attention(images), "multiply").flatten(1), torch.tensor([0, 3, 5])).backward()
    assert all(p.grad is not None and p.grad.any() for p in attention.parameters())
    assert not attention.anchors.requires_grad


def test_linear_gradient_is_that_of_numbers():
    attention = attention_of().double()
    images, weight = images_of().double(), attention.pixels.score.weight

    def loss():
        return fuse(images, attention(images), "multiply").pow(3).sum()

    loss().backward()
    for m in range(5):
        with torch.no_grad():
            weight[0, m] += 1e-6
            above = loss()
            weight[0, m] -= 2e-6
            below = loss()
            weight[0, m] += 1e-6
        assert weight.grad[0, m].item() == pytest.approx(((above - below) / 2e-6).item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_map_stays_and_its_parameters_get_zero_gradients(kind):
    attention, images = attention_of(kind=kind), images_of()
    step(attention, images)
    attention.store_map()
    attention.freeze()
    kept = attention.stored_map.clone()
    before = [p.detach().clone() for p in attention.parameters()]
    assert torch.equal(kept, attention.current_map())
    step(attention, images)
    assert all(torch.equal(p, q) for p, q in zip(attention.parameters(), before, strict=True))
    fuse(images, attention(images), "multiply").sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in attention.parameters())
    with torch.no_grad():
        attention.pixels.score.bias += 1
    attention.store_map()
    assert torch.equal(attention(images), kept)


def test_saving_stores_the_map_of_the_present_parameters_and_prediction_needs_no_anchors():
    attention, images = attention_of(), images_of()
    step(attention, images)
    file = io.BytesIO()
    torch.save(nn.ModuleDict({"attention": attention}).state_dict(), file)
    file.seek(0)
    predicting = nn.ModuleDict({"attention": GlobalAttention(5, SIZE)})
    predicting.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(predicting["attention"].eval()(images), attention.current_map())


def test_saving_without_anchors_keeps_the_stored_map():
    attention = attention_of()
    step(attention, images_of())
    loaded = GlobalAttention(5, SIZE)
    loaded.load_state_dict(attention.state_dict())
    again = GlobalAttention(5, SIZE)
    again.load_state_dict(loaded.state_dict())
    assert torch.equal(again.stored_map, attention.current_map())


def test_saving_a_copy_stores_the_copy_s_map():
    attention = attention_of()
    twin = copy.deepcopy(attention)
    step(attention, images_of())
    assert torch.equal(twin.state_dict()["stored_map"], twin.current_map())
    assert not torch.equal(twin.stored_map, attention.current_map())


def test_no_saved_tensor_has_the_size_of_the_anchors():
    saved = attention_of(kind="conv").state_dict()
    assert set(saved) == {f"pixels.{k}" for k in ("hidden.weight", "hidden.bias", "score.weight", "score.bias")} | {
        "stored_map"
    }
    assert all(tensor.numel() != 5 * SIZE[0] * SIZE[1] for tensor in saved.values())


def test_the_anchors_are_a_copy():
    anchors = anchors_of()
    attention = GlobalAttention(5, SIZE)
    attention.set_anchors(anchors)
    before = attention.current_map()
    anchors.zero_()
    assert torch.equal(attention.current_map(), before)


def test_the_map_cannot_be_trained_without_anchors():
    with pytest.raises(RuntimeError, match="set_anchors"):
        GlobalAttention(5, SIZE)(images_of())


@pytest.mark.parametrize("shape", [(4, 1, *SIZE), (5, 1, 9, 12), (5, *SIZE)])
def test_anchors_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="anchors have shape"):
        GlobalAttention(5, SIZE).set_anchors(torch.zeros(shape))


@pytest.mark.parametrize("training", [True, False])
def test_images_of_another_size_are_refused(training):
    attention = attention_of().train(training)
    with pytest.raises(ConfigurationError, match=r"\(9, 12\) pixels.*\(12, 9\).*image_size"):
        attention(torch.zeros(2, 1, 9, 12))


@pytest.mark.parametrize(("n", "kind"), [(0, "linear"), (3, "tree")])
def test_an_impossible_pixel_classifier_is_refused(n, kind):
    with pytest.raises(ValueError, match=r"image|'linear' or 'conv'"):
        PixelClassifier(n, kind)


def test_autocast_changes_nothing():
    attention = attention_of(kind="conv")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = attention.current_map()
        grid = fuse(torch.ones(1, 1, 4, 3), halved, "multiply")
    assert torch.equal(halved, attention.current_map())
    assert torch.equal(grid, fuse(torch.ones(1, 1, 4, 3), attention.current_map(), "multiply"))


class TinyCNN(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 8 * 8, 2),
        )

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize(("level", "fusion"), [(1.0, "multiply"), (0.0, "residual")])
def test_a_map_without_effect_gives_the_logits_of_the_plain_network(level, fusion):
    network, images = TinyCNN(0), images_of(4, (32, 32))
    assert torch.equal(network(fuse(images, torch.full((1, 1, 32, 32), level), fusion)), network(images))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 8), st.integers(0, 8), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_map_is_averaged_over_the_area_of_coarser_cells(h, w, more_h, more_w, per_image):
    H, W = h + more_h, w + more_w
    a = torch.rand(3 if per_image else 1, 1, H, W, generator=generator(h * w))
    x = torch.rand(3, 2, h, w, generator=generator(1))
    # each pixel as h x w equal parts: cells then consist of whole parts
    parts = a.repeat_interleave(h, dim=2).repeat_interleave(w, dim=3)
    cells = parts.view(len(a), 1, h, H, w, W).mean(dim=(3, 5))
    torch.testing.assert_close(fuse(x, a, "multiply"), cells * x)
    torch.testing.assert_close(fuse(x, a, "residual"), (1 + cells) * x)


@pytest.mark.parametrize("shape", [(13, 9), (12, 10)])
def test_a_finer_grid_than_the_map_is_refused(shape):
    with pytest.raises(ValueError, match="finer grid"):
        fuse(torch.ones(1, 2, *shape), torch.ones(1, 1, *SIZE), "multiply")


def test_an_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="'multiply' or 'residual'"):
        fuse(torch.ones(1, 1, *SIZE), torch.ones(1, 1, *SIZE), "add")


def test_features_keep_their_type():
    assert fuse(torch.ones(1, 2, 4, 3).bfloat16(), torch.ones(1, 1, *SIZE), "multiply").dtype == torch.bfloat16


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2))
def test_total_variation_is_the_mean_over_all_pairs_of_neighbours(H, W, B):
    a = torch.rand(B, 1, H, W, generator=generator(H + W))
    pairs = [
        abs(a[b, 0, v, u].item() - a[b, 0, y, x].item())
        for b in range(B)
        for v in range(H)
        for u in range(W)
        for y, x in ((v + 1, u), (v, u + 1))
        if y < H and x < W
    ]
    if pairs:
        assert total_variation(a).item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    else:
        with pytest.raises(ValueError, match="one pixel"):
            total_variation(a)


def planted(n, seed):
    """Noise films; those of class 1 are brighter in rows 8 to 15, columns 16 to 23."""
    label = torch.arange(n) % 2
    films = torch.rand(n, 1, 32, 32, generator=generator(seed)) * 0.6
    films[:, :, 8:16, 16:24] += 0.4 * label[:, None, None, None]
    return films, label


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_map_finds_a_planted_patch_by_the_image_loss_alone(kind, seed):
    # conv at 1e-2 closed the map over the patch, before the network had learnt, in 2 of 8 seeds
    rate = {"linear": 1e-2, "conv": 3e-3}[kind]
    films, label = planted(256, seed)
    network, attention = TinyCNN(seed), GlobalAttention(64, (32, 32), kind, seed=seed)
    attention.set_anchors(standardise(films[:64]))
    start = attention.current_map().detach()
    optimiser = torch.optim.Adam(
        [{"params": network.parameters(), "lr": 3e-3}, {"params": attention.parameters(), "lr": rate}]
    )
    order = generator(seed)
    for _ in range(12):
        for rows in torch.randperm(256, generator=order).split(32):
            optimiser.zero_grad()
            F.cross_entropy(network(fuse(films[rows], attention(films[rows]), "multiply")), label[rows]).backward()
            optimiser.step()
    attention.store_map()
    network.eval()
    attention.eval()
    unseen, truth = planted(64, seed + 100)
    logits = network(fuse(unseen, attention(unseen), "multiply"))
    assert (logits.argmax(dim=1) == truth).float().mean() > 0.9

    def contrast(a):
        inside = a[0, 0, 8:16, 16:24].mean()
        return (inside - (a.sum() - inside * 64) / (32 * 32 - 64)).item()

    assert contrast(attention.stored_map) > 0.1
    assert contrast(attention.stored_map) > contrast(start)
