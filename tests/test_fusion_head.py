import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gaze_lightning.models import FusionHead


def maps_of(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, *shape, generator=generator) for shape in shapes]


def head_of(channels, num_classes=3, seed=0, **options):
    torch.manual_seed(seed)
    return FusionHead(channels, num_classes, **options).eval()


def constant_of(head, maps):
    """What the logits have beside the means of the maps: bias of the output, and of the hidden units in use."""
    means = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)
    active = (means @ head.hidden.weight.T + head.hidden.bias > 0).float()
    return (active * head.hidden.bias) @ head.output.weight.T + head.output.bias


def test_logits_are_those_of_the_formula():
    maps, head = maps_of((5, 2, 3), (4, 6, 7)), head_of([5, 4], hidden=6)
    logits = head(maps)
    w1, b1, w2, b2 = head.hidden.weight, head.hidden.bias, head.output.weight, head.output.bias
    for n in range(2):
        g = [channel.sum() / channel.numel() for m in maps for channel in m[n]]
        hidden = [max(0.0, (sum(w1[j, k] * g[k] for k in range(9)) + b1[j]).item()) for j in range(6)]
        for c in range(3):
            literal = sum(w2[c, j].item() * hidden[j] for j in range(6)) + b2[c].item()
            assert logits[n, c].item() == pytest.approx(literal, abs=1e-5)


def test_the_published_head_has_127235_parameters_and_a_dropout_of_a_quarter():
    head = FusionHead([1920, 64], 3)
    assert sum(p.numel() for p in head.parameters()) == 127_235
    assert head.hidden.out_features == 64
    assert head.dropout.p == 0.25


def test_dropout_acts_on_the_hidden_layer_in_training_only():
    maps, head = maps_of((5, 2, 3)), head_of([5], dropout=1.0)
    trained = head.train()(maps)
    torch.testing.assert_close(trained, head.output.bias.expand(2, -1))
    assert not torch.allclose(head.eval()(maps), trained)


def test_class_maps_are_map_times_gradient_summed_over_all_channels():
    maps, head = maps_of((5, 2, 3), (4, 8, 6)), head_of([5, 4], num_classes=4)
    for m in maps:
        m.requires_grad_()
    found = head.class_maps(maps)
    for c in range(4):
        literal = 0
        for m, gradient in zip(maps, torch.autograd.grad(head(maps)[:, c].sum(), maps), strict=True):
            # dz/dF(u, v) is the Jacobian of the mean divided by the number of pixels
            own = (gradient * m).sum(dim=1, keepdim=True) * m.shape[2] * m.shape[3]
            literal = literal + F.avg_pool2d(own, kernel_size=(m.shape[2] // 2, m.shape[3] // 3))
        torch.testing.assert_close(found[:, c : c + 1], literal.detach(), rtol=1e-4, atol=1e-5)


@given(
    coarse=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    finer=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    seed=st.integers(0, 5),
)
def test_the_mean_of_a_class_map_and_a_constant_are_the_logit_for_any_pair_of_sizes(coarse, finer, seed):
    maps, head = maps_of((5, *coarse), (4, *finer), seed=seed), head_of([5, 4], seed=seed)
    found = head.class_maps(maps)
    assert found.shape == (2, 3, *coarse)
    with torch.no_grad():
        torch.testing.assert_close(found.mean(dim=(2, 3)) + constant_of(head, maps), head(maps), rtol=1e-4, atol=1e-5)


def test_finer_maps_are_pooled_by_the_area_of_their_pixels():
    coarse, finer = maps_of((1, 2, 3), (1, 5, 7))
    head = head_of([1, 1], num_classes=1, hidden=1)
    with torch.no_grad():
        head.hidden.weight.copy_(torch.tensor([[0.0, 1.0]]))
        head.hidden.bias.fill_(100.0)  # the hidden unit is in use
        head.output.weight.fill_(1.0)
    found = head.class_maps([coarse, finer])
    # both grids divide a common one of 10 x 21 cells
    common = finer.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    torch.testing.assert_close(found, F.avg_pool2d(common, kernel_size=(5, 7)), rtol=1e-5, atol=1e-6)


def test_class_maps_are_the_same_while_training_and_carry_no_gradient():
    maps, head = maps_of((5, 2, 3)), head_of([5])
    evaluated = head.class_maps(maps)
    state = torch.get_rng_state()
    trained = head.train().class_maps(maps)
    assert torch.equal(trained, evaluated)
    assert torch.equal(torch.get_rng_state(), state)
    assert not trained.requires_grad


def test_a_single_map_of_a_head_without_idle_units_is_the_usual_class_activation_map():
    (features,), head = maps_of((5, 2, 3)), head_of([5])
    with torch.no_grad():
        head.hidden.bias.fill_(100.0)
    weight = head.output.weight @ head.hidden.weight
    literal = F.conv2d(features, weight[:, :, None, None]).detach()
    torch.testing.assert_close(head.class_maps([features]), literal, rtol=1e-4, atol=1e-5)


def test_the_head_stays_in_float32_under_autocast():
    maps, head = [m.bfloat16() for m in maps_of((5, 2, 3), (4, 8, 6))], head_of([5, 4])
    plain = [m.float() for m in maps]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, found = head(maps), head.class_maps(maps)
    assert logits.dtype == found.dtype == torch.float32
    torch.testing.assert_close(logits, head(plain))
    torch.testing.assert_close(found, head.class_maps(plain))


@pytest.mark.parametrize(("channels", "num_classes"), [([], 3), ([5], 0)])
def test_a_head_without_maps_or_classes_is_refused(channels, num_classes):
    with pytest.raises(ValueError, match="at least"):
        FusionHead(channels, num_classes)
