import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gaze_lightning.losses import SaliencyKLLoss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, 1, 5, 7, generator=GENERATOR)
TARGET = torch.rand(4, 1, 5, 7, generator=GENERATOR) ** 4
TARGET[:, :, 2] = 0
TARGET /= TARGET.sum(dim=(1, 2, 3), keepdim=True)
EVERY = torch.ones(4, dtype=torch.bool)
SOME = torch.tensor([True, False, True, False])


def log_softmax(logits):
    return logits.flatten(1).log_softmax(1).view_as(logits)


LOG_P = log_softmax(LOGITS)


@pytest.mark.parametrize("has_gaze", [EVERY, SOME], ids=["all", "some"])
def test_loss_is_the_mean_over_samples_with_gaze_of_scipy_s_relative_entropy(has_gaze):
    literal = [
        scipy.stats.entropy(q.double().flatten(), p.double().exp().flatten())
        for q, p, seen in zip(TARGET, LOG_P, has_gaze, strict=True)
        if seen
    ]
    value, n = SaliencyKLLoss()(LOG_P, TARGET, has_gaze)
    assert value.item() == pytest.approx(sum(literal) / len(literal), rel=1e-5)
    assert n.item() == len(literal)


def test_loss_and_gradient_are_those_of_torch():
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    value = SaliencyKLLoss()(log_softmax(ours), TARGET, EVERY).loss
    expected = F.kl_div(log_softmax(theirs), TARGET, reduction="batchmean")
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_loss_of_a_batch_is_the_mean_of_the_losses_of_its_images():
    single = [SaliencyKLLoss()(LOG_P[i, None], TARGET[i, None], EVERY[:1]).loss.item() for i in range(4)]
    assert SaliencyKLLoss()(LOG_P, TARGET, EVERY).loss.item() == pytest.approx(sum(single) / 4, rel=1e-6)


def test_a_perfect_prediction_costs_nothing():
    assert SaliencyKLLoss()(LOG_P, LOG_P.exp(), EVERY).loss.item() == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31 - 1), st.floats(0.01, 30))
def test_loss_is_not_negative_and_does_not_depend_on_the_scale_of_the_gaze_map(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    log_p = log_softmax(torch.randn(2, 1, 4, 5, generator=generator) * spread)
    target = torch.rand(2, 1, 4, 5, generator=generator).clamp(min=0.3) - 0.3  # some cells are exactly zero
    target[:, 0, 0, 0] += 0.1
    value = SaliencyKLLoss()(log_p, target, EVERY[:2]).loss.item()
    assert value >= -1e-6
    assert SaliencyKLLoss()(log_p, target * 37, EVERY[:2]).loss.item() == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_samples_without_gaze_have_a_gradient_of_exactly_zero_and_do_not_dilute_the_mean():
    target = TARGET * SOME[:, None, None, None]
    log_p = LOG_P.clone().requires_grad_()
    value = SaliencyKLLoss()(log_p, target, SOME).loss
    value.backward()
    assert torch.equal(log_p.grad.abs().sum(dim=(1, 2, 3)) > 0, SOME)
    assert value.item() == SaliencyKLLoss()(LOG_P[SOME], TARGET[SOME], EVERY[:2]).loss.item()


def test_an_empty_map_counts_as_no_gaze_and_gaze_that_was_not_announced_does_not_count():
    value, n = SaliencyKLLoss()(LOG_P, TARGET * SOME[:, None, None, None], EVERY)
    masked = SaliencyKLLoss()(LOG_P, TARGET, SOME)
    assert n.item() == masked.n.item() == 2
    assert value.item() == masked.loss.item()


def test_a_batch_without_gaze_costs_exactly_nothing_and_keeps_the_graph():
    logits = LOGITS.clone().requires_grad_()
    value, n = SaliencyKLLoss()(log_softmax(logits), torch.zeros_like(TARGET), ~EVERY)
    value.backward()
    assert value.item() == n.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_loss_is_float32_under_autocast_and_of_half_precision():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SaliencyKLLoss()(LOG_P.bfloat16(), TARGET, EVERY).loss
    assert value.dtype == torch.float32
    assert value.item() == SaliencyKLLoss()(LOG_P.bfloat16().float(), TARGET, EVERY).loss.item()


def test_a_prediction_that_misses_by_far_is_expensive_but_finite():
    logits = torch.zeros(1, 1, 4, 4)
    logits[0, 0, 0, 0] = 1e4
    target = torch.zeros(1, 1, 4, 4)
    target[0, 0, 3, 3] = 1
    assert SaliencyKLLoss()(log_softmax(logits), target, EVERY[:1]).loss.item() == pytest.approx(1e4)
    assert math.isfinite(SaliencyKLLoss()(log_softmax(logits), target.roll(1), EVERY[:1]).loss.item())


def test_another_grid_is_an_error():
    with pytest.raises(ValueError, match="grid"):
        SaliencyKLLoss()(LOG_P, TARGET[..., :6], EVERY)
