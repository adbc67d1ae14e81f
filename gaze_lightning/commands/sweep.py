"""``sweep``: create a W&B sweep of an experiment."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gaze_lightning.commands.sweep_check import check_sweep
from gaze_lightning.commands.sweep_file import read_sweep, sweeps, values_of
from gaze_lightning.commands.user_errors import user_errors_end_the_command
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.layers import Layers, UnknownNameError, available, description, resolve
from gaze_lightning.shareable_configuration import stays_here
from gaze_lightning.wandb_package import import_wandb

PROJECT = "gaze_lightning"
_TRIAL = ["${env}", "${interpreter}", "-m", "gaze_lightning", "trial"]


def sweep(args: list[str]) -> None:
    """Check a sweep file against the experiment, then create the sweep and print how its agents are started.

    W&B stores the sweep. What `shareable_configuration` would not send of a trial is refused here, whether all trials
    have it or the sweep tries it: it is given to the agents, as devices are.

    Args:
        args: name of the sweep, options, and arguments that all trials have.

    Raises:
        SystemExit: status 2: the sweep could not run, or W&B cannot be reached. Nothing has been created then.
    """
    parser = argparse.ArgumentParser(
        "gaze-lightning sweep",
        allow_abbrev=False,
        description="Create a W&B sweep of an experiment. Further --key=value go to all trials.",
        epilog="sweeps: " + ", ".join(sweeps()),
    )
    parser.add_argument("sweep", help="name of a sweep, or a sweep file (then with --config EXPERIMENT)")
    parser.add_argument("--config", "-c", action="append", default=[], help="experiment, data/... or setting/...")
    parser.add_argument(
        "--project", default=os.environ.get("WANDB_PROJECT") or PROJECT, help="W&B project; default: WANDB_PROJECT"
    )
    parser.add_argument("--entity", help="W&B user or team; default: yours")
    parser.add_argument("--name", help="how the sweep is shown")
    parser.add_argument("--dry-run", action="store_true", help="check and print only")
    with user_errors_end_the_command():
        options, fixed = parser.parse_known_args(args)
        content = read_sweep(options.sweep)
        layers = _layers(options.sweep, options.config)
        name = options.name or Path(options.sweep).stem
        _refuse_what_stays_here({**content, "name": name}, fixed)
        check_sweep(content, layers, fixed)
        assert layers.experiment is not None  # _layers sees to it
        command = [*_TRIAL, "--config", layers.experiment, "--config", "logger/wandb"]
        for name in options.config:
            command += [] if name == layers.experiment else ["--config", name]
        whole = {
            "name": name,
            "description": content.get("description", description(layers.experiment)),
            **{key: content[key] for key in content if key != "description"},
            "command": [*command, *fixed, "${args}"],
        }
        print(json.dumps(whole, indent=2))  # noqa: T201
        if options.dry_run:
            print("\nNothing was created (--dry-run).")  # noqa: T201
            return
        identifier = _create(whole, options.project, options.entity)
    print(  # noqa: T201
        f"\nAgents, one per GPU or group of GPUs (docs/sweeps.md):\n"
        f"  make agent ID={identifier} COUNT=10 TRAINER=auto DATA_ROOT=...\n"
        f"  gaze-lightning agent {identifier} --count 10 --config trainer/auto --data.init_args.root=..."
    )


def _layers(name: str, names: Sequence[str]) -> Layers:
    """The experiment of a sweep and the layers that describe the trials."""
    for given in names:
        if given.startswith("trainer/"):
            raise ConfigurationError(
                f"--config {given}: devices are chosen where an agent runs (agent ID --config {given})"
            )
        if given.startswith("logger/"):
            raise ConfigurationError(f"--config {given}: the trials of a sweep log to W&B, and nowhere else")
        if Path(given).is_file():
            raise ConfigurationError(
                f"--config {given}: a file of this machine cannot be part of a sweep, for agents may run elsewhere; "
                "write its values as --key=value, or give it to the agents"
            )
    experiment = [] if set(names) & set(available()) else [Path(name).stem]
    if experiment and experiment[0] not in available():
        raise ConfigurationError(f"{name}: of which experiment? Add --config EXPERIMENT")
    try:
        return resolve([*experiment, *names, "logger/wandb"])
    except UnknownNameError as error:
        raise ConfigurationError(str(error)) from error


def _refuse_what_stays_here(content: Mapping[str, Any], fixed: Sequence[str]) -> None:
    """Refuse places, ids, secrets and free texts, in the file and its name as in the arguments of all trials."""
    stored = [(key, value) for key, value in content.items() if key != "parameters"]
    for key, parameter in content["parameters"].items():
        stored += [(key, value) for value in values_of(key, parameter)]
        stored += [(f"{key}.{name}", given) for name, given in parameter.items() if name not in ("value", "values")]
    for argument in fixed:
        key, equals, text = argument.partition("=")
        if not (key.startswith("--") and equals):
            raise ConfigurationError(f"{argument}: write arguments of the trials as --key=value")
        stored.append((key.removeprefix("--"), _value(text)))
    for key, value in stored:
        if stays_here(key, value):
            raise ConfigurationError(
                f"{key} would be stored at W&B with the sweep, and its name or value looks like a place on a machine, "
                "an id, a secret or a free text (docs/wandb.md). Arguments that stay on a machine are given to its "
                "agents: agent ID --key=value (make agent ID=... DATA_ROOT=...)"
            )


def _value(text: str) -> Any:
    """A value of the command line, where texts need no quotes."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _create(content: dict[str, Any], project: str, entity: str | None) -> str:
    """Create the sweep; returns ``entity/project/id``."""
    wandb = import_wandb()
    try:
        identifier = wandb.sweep(content, project=project, entity=entity)
    except wandb.Error as error:
        raise ConfigurationError(
            f"W&B did not create the sweep: {error} (wandb login, WANDB_API_KEY; --entity, --project)"
        ) from error
    known = [os.environ.get("WANDB_ENTITY") or entity, os.environ.get("WANDB_PROJECT") or project, identifier]
    return "/".join(part for part in known if part)
