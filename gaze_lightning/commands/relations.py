"""``gaze-lightning relations``."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

import data_modules
from callbacks.gaze_relations import GazeRelations
from gaze_lightning.commands.data_options import data_parser, data_sections
from gaze_lightning.commands.user_errors import user_errors_end_the_command
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.relations import print_statistics

_OPTIONS = ("measure", "tau", "positive_rate", "folder", "jobs")
_THRESHOLDS = ("tau", "positive_rate")


def relations(files: list[str], args: list[str]) -> None:
    """Compare the gaze of all training readings beforehand, and say what a threshold of similarity means.

    Training finds the result under the same data, split, measure and threshold. What was built before a kill is kept,
    and the similarities are kept beside the result, so that another threshold takes seconds.

    Args:
        files: configuration files; their ``data`` and ``relations`` sections count.
        args: ``--data.init_args...``, ``--measure``, ``--tau`` or ``--positive_rate``, ``--folder``, ``--jobs``.

    Raises:
        SystemExit: status 2 if the data, the measure or the folder do not allow it.
    """
    args = [_with_underscore(arg) for arg in args]
    parser = data_parser("relations", relations.__doc__)
    parser.add_class_arguments(GazeRelations, skip={name for name in _names() if name not in _OPTIONS})
    options = parser.parse_args([*data_sections(files), *_relation_sections(files, args), *args])
    with user_errors_end_the_command():
        chosen = _instantiated(parser, options)
        callback = GazeRelations(**{name: chosen[name] for name in _OPTIONS})
        data: data_modules.GazeDataModule = chosen["data"]
        data.prepare_data()
        data.setup("fit")
        gaze = data.training_gaze()
        if not gaze.sample_ids:
            raise ConfigurationError(
                "None of the training readings has gaze: there is nothing to compare (gaze_source)"
            )
        artefact = callback.open(gaze)
    print_statistics(artefact.statistics, artefact.description)
    print(f"\nRelations: {artefact.folder}")  # noqa: T201


def _instantiated(parser: ArgumentParser, options: Any) -> dict[str, Any]:
    return dict(vars(parser.instantiate_classes(options)))


def _names() -> list[str]:
    return [name for name in GazeRelations.__init__.__annotations__ if name != "return"]


def _with_underscore(arg: str) -> str:
    return arg.replace("--positive-rate", "--positive_rate", 1) if arg.startswith("--positive-rate") else arg


def _relation_sections(files: list[str], args: list[str]) -> list[str]:
    """Arguments with the ``relations`` sections of configuration files, later ones overriding earlier ones.

    A threshold that is given on the command line replaces that of the files, of either kind.
    """
    given = any(arg.split("=")[0] in {f"--{name}" for name in _THRESHOLDS} for arg in args)
    arguments = []
    for file in files:
        section = (yaml.safe_load(Path(file).read_text()) or {}).get("relations") or {}
        kept = {name: value for name, value in section.items() if name in _OPTIONS}
        if given:
            kept = {name: value for name, value in kept.items() if name not in _THRESHOLDS}
        arguments += ["--config", yaml.safe_dump(kept)] if kept else []
    return arguments
