"""From the name of an experiment to the stack of configuration files behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import experiments

ROOT = Path(experiments.__path__[0])
GROUPS = ("data", "trainer", "logger", "setting")
PAPER_DATA = ("egd_cxr", "reflacx", "joint", "mimic_cxr", "cxr_p")
"""Sources for which ``setting/paper`` is the default: the ones that the papers used, or kin of them."""


class UnknownNameError(ValueError):
    """A name for which there is no file; the message lists the existing ones."""


@dataclass(frozen=True)
class Layers:
    """An experiment resolved to files, later ones overriding earlier ones key by key.

    Attributes:
        experiment: name of the experiment, or None when only files were given.
        choice: group -> name, for each of ``GROUPS``.
        files: the configuration files in the order in which they are read.
    """

    experiment: str | None
    choice: dict[str, str]
    files: tuple[Path, ...]


def available(group: str | None = None) -> list[str]:
    """Names of the experiments, or of the layers of one group (``data``, ``trainer``, ``logger``, ``setting``)."""
    folder = ROOT if group is None else ROOT / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def description(experiment: str) -> str:
    """The first comment line of an experiment's file."""
    first = (ROOT / f"{experiment}.yaml").read_text().splitlines()[0]
    return first.removeprefix("#").strip()


def task_of(experiment: str) -> str:
    """Name of the class of an experiment's task, without its package."""
    content = yaml.safe_load((ROOT / f"{experiment}.yaml").read_text())
    return str(content["model"]["class_path"]).rsplit(".", 1)[-1]


def _layer(group: str, name: str) -> Path:
    path = ROOT / group / f"{name}.yaml"
    if not path.is_file():
        raise UnknownNameError(f"no {group} layer is called {name!r}; there are: {', '.join(available(group))}")
    return path


def resolve(names: Sequence[str]) -> Layers:
    """Resolve the values of ``--config``.

    A value is the path of a file, the name of an experiment (``ggcam_resnet50``), or a layer (``data/reflacx``,
    ``trainer/gpu``, ``logger/wandb``, ``setting/paper``). An experiment brings its layers along: ``_base/common``, then
    data, trainer, logger, the experiment itself (what it is), the setting (how large) and what the setting changes for
    this task, this experiment, these data and this task on these data (``setting/<setting>/`` followed by ``<task>``,
    ``<experiment>``, ``<data>``, ``<data>.<task>``). Files come last, in the order given. Without a choice the data are
    the phantom and the setting is ``paper`` for the papers' sources (`PAPER_DATA`) and ``demo`` for the phantom and
    one's own films.

    Args:
        names: values of ``--config`` in their order.

    Returns:
        The resolved layers.

    Raises:
        UnknownNameError: a name without a file, or two experiments.
    """
    found: list[str] = []
    choice: dict[str, str] = {}
    files: list[Path] = []
    for name in names:
        group, _, rest = name.partition("/")
        if Path(name).is_file():
            files.append(Path(name))
        elif group in GROUPS and rest:
            _layer(group, rest)
            choice[group] = rest
        elif name in available():
            found.append(name)
        else:
            listing = "\n".join(f"  {known:<45} {description(known)}" for known in available())
            raise UnknownNameError(
                f"no experiment is called {name!r} and there is no such file. Experiments:\n{listing}"
            )
    if len(found) > 1:
        raise UnknownNameError(f"one experiment at a time, not {' and '.join(found)}")
    if not found:
        return Layers(None, choice, tuple(_layer(group, rest) for group, rest in choice.items()) + tuple(files))
    experiment = found[0]
    choice.setdefault("data", "phantom")
    choice.setdefault("trainer", "auto")
    choice.setdefault("logger", "csv")
    choice.setdefault("setting", "paper" if choice["data"] in PAPER_DATA else "demo")
    stack = [ROOT / "_base" / "common.yaml", *(_layer(group, choice[group]) for group in GROUPS if group != "setting")]
    stack += [ROOT / f"{experiment}.yaml", _layer("setting", choice["setting"])]
    task, data = task_of(experiment), choice["data"]
    special = [
        ROOT / "setting" / choice["setting"] / f"{name}.yaml" for name in (task, experiment, data, f"{data}.{task}")
    ]
    stack += [path for path in special if path.is_file()]
    return Layers(experiment, choice, (*stack, *files))
