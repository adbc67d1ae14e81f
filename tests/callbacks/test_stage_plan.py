import hypothesis.strategies as st
import pytest
from hypothesis import given

from callbacks.stage import Stage
from callbacks.stage_plan import StagePlan, stage_lengths
from callbacks.stage_run import StageRun


@pytest.mark.parametrize(
    ("stages", "epochs", "lengths"),
    [
        ([Stage("a", 0.2), Stage("b")], 8, [2, 6]),
        ([Stage("a", 0.1), Stage("b")], 10, [1, 9]),
        ([Stage("a", 2), Stage("b", 3), Stage("c", 1)], 6, [2, 3, 1]),
        ([Stage("a", 2), Stage("b", 3)], -1, [2, 3]),
        ([Stage("a", 0.2), Stage("b")], 1, [0, 1]),
        ([Stage("a"), Stage("b", 0.5)], 4, [2, 2]),
    ],
)
def test_epochs_are_numbers_shares_or_the_rest(stages, epochs, lengths):
    assert stage_lengths(stages, epochs) == lengths


@pytest.mark.parametrize(
    ("stages", "epochs", "message"),
    [
        ([Stage("one", 3)], 4, r"ask for 3 epochs \(one 3\), trainer.max_epochs is 4"),
        ([Stage("one", 5), Stage("two")], 4, "ask for 5 epochs"),
        ([Stage("one"), Stage("two")], 4, "only one stage"),
        ([Stage("one", 1.5), Stage("two")], 4, "'one': epochs is 1.5"),
        ([Stage("one", -1), Stage("two")], 4, "'one': epochs is -1"),
        ([Stage("one", 0.2), Stage("two", 3)], -1, "'one'.*set trainer.max_epochs"),
        ([Stage("one", 2), Stage("two")], -1, "'two'.*set trainer.max_epochs"),
    ],
)
def test_a_plan_that_does_not_fill_the_training_is_refused(stages, epochs, message):
    with pytest.raises(ValueError, match=message):
        stage_lengths(stages, epochs)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any), st.data())
def test_every_epoch_belongs_to_one_stage_whichever_end_early(lengths, data):
    """Walking through a training as the callback does: stages in order, none longer than planned, none left out."""
    plan = StagePlan([Stage(str(index)) for index in range(len(lengths))], lengths)
    run, epoch, seen = None, 0, []
    while run is None or epoch < plan.last_end(run):
        due = plan.due(run, epoch)
        if run is None or due != run.index:
            run = StageRun(due, str(due), epoch, 0, 0, None, "min")
        seen.append(due)
        if data.draw(st.booleans()):
            run.stopped = epoch + 1
        epoch += 1
    assert seen == sorted(seen)
    assert set(seen) == {index for index, length in enumerate(lengths) if length}
    assert all(seen.count(index) <= length for index, length in enumerate(lengths))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any))
def test_a_training_that_starts_in_the_middle_starts_in_the_stage_of_the_plan(lengths):
    plan = StagePlan([Stage(str(index)) for index in range(len(lengths))], lengths)
    expected = [index for index, length in enumerate(lengths) for _ in range(length)]
    assert [plan.due(None, epoch) for epoch in range(sum(lengths))] == expected
