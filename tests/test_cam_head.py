import math

import pytest
import torch

from gaze_lightning.models import Backbone, CAMClassifier, CAMHead

FEATURES = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("scale", "factor"), [("mean", 1 / 8), ("sum", 1.0)])
def test_maps_and_logits_are_those_of_the_formula(scale, factor):
    head = CAMHead(8, 3, scale)
    logits, maps = head(FEATURES)
    w, b = head.weight.weight, head.bias
    for n in range(2):
        for c in range(3):
            for u in range(3):
                for v in range(5):
                    literal = factor * sum(w[c, k, 0, 0] * FEATURES[n, k, u, v] for k in range(8))
                    assert maps[n, c, u, v].item() == pytest.approx(literal.item(), abs=1e-6)
            assert logits[n, c].item() == pytest.approx((maps[n, c].mean() + b[c]).item(), abs=1e-6)


@pytest.mark.parametrize(("scale", "factor"), [("mean", 1 / 8), ("sum", 1.0)])
def test_logits_equal_pooling_and_a_linear_layer(scale, factor):
    head = CAMHead(8, 3, scale)
    pooled = FEATURES.mean(dim=(2, 3))
    linear = torch.nn.functional.linear(pooled, head.weight.weight[:, :, 0, 0] * factor, head.bias)
    torch.testing.assert_close(head(FEATURES)[0], linear)


def test_initial_weights_and_biases_are_uniform_within_the_root_of_the_channels():
    torch.manual_seed(0)
    head = CAMHead(400, 50, "mean")
    bound = 1 / math.sqrt(400)
    for values in (head.weight.weight, head.bias):
        assert values.abs().max() <= bound
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
        assert values.abs().max() > 0.9 * bound


def test_the_head_stays_in_float32_under_autocast():
    head = CAMHead(8, 3, "mean")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, maps = head(FEATURES.bfloat16())
    assert logits.dtype == maps.dtype == torch.float32
    torch.testing.assert_close(logits, head(FEATURES.bfloat16().float())[0])


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="cam_scale"):
        CAMHead(8, 3, "max")


def test_the_classifier_adds_one_weight_per_channel_and_class_and_one_bias_per_class():
    backbone = Backbone("test_resnet")
    classifier = CAMClassifier(backbone, 3, "mean")
    extra = sum(p.numel() for p in classifier.parameters()) - sum(p.numel() for p in backbone.parameters())
    assert extra == 3 * backbone.num_features + 3
    logits, maps = classifier.eval()(torch.rand(2, 1, 96, 64))
    assert logits.shape == (2, 3)
    assert maps.shape == (2, 3, 3, 2)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gradient_of_the_weight_has_its_memory_format_and_the_maps_do_not_depend_on_it(channels_last):
    torch.manual_seed(0)
    plain = CAMHead(8, 3, "sum")
    head = CAMHead(8, 3, "sum", channels_last)
    head.load_state_dict(plain.state_dict())
    features = torch.rand(2, 8, 4, 5)
    given = features.contiguous(memory_format=torch.channels_last) if channels_last else features
    logits, maps = head(given)
    logits.sum().backward()
    assert head.weight.weight.grad.stride() == head.weight.weight.stride()
    torch.testing.assert_close(maps, plain(features)[1])
