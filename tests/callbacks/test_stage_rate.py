import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from callbacks.stage import Stage
from callbacks.stage_rate import group_rate, has_course, rate_factor


@given(st.integers(1, 200), st.floats(0, 0.99))
def test_cosine_equals_its_formula_and_rises_and_falls_within_zero_and_one(steps, warmup):
    stage = Stage("one", lr=1.0, schedule="cosine", warmup=warmup)
    rising = round(warmup * steps)
    factors = [rate_factor(stage, step, steps) for step in range(steps)]
    for step, factor in enumerate(factors):
        if step < rising:
            assert factor == (step + 1) / (rising + 1)
        else:
            assert factor == pytest.approx(
                0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising)), abs=1e-15
            )
    assert factors[:rising] == sorted(factors[:rising])
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
    assert all(0 <= factor <= 1 for factor in factors)


def test_after_its_last_step_a_cosine_schedule_stays_at_zero():
    assert rate_factor(Stage("one", lr=1.0, schedule="cosine"), 12, 10) == 0


def test_a_constant_schedule_may_rise_first():
    stage = Stage("one", lr=1.0, warmup=0.5)
    assert [rate_factor(stage, step, 6) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert has_course(stage)
    assert not has_course(Stage("one", lr=1.0))


RATES = st.floats(1e-8, 10)


@given(RATES, RATES, RATES)
def test_groups_keep_the_ratios_of_their_rates(lr, own, first):
    assert group_rate(lr, own, first) / lr == pytest.approx(own / first, rel=1e-12)


@given(RATES, RATES)
def test_a_group_that_starts_like_the_first_gets_the_very_rate(lr, own):
    assert group_rate(lr, own, own) == lr  # own * (lr / own) is not always lr
