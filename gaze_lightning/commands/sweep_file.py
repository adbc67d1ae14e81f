"""Sweep files: what W&B may vary in an experiment, and samples of it."""

from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

import yaml

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.layers import ROOT
from gaze_lightning.wandb_package import import_wandb

FOLDER = ROOT / "sweeps"
_SECTIONS = {"method", "metric", "parameters", "early_terminate", "run_cap"}


def sweeps() -> list[str]:
    """Names of the sweep files that come with the experiments."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_sweep(name: str) -> dict[str, Any]:
    """Read a sweep file.

    Args:
        name: one of ``sweeps()``, or the path of a file.

    Returns:
        W&B's sweep configuration without a command, with the first comment line as its ``description``.

    Raises:
        ConfigurationError: there is no such file, or it holds what the command line cannot take.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigurationError(
            f"no sweep is called {name!r} and there is no such file; there are: {', '.join(sweeps())}"
        )
    text = path.read_text()
    content = yaml.safe_load(text)
    if not isinstance(content, dict) or not content.keys() >= {"method", "metric", "parameters"}:
        raise ConfigurationError(f"{path.name}: a sweep file needs the sections method, metric and parameters")
    if unknown := sorted(content.keys() - _SECTIONS):
        raise ConfigurationError(
            f"{path.name}: {', '.join(unknown)} cannot stand in a sweep file; it has {', '.join(sorted(_SECTIONS))}. "
            "The command is built from the experiment, a name is given by --name"
        )
    metric = content["metric"]
    if not isinstance(metric, dict) or not metric.get("name") or metric.get("goal") not in ("maximize", "minimize"):
        raise ConfigurationError(f"{path.name}: metric needs a name and a goal, maximize or minimize")
    for key, parameter in content["parameters"].items():
        values_of(key, parameter)
    first = text.splitlines()[0]
    return content | ({"description": first.removeprefix("#").strip()} if first.startswith("#") else {})


def values_of(key: str, parameter: Any) -> list[Any]:
    """The values that a parameter must be able to take: each of a list, the bounds of a range, the mean of a normal.

    Args:
        key: its dotted name, for messages.
        parameter: its section in the sweep file.

    Raises:
        ConfigurationError: it has none, or one that does not survive the way through a command line.
    """
    match parameter:
        case {"value": value}:
            values = [value]
        case {"values": list(several)} if several:
            values = several
        case {"min": int() | float() as low, "max": int() | float() as high} if low < high:
            # W&B's log_uniform has exponents as its bounds
            values = [exp(low), exp(high)] if parameter.get("distribution") == "log_uniform" else [low, high]
        case {"mu": int() | float() as mean, "sigma": int() | float(), "distribution": "normal" | "q_normal"}:
            values = [mean]
        case {"parameters": _}:
            raise ConfigurationError(f"{key}: write dotted keys ({key}.init_args....), not parameters in parameters")
        case _:
            raise ConfigurationError(
                f"{key}: give value, values, or min and max (numbers, the smaller one first; 1.0e-3, for YAML takes "
                "1e-3 for text)"
            )
    if any(value is None for value in values):
        raise ConfigurationError(f"{key}: null would reach the program as the text None; leave it out")
    return values


def samples(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As few samples as show every value of every parameter (`values_of`); the first one holds all lower bounds."""
    values = {key: values_of(key, parameter) for key, parameter in parameters.items()}
    n = max(map(len, values.values()), default=0)
    return [{key: those[i % len(those)] for key, those in values.items()} for i in range(n)]


def command_arguments(sample: Mapping[str, Any]) -> list[str]:
    """The arguments that W&B's own builder makes of a sample for ``${args}``."""
    import_wandb()
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    built = create_sweep_command_args({"args": {key: {"value": value} for key, value in sample.items()}})
    return [str(argument) for argument in built["args"]]
