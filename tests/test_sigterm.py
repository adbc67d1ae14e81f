"""How a command ends that SIGTERM has ended."""

import os
import signal

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

from gaze_lightning.commands.run import sigterm_ends_the_command
from gaze_lightning.main import main

STATUS = 143
"""What a shell reports of a process that SIGTERM has ended."""


class Terminated(Callback):
    """Somebody ends the process within the phase that ``TERMINATE_IN`` names."""

    def on_train_batch_end(self, *args):
        self._end("train")

    def on_test_batch_end(self, *args):
        self._end("test")

    def _end(self, phase):
        if os.environ["TERMINATE_IN"] == phase:
            os.kill(os.getpid(), signal.SIGTERM)


def test_train_resume_and_test_that_sigterm_ends_do_not_look_successful(phantom_arguments, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train = [
        "train",
        "--config=baseline_resnet18",
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.eval_batch_size=8",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--trainer.limit_train_batches=2",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        f"--trainer.callbacks=[{__name__}.Terminated]",
    ]
    of_run = [f"--run={run}"]
    for phase, arguments in (
        ("train", [*train, f"--run_dir={tmp_path / 'first'}"]),
        ("test", [*train, f"--run_dir={run}"]),
        ("test", ["resume", *of_run]),
        ("test", ["test", *of_run]),
    ):
        monkeypatch.setenv("TERMINATE_IN", phase)
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == STATUS, arguments
        assert isinstance(end.value.__cause__, SIGTERMException)


@pytest.mark.parametrize(
    ("started", "status"),
    [
        ({}, STATUS),
        ({"LOCAL_RANK": "1"}, None),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, STATUS),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, None),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, STATUS),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, None),
    ],
)
def test_only_the_first_process_has_a_status_for_which_launchers_kill_the_others(started, status, monkeypatch):
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end, sigterm_ends_the_command():
        raise SIGTERMException
    assert end.value.code == status
