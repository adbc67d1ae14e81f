"""``gaze-lightning relations``."""

import sys
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

import data_modules
from callbacks.gaze_relations import GazeRelations, gaze_remedy
from gaze_lightning.commands.data_options import data_parser, data_sections
from gaze_lightning.commands.user_errors import user_errors_end_the_command
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze import similarity
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.relations import print_statistics

_OPTIONS = ("measure", "tau", "positive_rate", "folder", "jobs")
_THRESHOLDS = ("tau", "positive_rate")
_NO_EXPERIMENT = (
    "No experiment is named: these are the relations of the data layer alone. A training finds them only if it takes "
    "the same gaze; settings of an experiment may choose other points (point_source), readers or films. Name it: make "
    "relations EXP=mcgip_moco_resnet50 DATA=..."
)
_FILMS = (
    "The films are resized first (or what is missing of them): which can be read, and how large they are, is known "
    "from that. Training at the same image_size takes them as they are."
)


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
    with user_errors_end_the_command():
        _refuse_wrong_names(args)
    parser = data_parser("relations", (relations.__doc__ or "").partition("\n\n    Args:")[0])
    parser.add_class_arguments(GazeRelations, skip={name for name in _names() if name not in _OPTIONS})
    options = parser.parse_args([*data_sections(files), *_relation_sections(files, args), *args])
    if not any("model" in _content(file) for file in files):
        print(_NO_EXPERIMENT, file=sys.stderr)  # noqa: T201
    with user_errors_end_the_command():
        chosen = _instantiated(parser, options)
        callback = GazeRelations(**{name: chosen[name] for name in _OPTIONS})
        data: data_modules.GazeDataModule = chosen["data"]
        if not data.films_are_cached():
            print(_FILMS, file=sys.stderr)  # noqa: T201
        data.prepare_data()
        data.setup("fit")
        gaze = data.training_gaze()
        if not gaze.sample_ids:
            raise ConfigurationError(
                f"None of the training readings has gaze: there is nothing to compare; {gaze_remedy(data)}"
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


def _refuse_wrong_names(args: list[str]) -> None:
    """Refuse options of training, and measures that do not exist; other spellings of a class are left to the parser.

    Raises:
        ConfigurationError: the message says what to write.
    """
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        flag, equals, value = arg.partition("=")
        if flag.startswith("--relations."):
            raise ConfigurationError(f"{flag} is an option of training; here it is --{flag.partition('.')[2]}")
        name = value if equals else following
        if flag == "--measure" and name.isidentifier() and name not in (*_measures(), "null"):
            raise ConfigurationError(f"no measure is called {name}: choose {', '.join(_measures())}")


def _measures() -> list[str]:
    classes = {name: getattr(similarity, name) for name in similarity.__all__}
    return sorted(
        name
        for name, one in classes.items()
        if isinstance(one, type) and issubclass(one, GazeSimilarity) and one is not GazeSimilarity
    )


def _content(file: str) -> dict[str, Any]:
    content = yaml.safe_load(Path(file).read_text())
    return content if isinstance(content, dict) else {}


def _relation_sections(files: list[str], args: list[str]) -> list[str]:
    """Arguments with the ``relations`` sections of configuration files, later ones overriding earlier ones.

    A threshold that is given on the command line replaces that of the files, of either kind.
    """
    given = any(arg.split("=")[0] in {f"--{name}" for name in _THRESHOLDS} for arg in args)
    arguments = []
    for file in files:
        section = _content(file).get("relations") or {}
        kept = {name: value for name, value in section.items() if name in _OPTIONS}
        if given:
            kept = {name: value for name, value in kept.items() if name not in _THRESHOLDS}
        arguments += ["--config", yaml.safe_dump(kept)] if kept else []
    return arguments
