"""One file of curves, however often the run was interrupted."""

import contextlib
import os
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger

from gaze_lightning.commands.run import _one_metrics_file
from gaze_lightning.metrics_file import one_metrics_file

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory")

ASIDE = "metrics_before_resume.csv"


def log(run: Path, *steps: int) -> None:
    """What a process of a run writes, each row at once; its logger deletes the file that it finds."""
    logger = CSVLogger(run, name="", version="")
    assert logger.experiment.metrics == []
    for step in steps:
        for values in ({"loss": 0.1 + step / 3}, {"val/f1": 1 / (step + 1)} if step % 3 == 2 else {}):
            if values:
                logger.log_metrics(values | {"epoch": step // 3}, step)
                logger.save()


def die_while_resumed(run: Path, before_step: int, *steps: int) -> None:
    """A resumed run whose process ends without a word."""
    child = os.fork()
    if child == 0:
        try:
            with one_metrics_file(run, before_step):
                log(run, *steps)
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def whole(tmp_path):
    log(tmp_path / "whole", *range(9))
    return (tmp_path / "whole" / "metrics.csv").read_bytes()


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("reached", [1, 2, 3, 4])  # without and with a column that the rest does not have yet
def test_rows_after_the_checkpoint_are_written_once_and_no_digit_changes(run, whole, reached):
    log(run, *range(reached + 2))
    with one_metrics_file(run, before_step=reached):
        log(run, *range(reached, 9))
    assert (run / "metrics.csv").read_bytes() == whole
    assert [path.name for path in run.iterdir()] == ["metrics.csv"]


def test_interruptions_may_follow_each_other_at_any_speed(run, whole):
    log(run, *range(4))
    die_while_resumed(run, 3, 3, 4, 5, 6)
    die_while_resumed(run, 6)
    die_while_resumed(run, 6, 6)
    with one_metrics_file(run, before_step=6):
        log(run, 6, 7, 8)
    assert (run / "metrics.csv").read_bytes() == whole


def test_half_a_row_at_the_end_is_not_taken_for_one(run, whole):
    log(run, *range(6))
    die_while_resumed(run, 3, *range(3, 6))
    with (run / "metrics.csv").open("a") as file:
        file.write("2,1.5,1")  # of a row of step 10: it would be kept as one of step 1
    with one_metrics_file(run, before_step=6):
        log(run, 6, 7, 8)
    assert (run / "metrics.csv").read_bytes() == whole


@pytest.mark.parametrize("end", [False, True])
def test_a_death_between_writing_one_file_and_removing_the_other_repeats_no_row(run, whole, end):
    log(run, *(range(9) if end else range(4)))
    metrics = (run / "metrics.csv").read_bytes()
    die_while_resumed(run, 3)
    (run / "metrics.csv").write_bytes(metrics)
    with one_metrics_file(run, before_step=9 if end else 3):
        log(run, *(() if end else range(3, 9)))
    assert (run / "metrics.csv").read_bytes() == whole
    assert not (run / ASIDE).exists()


def test_a_run_that_could_not_go_on_leaves_its_curves_as_they_were(run):
    log(run, *range(5))
    before = (run / "metrics.csv").read_bytes()
    with contextlib.suppress(ValueError), one_metrics_file(run, before_step=3):
        log(run)
        assert not (run / "metrics.csv").exists()
        raise ValueError("other stages")
    assert (run / "metrics.csv").read_bytes() == before
    assert not (run / ASIDE).exists()


def test_a_run_that_fails_after_some_steps_leaves_old_and_new_rows(run, tmp_path):
    log(run, *range(5))
    with contextlib.suppress(FloatingPointError), one_metrics_file(run, before_step=3):
        log(run, 3)
        raise FloatingPointError
    log(tmp_path / "four", *range(4))
    assert (run / "metrics.csv").read_bytes() == (tmp_path / "four" / "metrics.csv").read_bytes()


def test_the_hooks_of_an_epoch_that_run_again_add_no_row(run, whole):
    """Lightning repeats the end of the epoch that a checkpoint was written in, and logs what a task logs there."""
    log(run, *range(6))
    with one_metrics_file(run, before_step=6):
        log(run, 5, 6, 7, 8)
    assert (run / "metrics.csv").read_bytes() == whole


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_without_curves_has_those_written_since(run, exists):
    run.mkdir()
    if exists:
        (run / "metrics.csv").touch()
    with one_metrics_file(run, before_step=3):
        log(run, 3, 4)
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows] == ["step", "3", "4"]
    with one_metrics_file(run.parent / "none", before_step=3):
        pass
    assert not (run.parent / "none").exists()


def test_only_the_first_process_touches_files(run, monkeypatch):
    log(run, *range(5))
    before = (run / "metrics.csv").read_bytes()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with _one_metrics_file(run):
        assert (run / "metrics.csv").read_bytes() == before
    assert [path.name for path in run.iterdir()] == ["metrics.csv"]
    monkeypatch.setenv("LOCAL_RANK", "0")
    with _one_metrics_file(run):
        assert not (run / "metrics.csv").exists()
