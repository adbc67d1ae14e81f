"""Two real processes through the command line, as Lightning starts them on a node with two devices."""

import json

import pytest

from tests.interruption import assert_same_run, command_line, digests
from tests.matrix import TWO, matrix_of_tasks
from tests.matrix_cases import TASKS, arguments_of
from tests.sampler_ranks import record

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


def test_lightnings_own_launch_has_one_folder_survives_a_kill_and_ends_as_under_torchrun(tmp_path_factory, tmp_path):
    matrix, experiment = matrix_of_tasks(tmp_path_factory), TASKS["ggcam"]
    given = ["train", *arguments_of(experiment, matrix), *TWO, f"--runs={tmp_path}"]
    command_line(given, interrupt_at="batch_end 2 1")
    (run,) = (tmp_path / experiment).iterdir()
    assert list(digests(run, 0)) == [0, 1]
    command_line(["resume", "--run", str(run)])
    assert_same_run(matrix / "runs" / "ggcam", run)
    assert digests(run, 0) == digests(run, 1)


def test_processes_share_the_draws_of_a_balanced_epoch_among_them(tmp_path_factory):
    folder = matrix_of_tasks(tmp_path_factory)
    record(str(folder), 1)
    alone = json.loads((folder / "seen_1_0.json").read_text())
    seen = [json.loads((folder / f"seen_2_{rank}.json").read_text()) for rank in range(2)]
    for epoch in range(3):
        expected = [name for number, name in alone if number == epoch]
        ranks = [[name for number, name in rank if number == epoch] for rank in seen]
        together = [name for pair in zip(*ranks, strict=True) for name in pair]
        length = min(len(expected), len(together))  # the last incomplete batch is left out, which differs
        assert length >= len(expected) - 2
        assert together[:length] == expected[:length]
