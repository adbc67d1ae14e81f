"""``agent`` and ``trial``: run the trials of a W&B sweep on this machine."""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from gaze_lightning.commands.user_errors import user_errors_end_the_command
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.launch import is_first_process, started_processes
from gaze_lightning.layers import UnknownNameError, available, resolve
from gaze_lightning.wandb_package import import_wandb

_ARGUMENTS = "GAZE_LIGHTNING_TRIAL_ARGUMENTS"
_LAUNCHER = "GAZE_LIGHTNING_TRIAL_LAUNCHER"
_NOTES = "GAZE_LIGHTNING_TRIAL_NOTES"
_ENDED_WELL = ("finished", "stopped")
_OF_THE_SWEEP = ("experiment", "staged_training", "checkpoint", "trainer.logger", "trainer.callbacks")


def agent(args: list[str]) -> None:
    """Ask W&B for trials of a sweep and run them one after the other, with this interpreter.

    What belongs to this machine (paths, devices) is given here. The trials find it in their environment, and it is not
    sent to W&B. Over it wins what the sweep says as ``--key=value``, sampled or fixed; it wins over the layers that the
    sweep names. What is trained, selected and logged is refused here.

    Args:
        args: id of the sweep, options, and arguments that all trials on this machine have.

    Raises:
        SystemExit: status 2 if an argument cannot be used or W&B cannot be asked, 1 if a trial failed. Trials that the
            sweep stops early have not failed.
    """
    parser = argparse.ArgumentParser(
        "gaze-lightning agent",
        allow_abbrev=False,
        description="Run trials of a W&B sweep. Further arguments (--config trainer/gpu, --config FILE, "
        "--data.init_args.root=...) hold for all trials on this machine and stay on it.",
    )
    parser.add_argument("sweep", help="ID, PROJECT/ID or ENTITY/PROJECT/ID, as `sweep` printed it")
    parser.add_argument("--count", type=int, help="number of trials; default: until the sweep ends")
    parser.add_argument("--launcher", default="", help='put before each trial, e.g. "srun"')
    with user_errors_end_the_command():
        options, local = parser.parse_known_args(args)
        if options.count is not None and options.count < 1:
            raise ConfigurationError(f"--count {options.count}: give a number from 1, or leave it out")
        parts = options.sweep.split("/")
        if len(parts) > 3 or not all(parts):  # wandb would print an error and end as if all were well
            raise ConfigurationError(f"{options.sweep}: a sweep is ID, PROJECT/ID or ENTITY/PROJECT/ID")
        _check_local(local)
        failed = _run(options.sweep, options.count, local, options.launcher)
    if failed:
        print(f"\n{len(failed)} trial(s) failed: {', '.join(failed)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1)


def trial(args: list[str]) -> None:
    """Run one trial: ``fit`` with the arguments of the sweep and those that the agent was given.

    It lives in ``runs/sweeps/<id of the sweep>/<id of the W&B run>``. Nothing is tested: what is chosen by validation
    is tested once, when it is chosen.

    Args:
        args: arguments of the sweep.

    Raises:
        SystemExit: as ``fit``. A trial that the sweep stops early ends without an error if it is one process or if
            Lightning has started the others. Below ``srun`` and torchrun its status is 1, by which they end the other
            processes; these would wait for this one.
    """
    with user_errors_end_the_command():
        if missing := [name for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID") if name not in os.environ]:
            raise ConfigurationError(f"trial is what an agent of a sweep starts ({missing[0]} is not set): use agent")
        sweep_id, run_id = os.environ["WANDB_SWEEP_ID"], os.environ["WANDB_RUN_ID"]
        local = [str(argument) for argument in json.loads(os.environ.get(_ARGUMENTS, "[]"))]
        places = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        places.add_argument("--runs", default="runs")
        folder = Path(places.parse_known_args(local)[0].runs) / "sweeps" / sweep_id / run_id
    _note(run_id, "started")
    if launcher := shlex.split(os.environ.pop(_LAUNCHER, "")):
        os.execvp(launcher[0], [*launcher, sys.executable, "-m", "gaze_lightning", "trial", *args])
    from gaze_lightning.main import main

    try:
        main(["fit", *local, "--run_dir", str(folder), *args])  # what comes last wins
    except (KeyboardInterrupt, SystemExit) as end:
        if not _was_stopped(end):
            raise
        _note(run_id, "stopped")
        if (started_processes() or 1) > 1:
            raise SystemExit(1) from end
    else:
        _note(run_id, "finished")


def _check_local(local: Sequence[str]) -> None:
    """Refuse what would hide trials, make those of one sweep different from each other, or decide their folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", "-c", action="append", default=[])
    parser.add_argument("--run_dir")
    options, rest = parser.parse_known_args(local)
    if options.run_dir is not None:
        raise ConfigurationError("--run_dir: each trial has a folder of its own; --runs says below which one")
    for name in options.config:
        if name in available() or (name.startswith(("data/", "setting/", "logger/")) and not Path(name).is_file()):
            raise ConfigurationError(f"--config {name}: the sweep says what is trained (sweep NAME --config {name})")
    try:
        files = resolve(options.config).files
    except UnknownNameError as error:
        raise ConfigurationError(str(error)) from error
    given = [("--", one.removeprefix("--").partition("=")[0].rstrip("+")) for one in rest if one.startswith("--")]
    given += [(f"{file}: ", key) for file in files for key in _keys(yaml.safe_load(file.read_text()))]
    for where, key in given:
        if any(f"{key}.".startswith(f"{own}.") or f"{own}.".startswith(f"{key}.") for own in _OF_THE_SWEEP):
            raise ConfigurationError(
                f"{where}{key} is none of the machine's: the sweep says what is trained, selected and logged "
                f"({', '.join(_OF_THE_SWEEP)})"
            )


def _keys(content: Any, section: str = "") -> Iterator[str]:
    """Dotted names of what the content of a configuration file sets."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _keys(value, f"{section}{key}.")
    else:
        yield section.rstrip(".")


def _run(sweep_id: str, count: int | None, local: Sequence[str], launcher: str) -> list[str]:
    """Run W&B's agent in this process until it ends.

    Returns:
        Ids of the trials that failed.

    Raises:
        ConfigurationError: W&B cannot be reached, or does not know the sweep, or no longer.
    """
    wandb = import_wandb()
    from wandb.sdk.sweeps import SweepNotFoundError

    bin_folder = str(Path(sys.executable).parent)
    if shutil.which("python", path=bin_folder) is None:  # W&B starts "python", whichever PATH names first
        raise ConfigurationError(f"{bin_folder} has no python: run the agent from a virtual environment")
    if launcher and shutil.which(shlex.split(launcher)[0]) is None:
        raise ConfigurationError(f"--launcher {launcher}: there is no such program here")
    with tempfile.TemporaryDirectory(prefix="gaze_lightning_agent_", ignore_cleanup_errors=True) as folder:
        os.environ |= {
            "PATH": bin_folder + os.pathsep + os.environ.get("PATH", ""),
            "WANDB_DIR": folder,  # of the agent: it leaves a file for each trial; trials log into their own folders
            _ARGUMENTS: json.dumps(list(local)),
            _LAUNCHER: launcher,
            _NOTES: folder,
        }
        # W&B registers an agent under the name of its machine, as which no run is registered either
        wandb.wandb_agent.socket = SimpleNamespace(gethostname=lambda: "agent")
        try:
            wandb.agent(sweep_id, count=count, forward_signals=True)
        except (wandb.Error, SweepNotFoundError) as error:
            raise ConfigurationError(
                f"W&B: {error} (wandb login, WANDB_API_KEY; the sweep as ENTITY/PROJECT/ID)"
            ) from error
        started = {path.stem.removeprefix("config-") for path in Path(folder).glob("wandb/sweep-*/config-*.yaml")}
        ends = {path.stem: path.read_text() for path in Path(folder).glob("*.trial")}
    failed = sorted(run for run in started | ends.keys() if ends.get(run) not in _ENDED_WELL)
    print(f"\n{len(started) - len(failed)} trial(s) ended well")  # noqa: T201
    return failed


def _note(run_id: str, what: str) -> None:
    """Tell the agent how far a trial has come."""
    if (folder := os.environ.get(_NOTES)) and is_first_process():
        (Path(folder) / f"{run_id}.trial").write_text(what)


def _was_stopped(end: BaseException) -> bool:
    """Whether W&B has ended a trial: wandb interrupts the process, or the agent terminates it.

    Lightning turns the interruption into an exit with status 1, the other one into an exit without a status, to which
    the command gives its own in the first process.
    """
    if isinstance(end, KeyboardInterrupt) or isinstance(end.__context__, KeyboardInterrupt):
        return True
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    return isinstance(end, SIGTERMException) or isinstance(end.__cause__, SIGTERMException)
