import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaze_lightning.losses import UncertaintyWeighting

ONE, ZERO = torch.tensor(1.0), torch.tensor(0.0)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 5), st.floats(0, 1), st.booleans())
def test_loss_is_that_of_the_formula(s_c, s_d, classification, gaze, any_gaze):
    sigma_c, sigma_d = math.exp(s_c), math.exp(s_d)
    literal = classification / sigma_c**2 + math.log(1 + sigma_c)
    if any_gaze:
        literal += gaze / (2 * sigma_d**2) + math.log(1 + sigma_d)
    value = UncertaintyWeighting(s_c, s_d)(torch.tensor(classification), torch.tensor(gaze), torch.tensor(any_gaze))
    assert value.item() == pytest.approx(literal, rel=1e-4)


@pytest.mark.parametrize(
    ("gaze", "s_d", "classification", "s_c"),
    [(0.01, -1.47, 1.10, 0.61), (0.02, -1.22, 0.70, 0.42), (0.05, -0.88, 0.30, 0.07), (0.05, -0.88, 0.10, -0.36)],
)
def test_minimising_over_the_sigmas_reaches_the_equilibria(gaze, s_d, classification, s_c):
    weighting = UncertaintyWeighting(0.6, -1.2).double()
    optimizer = torch.optim.LBFGS(weighting.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = weighting(torch.tensor(classification).double(), torch.tensor(gaze).double(), ONE.double())
        loss.backward()
        return loss

    optimizer.step(closure)
    assert weighting.log_sigma_cls.item() == pytest.approx(s_c, abs=0.006)
    assert weighting.log_sigma_gaze.item() == pytest.approx(s_d, abs=0.006)
    sigma_c, sigma_d = weighting.log_sigma_cls.exp().item(), weighting.log_sigma_gaze.exp().item()
    assert gaze / sigma_d**2 == pytest.approx(sigma_d / (1 + sigma_d), rel=1e-4)
    assert 2 * classification / sigma_c**2 == pytest.approx(sigma_c / (1 + sigma_c), rel=1e-4)


def test_a_batch_without_gaze_gives_the_gaze_weight_a_gradient_of_exactly_zero():
    weighting = UncertaintyWeighting(0.6, -1.2)
    weighting(ONE, ZERO, ZERO).backward()
    assert weighting.log_sigma_gaze.grad.item() == 0
    assert weighting.log_sigma_cls.grad.item() != 0


@pytest.mark.parametrize("log_sigma_gaze", [-23.0, -16.0])
def test_the_released_initial_values_are_finite_in_float32(log_sigma_gaze):
    weighting = UncertaintyWeighting(7.0, log_sigma_gaze)
    gaze = torch.tensor(0.1, requires_grad=True)
    loss = weighting(ONE, gaze, ONE)
    loss.backward()
    assert loss.item() == pytest.approx(0.1 / (2 * math.exp(2 * log_sigma_gaze)), rel=1e-3)
    assert math.isfinite(gaze.grad.item())
    assert math.isfinite(weighting.log_sigma_gaze.grad.item())


@pytest.mark.parametrize("train_gaze", [True, False])
def test_a_gaze_weight_that_is_not_trained_stays_and_is_no_parameter(train_gaze):
    weighting = UncertaintyWeighting(0.0, 0.0, train_gaze=train_gaze)
    assert len(list(weighting.parameters())) == (2 if train_gaze else 1)
    assert set(weighting.state_dict()) == {"log_sigma_cls", "log_sigma_gaze"}
    optimizer = torch.optim.SGD(weighting.parameters(), lr=1.0)
    loss = weighting(ONE, ONE, ONE)
    assert loss.item() == pytest.approx(1 + 0.5 + 2 * math.log(2))
    loss.backward()
    optimizer.step()
    assert (weighting.log_sigma_gaze.item() != 0) == train_gaze
    assert weighting.log_sigma_cls.item() != 0
