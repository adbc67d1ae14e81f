"""Where a process is and where its run lives, under every launcher."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from callbacks.gathering import all_ranks, patience
from data_modules.errors import DataError
from gaze_lightning import launch, run_folder
from gaze_lightning.cli import _shares_batch_statistics
from gaze_lightning.commands.lost_processes import lost_process, lost_processes_end_the_command
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.main import _fit_arguments, main
from gaze_lightning.processes import refuse_other_number
from tests.built_only import BuiltOnly
from tests.two_processes import clean_environment

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "GROUP_RANK": "1"}
SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_ID": "0",
}
FIRST = {
    "alone": {},
    "lightning": {"LOCAL_RANK": "0", "NODE_RANK": "0"},
    "torchrun": {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"},
    "srun": {**SRUN, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
}
OTHER = {"lightning": {"LOCAL_RANK": "1", "NODE_RANK": "0"}, "torchrun": TORCHRUN, "srun": SRUN}
_PREFIXES = ("SLURM_", "TORCHELASTIC_", "GAZE_LIGHTNING_RUN", "WANDB_")
_NAMES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    """Start from an environment without any, and leave none behind."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name in _NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("GAZE_LIGHTNING_RUN_DIR", "to be removed afterwards")
    monkeypatch.delenv("GAZE_LIGHTNING_RUN_DIR")
    monkeypatch.setattr(run_folder, "_made", [])


@pytest.fixture
def started(monkeypatch):
    def by(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return by


@pytest.mark.parametrize(
    ("variables", "kind"),
    [(variables, kind) for group in (FIRST, OTHER) for kind, variables in group.items()]
    + [
        ({**SRUN, **TORCHRUN}, "torchrun"),
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, "alone"),
        ({**SRUN, "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, "lightning"),
        ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0"}, "alone"),
    ],
)
def test_places_are_those_that_lightning_sees(started, variables, kind):
    started(variables)
    assert launch.launcher() == kind
    theirs = next(one for one in (TorchElasticEnvironment, SLURMEnvironment, LightningEnvironment) if one.detect())()
    names = {"torchrun": TorchElasticEnvironment, "srun": SLURMEnvironment}
    assert isinstance(theirs, names.get(kind, LightningEnvironment))
    assert launch.local_rank() == theirs.local_rank()
    if kind in names:
        assert launch.is_first_process() == (theirs.global_rank() == 0)
        assert launch.started_processes() == theirs.world_size()
    else:
        assert launch.is_first_process() == (theirs.local_rank() == 0 and theirs.node_rank() == 0)
        assert launch.started_processes() is None


def test_the_second_node_of_a_launch_by_hand_is_not_first(started):
    started({"NODE_RANK": "1"})
    assert not launch.is_first_process()


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "slurm-77"),
        ({"SLURM_STEP_ID": "2"}, "slurm-77.2"),
        ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "5"}, "slurm-70_5"),
        ({"SLURM_RESTART_COUNT": "1"}, "slurm-77"),
        ({"WANDB_RUN_ID": "abc"}, "slurm-77"),
        ({"WANDB_RUN_ID": "abc", "WANDB_SWEEP_ID": "s"}, "slurm-77-abc"),
        ({"SLURM_STEP_ID": str(0xFFFFFFFB)}, None),
        ({"SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_a_step_of_slurm_names_its_run_alike_in_all_processes(started, more, name):
    for rank in ("0", "3"):
        started({**SRUN, **more, "SLURM_PROCID": rank})
        assert launch.slurm_run_name() == name


@pytest.mark.parametrize("kind", ["alone", "lightning"])
def test_runs_of_one_process_get_folders_of_their_own(started, tmp_path, kind):
    folders = {run_folder.new_run_folder(tmp_path / "e")}
    started(FIRST[kind])
    folders.add(run_folder.new_run_folder(tmp_path / "e"))
    assert set((tmp_path / "e").iterdir()) == folders
    assert len(folders) == 2


def test_the_processes_that_lightning_starts_find_the_folder(started, tmp_path):
    folder = run_folder.new_run_folder(tmp_path)
    started(OTHER["lightning"])
    assert run_folder.new_run_folder(tmp_path) == folder == run_folder.current_run_folder()


@pytest.mark.parametrize(
    ("variables", "nodes"), [({"NODE_RANK": "0"}, 2), ({"NODE_RANK": "1"}, 1), ({"LOCAL_RANK": "1"}, 1), ({}, 2)]
)
def test_nodes_started_by_hand_need_a_folder_and_are_told_so(started, tmp_path, variables, nodes):
    started(variables)
    with pytest.raises(ConfigurationError, match="--run_dir"):
        run_folder.new_run_folder(tmp_path, nodes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stray", ["NODE_RANK", "LOCAL_RANK"])
def test_a_rank_of_zero_that_stands_in_the_environment_does_not_stop_a_run_of_one_process(started, tmp_path, stray):
    started({stray: "0"})
    folder = run_folder.new_run_folder(tmp_path)
    assert folder.is_dir()
    refuse_other_number(1, 1)
    if stray == "NODE_RANK":
        refuse_other_number(2, 1)  # Lightning starts the other one, and tells it the folder
        return
    with pytest.raises(ConfigurationError, match="unset LOCAL_RANK"):
        refuse_other_number(2, 1)
    run_folder.take(tmp_path / "given")
    refuse_other_number(2, 1)


def test_a_folder_is_named_by_chance_where_the_same_command_would_have_another(started, tmp_path):
    assert run_folder.is_named_by_chance(run_folder.new_run_folder(tmp_path))
    assert not run_folder.is_named_by_chance(run_folder.take(tmp_path / "given"))
    started(FIRST["srun"])
    assert not run_folder.is_named_by_chance(run_folder.new_run_folder(tmp_path))


def test_of_several_processes_with_an_unusable_command_the_first_one_speaks(started, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr("gaze_lightning.main.let_the_first_speak", lambda: waited.append(1) or sys.exit(2))
    for variables in (FIRST["torchrun"], OTHER["torchrun"]):
        started(variables)
        with pytest.raises(SystemExit) as stop:
            main(["train", "--config", "no_such_experiment"])
        assert stop.value.code == 2
        assert ("no_such_experiment" in capsys.readouterr().err) == (not waited)
    assert waited


def test_below_srun_rank_zero_alone_makes_the_folder_and_a_requeued_job_finds_it(started, tmp_path):
    started(OTHER["srun"])
    assert run_folder.new_run_folder(tmp_path) == tmp_path / "slurm-77"
    assert not list(tmp_path.iterdir())
    started(FIRST["srun"])
    for count in ("0", "1"):
        started({"SLURM_RESTART_COUNT": count})
        assert run_folder.new_run_folder(tmp_path) == tmp_path / "slurm-77"
        assert [one.name for one in tmp_path.iterdir()] == ["slurm-77"]


def test_tasks_without_srun_are_refused_and_a_single_one_is_a_run_like_any_other(started, monkeypatch, tmp_path):
    started(FIRST["srun"])
    monkeypatch.delenv("SLURM_STEP_ID")
    with pytest.raises(ConfigurationError, match="srun before the command"):
        run_folder.new_run_folder(tmp_path)
    started({"SLURM_NTASKS": "1"})
    assert len({run_folder.new_run_folder(tmp_path), run_folder.new_run_folder(tmp_path)}) == 2


def test_an_empty_folder_that_this_run_made_goes_and_no_other(started, tmp_path):
    run_folder.take(tmp_path / "full")
    (tmp_path / "full" / "config.yaml").touch()
    run_folder.take(tmp_path / "empty")
    (tmp_path / "given").mkdir()
    run_folder.take(tmp_path / "given")
    run_folder.remove_empty_run_folder()
    assert {one.name for one in tmp_path.iterdir()} == {"full", "given"}


def test_a_command_with_unusable_arguments_leaves_no_folder_in_the_run_it_names(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"hyper_parameters": {}}, tmp_path / "checkpoints" / "best.ckpt")
    (tmp_path / "config.yaml").write_text("no_such_key: 1\n")
    with pytest.raises(SystemExit) as stop:
        main(["test", "--run", str(tmp_path)])
    assert stop.value.code == 2
    assert not list((tmp_path / "test").iterdir())


def test_agents_that_restart_on_several_nodes_are_refused_a_fresh_folder(started, tmp_path):
    started({**TORCHRUN, "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "1"})
    with pytest.raises(ConfigurationError, match="--max-restarts"):
        run_folder.new_run_folder(tmp_path)


_TOLD = """
import sys
from pathlib import Path
import torch, torch.distributed
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import is_first_process
from gaze_lightning.run_folder import new_run_folder

base, rank = Path(sys.argv[1]), 0 if is_first_process() else 1
first = new_run_folder(base / "runs")
second = new_run_folder(base / "runs")
torch.distributed.init_process_group("gloo")
total = torch.ones(1)
torch.distributed.all_reduce(total)
try:
    new_run_folder(base / "file" / "runs")
    failure = ""
except (OSError, ConfigurationError) as error:
    failure = f"{type(error).__name__}: {error}"
(base / f"told {rank}").write_text(f"{first} {second} {total.item()}\\n{failure}")
"""


@pytest.mark.ddp
@pytest.mark.parametrize("share", ["0", "1"], ids=["agents' store", "rank zero's store"])
def test_processes_of_torchrun_learn_the_folder_and_then_find_each_other(tmp_path, share):
    (tmp_path / "told.py").write_text(_TOLD)
    (tmp_path / "file").touch()
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launched, str(tmp_path / "told.py"), str(tmp_path)],
        env=clean_environment(TORCH_DISABLE_SHARE_RDZV_TCP_STORE=share),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (told, failure), (also, refusal) = ((tmp_path / f"told {rank}").read_text().split("\n") for rank in (0, 1))
    assert told == also
    *folders, total = told.split()
    assert {str(one) for one in (tmp_path / "runs").iterdir()} == set(folders)
    assert len(set(folders)) == 2
    assert float(total) == 2
    assert failure.startswith(("NotADirectoryError", "FileExistsError"))
    assert refusal.startswith("ConfigurationError: on the first process")


@pytest.mark.parametrize(("devices", "nodes", "accepted"), [(2, 2, True), (4, 1, True), (1, 1, False), (2, 1, False)])
def test_processes_that_the_trainer_does_not_take_are_refused(started, devices, nodes, accepted):
    started(TORCHRUN)
    if accepted:
        refuse_other_number(devices, nodes)
        return
    with pytest.raises(ConfigurationError, match=r"torchrun has started 4 process\(es\).*--trainer.num_nodes"):
        refuse_other_number(devices, nodes)


class PreparedOnly(BuiltOnly):
    """What the trainer would be built of."""

    def instantiate_classes(self):
        self.before_instantiate_classes()

    def after_instantiate_classes(self):
        pass


@pytest.mark.parametrize(
    ("devices", "accelerator", "there", "strategy"),
    [
        ("auto", "auto", 2, "ddp_find_unused_parameters_true"),
        ("-1", "gpu", 2, "ddp_find_unused_parameters_true"),
        ("[0,1]", "gpu", 2, "ddp_find_unused_parameters_true"),
        ("0,1", "gpu", 2, "ddp_find_unused_parameters_true"),
        ("[1]", "gpu", 2, "auto"),
        ("1,", "gpu", 2, "auto"),
        ("1", "auto", 2, "auto"),
        ("auto", "auto", 1, "auto"),
        ("auto", "cpu", 2, "auto"),
        ("2", "cpu", 0, "ddp_find_unused_parameters_true"),
    ],
)
def test_all_gpus_of_a_node_are_several_processes_with_all_that_these_need(
    monkeypatch, phantom_arguments, tmp_path, devices, accelerator, there, strategy
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr("gaze_lightning.cli._leaves_parameters_unused", lambda config: True)
    given = [f"--trainer.devices={devices}", f"--trainer.accelerator={accelerator}", "--trainer.strategy=auto"]
    config = ["--config=ssl_byol_resnet50", *phantom_arguments, *given, f"--runs={tmp_path}"]
    chosen = PreparedOnly(["fit", *_fit_arguments(config)]).config["fit"]
    assert chosen.trainer.strategy == strategy
    shared = strategy != "auto" and accelerator != "cpu"
    assert _shares_batch_statistics(chosen, torch.cuda.is_available()) == shared


@pytest.mark.parametrize(
    ("given", "unused", "kind", "looks_for_unused"),
    [
        ([], False, SingleDeviceStrategy, None),
        ([], True, SingleDeviceStrategy, None),
        (["--config=trainer/ddp"], False, DDPStrategy, False),
        (["--config=trainer/ddp"], True, DDPStrategy, True),
        (["--trainer.devices=2"], True, DDPStrategy, True),
        (["--trainer.num_nodes=2", "--run_dir={tmp}/run"], True, DDPStrategy, True),
        (["--trainer.strategy=DDPStrategy", "--trainer.strategy.timeout=1:00:00"], True, DDPStrategy, True),
        (["--trainer.strategy=DDPStrategy", "--trainer.strategy.timeout=1:00:00"], False, DDPStrategy, False),
    ],
)
def test_strategy_looks_for_unused_parameters_where_there_are_some(
    monkeypatch, phantom_arguments, tmp_path, given, unused, kind, looks_for_unused
):
    monkeypatch.setattr("gaze_lightning.cli._leaves_parameters_unused", lambda config: unused)
    arguments = ["--config=baseline_resnet18", *phantom_arguments, "--trainer.accelerator=cpu", f"--runs={tmp_path}"]
    chosen = [argument.format(tmp=tmp_path) for argument in given]
    strategy = BuiltOnly(["fit", *_fit_arguments([*arguments, *chosen])]).trainer.strategy
    assert type(strategy) is kind
    if looks_for_unused is not None:
        assert bool(strategy._ddp_kwargs.get("find_unused_parameters")) == looks_for_unused
    if "timeout" in str(given):
        assert strategy._timeout == timedelta(hours=1)


def test_the_folder_of_another_run_is_refused_in_all_processes(started, phantom_arguments, tmp_path):
    (tmp_path / "slurm-77").mkdir()
    (tmp_path / "slurm-77" / "config.yaml").touch()
    arguments = ["--config=baseline_resnet18", *phantom_arguments, f"--runs={tmp_path.parent}"]
    for place in (FIRST["srun"], OTHER["srun"]):
        started(place)
        with pytest.raises(DataError, match="holds a run already"):
            BuiltOnly(["fit", *_fit_arguments(arguments), f"--experiment={tmp_path.name}"])


def test_without_a_launcher_any_number_is_accepted():
    refuse_other_number(8, 1)


def test_a_lost_process_is_told_from_an_error_of_this_one(capfd, started, tmp_path):
    run = run_folder.take(tmp_path / "run")
    lost = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(SystemExit) as stop, lost_processes_end_the_command():
        raise lost
    assert stop.value.code == 1
    shown = capfd.readouterr().err
    assert "Connection closed by peer" in shown
    assert "No epoch was complete" in shown
    (run / "checkpoints").mkdir()
    torch.save({"epoch": 4}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(SystemExit), lost_processes_end_the_command():
        raise lost
    shown = capfd.readouterr().err
    assert "end of epoch 4" in shown
    assert f"gaze-lightning resume --run {os.path.relpath(run)}" in shown
    for own in (RuntimeError("CUDA out of memory"), ValueError("gloo/transport"), RuntimeError("shape mismatch")):
        with pytest.raises(type(own)) as found, lost_processes_end_the_command():
            raise own
        assert found.value is own
    assert not lost_process(RuntimeError("Connection closed by peer"))  # of anything but the processes' connections


def test_nccls_timeout_is_a_lost_process_and_a_port_that_is_taken_is_none():
    waited = "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7) ran for 600000 milliseconds"
    assert lost_process(torch.distributed.DistBackendError(waited))
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        with pytest.raises(torch.distributed.DistNetworkError) as error:
            torch.distributed.TCPStore("localhost", taken.getsockname()[1], 1, is_master=True)
    assert not lost_process(error.value)


def _wait(folder: Path, rank: int) -> None:
    """Wait longer than the default group does: for long work, and then for a process that hangs."""
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(minutes=5))
    torch.distributed.barrier()
    torch.distributed.set_timeout(timedelta(seconds=1))
    with patience() as group:
        if rank == 0:
            time.sleep(3)
        together = all_ranks([rank], group)
    found = False
    try:
        if rank == 0:
            time.sleep(3)
        all_ranks([rank])
    except RuntimeError as error:
        found = lost_process(error)
    (folder / f"waited {rank}").write_text(f"{together} {found}")


@pytest.mark.ddp
def test_long_work_of_one_process_does_not_end_the_others_and_a_process_that_hangs_does(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=_wait, args=(tmp_path, rank)) for rank in (0, 1)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert [(tmp_path / f"waited {rank}").read_text() for rank in (0, 1)] == ["[0, 1] True"] * 2
