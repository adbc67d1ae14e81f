"""Does a sweep do what its file says? Found out before it exists, by the parser that its trials will use."""

from collections.abc import Mapping, Sequence
from typing import Any

from gaze_lightning.cli import GazeCLI
from gaze_lightning.commands.sweep_file import command_arguments, samples
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.layers import Layers
from gaze_lightning.main import LINKED

_SIZES = "staged_training.sizes."


class ParsedOnly(GazeCLI):
    """The command line of a training that parses and neither builds nor runs anything.

    Args:
        args: command-line arguments that start with the subcommand.
    """

    def _set_seed(self) -> None:
        """Nothing is random."""

    def before_instantiate_classes(self) -> None:
        """No run folder."""

    def instantiate_classes(self) -> None:
        """No data, no model, no trainer."""

    def after_instantiate_classes(self) -> None:
        """Nothing to compare."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing to run."""

    def parse(self, args: list[str]) -> Any:
        """Parse other arguments of ``fit``; unusable ones end the command with status 2."""
        return self.parser.parse_args(["fit", *args])["fit"]


def check_sweep(sweep: Mapping[str, Any], layers: Layers, fixed: Sequence[str]) -> list[tuple[dict[str, Any], Any]]:
    """Parse samples of a sweep's parameters and compare what arrives.

    Args:
        sweep: the sweep file's content.
        layers: the experiment and its layers.
        fixed: further arguments that all trials have.

    Returns:
        Each sample (see ``samples``) with its parsed configuration.

    Raises:
        ConfigurationError: a value does not arrive or has no effect, or the metric is none that these trials log.
        SystemExit: status 2, from the parser: a misspelt key or a value of the wrong type.
    """
    head = [argument for file in layers.files for argument in ("--config", str(file))] + list(fixed)
    rows = samples(sweep["parameters"])
    if not rows:
        raise ConfigurationError("the sweep has no parameters: there is nothing to try")
    cli: ParsedOnly | None = None
    parsed = []
    for sample in rows:
        arguments = [*head, *command_arguments(sample)]
        cli = cli or ParsedOnly(["fit", *arguments])
        config = cli.parse(arguments)
        for key, value in sample.items():
            _check_value(key, value, config)
        _check_metric(sweep["metric"], config)
        parsed.append((sample, config))
    return parsed


def value_at(config: Any, key: str) -> Any:
    """The value under a dotted key in nested sections.

    Raises:
        KeyError: there is none.
    """
    for part in key.split("."):
        if not hasattr(config, "__getitem__") or part not in config:
            raise KeyError(key)
        config = config[part]
    return config


def _check_value(key: str, value: Any, config: Any) -> None:
    if reason := LINKED.get(key.replace(".init_args", "")):
        raise ConfigurationError(f"{key} would be ignored: {reason}")
    try:
        arrived = value_at(config, key)
    except KeyError:
        arrived = "nothing"
    if arrived != value:
        raise ConfigurationError(
            f"{key}={value!r} does not arrive, but {arrived!r}: something else decides it, or its values are written "
            "differently"
        )
    if not key.startswith(_SIZES):
        return
    stages = [stage["name"] for stage in config["staged_training"]["stages"] or ()]
    if (name := key.removeprefix(_SIZES).partition(".")[0]) not in stages:
        raise ConfigurationError(f"{key}: no stage is called {name!r}; there are: {', '.join(stages) or 'none'}")


def _check_metric(metric: Mapping[str, Any], config: Any) -> None:
    """Refuse a name that the trials do not log; W&B would wait for it for ever."""
    selecting = [stage for stage in config["staged_training"]["stages"] or () if stage["select"]]
    last = selecting[-1] if selecting else {}
    monitor = last.get("monitor") or config["checkpoint"]["monitor"]
    best = {} if monitor is None else {monitor: last.get("mode") or config["checkpoint"]["mode"]}
    loggers = config["trainer"]["logger"]
    for logger in loggers if isinstance(loggers, list) else []:
        best |= logger["init_args"].get("best_of") or {}
    offered = {f"best/{name}": "maximize" if mode == "max" else "minimize" for name, mode in best.items()}
    if offered.get(metric["name"]) != metric["goal"]:
        choice = " or ".join(f"name: {name}, goal: {goal}" for name, goal in offered.items())
        raise ConfigurationError(
            f"metric {metric['name']} ({metric['goal']}): the best value that these trials log is {choice or 'none'}"
        )
