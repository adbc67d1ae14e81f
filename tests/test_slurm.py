"""TRAINER=slurm without SLURM: with the variables that it sets, and a stand-in for its command."""

import json
import os
import re
import signal
import subprocess

import pytest
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.strategies import DDPStrategy

from callbacks import Preemption, Provenance
from gaze_lightning import run_folder, slurm
from gaze_lightning.checkpoint_io import AtomicCheckpointIO
from gaze_lightning.commands.sweep_check import ParsedOnly
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.layers import ROOT
from gaze_lightning.main import _fit_arguments, main
from gaze_lightning.sync_batch_norm import SyncBatchNorm
from tests.built_only import BuiltOnly
from tests.slurm_tasks import environment, stand_in_scontrol


@pytest.fixture
def step(monkeypatch):
    """Make this process a task of a step."""

    def become(**more: str) -> None:
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            monkeypatch.delenv(name)
        for name, value in environment("4711", **more).items():
            if name.startswith("SLURM_"):
                monkeypatch.setenv(name, value)

    return become


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 1)),
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}, (4, 1)),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, (4, 2)),
        ({"SLURM_NTASKS": "3", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "3"}, (1, 3)),
    ],
)
def test_devices_and_nodes_are_those_of_the_step(step, given, expected):
    step(**given)
    assert slurm.devices_and_nodes(gpus=None) == {"devices": expected[0], "num_nodes": expected[1]}
    assert slurm.devices_and_nodes(gpus=4) == slurm.devices_and_nodes(gpus=None)


def test_gpus_for_which_there_is_no_task_are_told(step, monkeypatch, phantom_arguments, tmp_path):
    step()
    monkeypatch.setenv("GAZE_LIGHTNING_RUN_DIR", "")  # restored after the test
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr(BuiltOnly, "instantiate_classes", lambda self: self.before_instantiate_classes())
    monkeypatch.setattr(BuiltOnly, "after_instantiate_classes", lambda self: None)
    arguments = ["--config=baseline_resnet18", "--config=trainer/slurm", *phantom_arguments, f"--runs={tmp_path}"]
    with pytest.warns(UserWarning, match="sees 4 GPUs and SLURM runs 1 task.*--ntasks-per-node=4"):
        BuiltOnly(["fit", *_fit_arguments(arguments)])


@pytest.mark.parametrize(
    ("given", "without", "gpus", "message"),
    [
        ({}, ["SLURM_STEP_ID"], None, "put srun before the command"),
        ({"SLURM_JOB_NAME": "interactive"}, [], None, "salloc --job-name="),
        ({"SLURM_NTASKS": "4"}, ["SLURM_NTASKS_PER_NODE"], None, "no --ntasks-per-node"),
        ({"SLURM_NTASKS": "3", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}, [], None, "equally many"),
        ({"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}, [], 1, "Give --gpus-per-node=4"),
        ({}, [], 0, "--trainer.accelerator=cpu"),
    ],
)
def test_a_step_that_cannot_train_is_refused_with_the_remedy(step, monkeypatch, given, without, gpus, message):
    step(**given)
    for name in without:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        slurm.devices_and_nodes(gpus)


def test_trainer_slurm_without_srun_ends_with_status_2_and_leaves_nothing(phantom_arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "train",
                "--config=baseline_resnet18",
                "--config=trainer/slurm",
                *phantom_arguments,
                f"--runs={tmp_path / 'runs'}",
            ]
        )
    assert stop.value.code == 2
    assert "put srun before the command" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("shared", [False, True])
def test_the_trainer_is_that_of_the_step_requeues_nothing_itself_and_writes_whole_checkpoints(
    step, monkeypatch, phantom_arguments, tmp_path, shared
):
    step()
    monkeypatch.setenv("GAZE_LIGHTNING_RUN_DIR", "")  # restored after the test
    monkeypatch.setattr("gaze_lightning.cli._shares_batch_statistics", lambda config, cuda: shared)
    arguments = [
        "--config=baseline_resnet18",
        "--config=trainer/slurm",
        *phantom_arguments,
        "--trainer.accelerator=cpu",
    ]
    built = BuiltOnly(["fit", *_fit_arguments([*arguments, f"--runs={tmp_path}"])])
    connector = built.trainer._accelerator_connector
    assert isinstance(connector.cluster_environment, SLURMEnvironment)
    assert not connector.cluster_environment.auto_requeue
    assert isinstance(built.trainer.strategy, DDPStrategy)
    assert isinstance(built.trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert isinstance(built.trainer.strategy._layer_sync, SyncBatchNorm) is shared
    assert (built.trainer.num_devices, built.trainer.num_nodes) == (1, 1)
    assert built.config["fit"].trainer.devices == slurm.DEVICES
    assert [path.name for path in tmp_path.glob("*/*")] == ["slurm-4711"]


@pytest.mark.parametrize("name", ["train", "agent"])
def test_batch_scripts_are_shell_and_their_command_line_is_understood(name, tmp_path, capsys):
    main(["slurm", name])
    script = tmp_path / f"{name}.sbatch"
    script.write_text(capsys.readouterr().out)
    assert script.read_text() == (ROOT / "slurm" / f"{name}.sbatch").read_text()
    for program in ("srun", "gaze-lightning"):  # they say what they were asked for
        (tmp_path / program).write_text(f'#!/bin/sh\nprintf "%s\\n" {program} "$@"\n')
        (tmp_path / program).chmod(0o755)
    asked = subprocess.run(
        ["bash", str(script), "entity/project/id"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "8"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    options = re.findall(r"^#SBATCH (\S+)$", script.read_text(), re.MULTILINE)
    assert len(options) == len(re.findall("#SBATCH -", re.sub("#SBATCH --account.*", "", script.read_text())))
    given = dict(option.removeprefix("--").partition("=")[::2] for option in options)
    assert given["ntasks-per-node"] == given["gpus-per-node"]
    if name == "train":
        assert asked[:4] == ["srun", "--kill-on-bad-exit=1", "gaze-lightning", "train"]
        assert (given["signal"], given["open-mode"], "requeue" in given) == ("SIGUSR1@120", "append", True)
        arguments = asked[4:]
    else:
        assert asked[:3] == ["gaze-lightning", "agent", "entity/project/id"]
        assert asked[asked.index("--launcher") + 1].startswith("srun ")
        assert "no-requeue" in given
        arguments = ["--config", "ggcam_resnet50", *asked[asked.index("--config") :]]
    config = ParsedOnly(["fit", *_fit_arguments(arguments)]).config["fit"]
    assert (config.trainer.devices, config.trainer.strategy) == (slurm.DEVICES, "ddp")
    assert config.data.init_args.num_workers == 7


def test_an_unknown_batch_script_ends_with_status_2_and_lists_them(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["slurm", "tarin"])
    assert stop.value.code == 2
    assert "agent, train" in capsys.readouterr().err


class _Signal(Callback):
    """The warning, twice, in the middle of an epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (1, 1):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR1)


class _Helper(Callback):
    """A process that neither this one nor its libraries have taught what the warning is, and which gets it as well."""

    def on_train_start(self, trainer, pl_module):
        self.process = subprocess.Popen(["sleep", "60"])
        self.process.send_signal(signal.SIGUSR1)


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Train for three epochs, with the warning in the second one."""
    before = signal.getsignal(signal.SIGUSR1)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def run(folder=tmp_path, *more: Callback) -> list[str]:
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            default_root_dir=folder,
            max_epochs=3,
            limit_train_batches=3,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Preemption(), Provenance(), _Signal(), *more],
        )
        trainer.fit(BoringModel(), torch.utils.data.DataLoader(torch.zeros(6, 32), batch_size=2))
        return [entry["state"] for entry in json.loads((folder / "provenance.json").read_text())["entries"]]

    yield run
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    ("given", "job"),
    [
        ({"SLURM_JOB_ID": "4711"}, "4711"),
        ({"SLURM_JOB_ID": "4713", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "2"}, "4711_2"),
    ],
)
def test_a_warning_requeues_the_job_once_and_a_training_that_ends_all_the_same_is_finished(
    fit, tmp_path, monkeypatch, caplog, given, job
):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    asked = stand_in_scontrol(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    caplog.set_level("INFO")
    assert fit() == ["finished"]
    assert asked.read_text() == f"requeue {job}\n"
    assert "in epoch 1; it is in the queue again. There is no complete epoch" in caplog.text


def test_a_refused_requeue_is_told_with_what_scontrol_said(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    stand_in_scontrol(tmp_path / "bin", status=1, output="Requested operation is presently disabled")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.warns(UserWarning, match=r"requeue 4711`: Requested operation is presently disabled \(status 1\)"):
        fit()


def test_a_missing_scontrol_is_told(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match=r"no scontrol here.*start it anew in a new job"):
        fit()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    folder = os.path.relpath(tmp_path)
    with pytest.warns(UserWarning, match=f"no scontrol here.*in a new job: gaze-lightning resume --run {folder}"):
        fit()


def test_a_job_that_would_not_find_its_folder_again_is_not_requeued(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("GAZE_LIGHTNING_RUN_DIR", "")  # restored after the test
    asked = stand_in_scontrol(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.warns(UserWarning, match=r"in epoch 1\. It is not put back into the queue: started without srun and"):
        assert fit(run_folder.new_run_folder(tmp_path / "runs")) == ["finished"]
    assert not asked.exists()


def test_processes_that_are_not_forked_survive_the_warning(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    stand_in_scontrol(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    helper = _Helper()
    try:
        fit(tmp_path, helper)
        assert helper.process.poll() is None
    finally:
        helper.process.kill()
        helper.process.wait()


def test_an_epoch_that_was_cut_short_three_times_is_not_begun_again(fit, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    asked = stand_in_scontrol(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    earlier = [{"stage": "fit", "state": f"pre-empted in epoch {epoch}"} for epoch in (0, 0, 1, 1)]
    (tmp_path / "provenance.json").write_text(json.dumps({"format": 1, "entries": earlier}))
    with pytest.warns(UserWarning, match="in epoch 1 3 times, as if that took longer than the time limit"):
        fit()
    assert not asked.exists()


def test_outside_slurm_the_signal_keeps_its_meaning(fit, tmp_path, monkeypatch):
    came = []
    signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
    assert fit() == ["finished"]
    assert came
