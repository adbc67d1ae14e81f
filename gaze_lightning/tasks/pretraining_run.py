"""A pre-training run, as a later training starts from it."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models import Backbone, LoadReport, load_weights
from gaze_lightning.run_folder import checkpoint_of

ONLINE = "model.backbone.net."
"""Prefix of the keys of a checkpoint that belong to the network that was trained; momentum copies have another one."""
SCRATCH = "scratch"
"""What a training says that starts from random weights on purpose."""


@dataclass(frozen=True)
class PretrainingRun:
    """What a run folder says about its weights, and about those from which it started itself.

    Attributes:
        checkpoint: the file with the weights.
        backbone: name of the network, None where the file does not tell.
        learnt_from: real ids of the patients of its training and validation parts, and of those of the runs from which
            it started; None where none of them has a split.csv.
        known: real ids of the patients of all parts of these runs; None likewise.
        unchecked: what else its weights have learnt from, in words, of which the patients are not known.
    """

    checkpoint: Path
    backbone: str | None
    learnt_from: frozenset[str] | None
    known: frozenset[str] | None
    unchecked: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Find the run behind a path, and the runs from which it started.

        Args:
            path: the folder of a run, or one of its checkpoints (``<run>/checkpoints/<name>.ckpt``).

        Returns:
            None where the path is another file.

        Raises:
            ConfigurationError: the folder is not that of a run, or holds no checkpoint.
        """
        return cls._found(path, frozenset())

    def refuse_leak(self, tested: frozenset[str]) -> None:
        """Refuse patients that the weights have seen.

        Args:
            tested: real ids of the test part of the training that starts from this run.

        Raises:
            ConfigurationError: some of them were in the run's training or validation part; says how many.
        """
        leaked = len(tested & self.learnt_from) if self.learnt_from is not None else 0
        if leaked:
            raise ConfigurationError(
                f"{leaked} of the {len(tested)} test patients were in the training or validation part of "
                f"{self.checkpoint}, or of a run from which that one started: a test on them would be worth nothing. "
                "Split both alike (same source, split and split_seed), or pre-train with "
                "data.init_args.held_out=[<split.csv of a run on these data>]."
            )

    @classmethod
    def _found(cls, path: Path, followed: frozenset[Path]) -> Self | None:
        if path.is_dir():
            if not (path / "config.yaml").is_file():
                raise ConfigurationError(
                    f"{path} is not the folder of a run: it has no config.yaml. Give runs/<experiment>/<run id>."
                )
            try:
                checkpoint = checkpoint_of(path)
            except FileNotFoundError as error:
                raise ConfigurationError(str(error)) from error
            folder = path
        elif path.suffix == ".ckpt" and path.parent.name == "checkpoints":
            checkpoint, folder = path, path.parents[1]
        else:
            return None
        if not checkpoint.is_file():
            raise ConfigurationError(f"{checkpoint}: no such checkpoint.")
        stored: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        options = stored.get("hyper_parameters", {})
        patients = _patients(folder / "split.csv")
        learnt_from, known = patients or (None, None)
        unchecked = [] if patients is not None else [f"{checkpoint}: there is no split.csv beside it"]
        start = options.get("pretrained")
        if isinstance(start, str) and start != SCRATCH and checkpoint.resolve() not in followed:
            earlier = cls._earlier(Path(start).expanduser(), followed | {checkpoint.resolve()})
            if isinstance(earlier, str):
                unchecked.append(f"{checkpoint} started from {earlier}")
            else:
                learnt_from, known = _both(learnt_from, earlier.learnt_from), _both(known, earlier.known)
                unchecked += earlier.unchecked
        return cls(checkpoint, options.get("backbone"), learnt_from, known, tuple(unchecked))

    @classmethod
    def _earlier(cls, path: Path, followed: frozenset[Path]) -> Self | str:
        """The run from which another one started, or why it cannot be followed."""
        if not path.exists():
            return f"{path}, which is not there any more"
        try:
            return cls._found(path, followed) or f"{path}, which is not a run of this project"
        except ConfigurationError:
            return f"{path}, which is not a whole run any more"


def read_pretrained(backbone: Backbone, path: str) -> tuple[LoadReport, PretrainingRun | None]:
    """Fill a backbone with the weights of a pre-training run (its online network) or of a file.

    Args:
        backbone: of the architecture that was pre-trained; filled in place.
        path: the folder of a run (its ``best`` checkpoint), one of its checkpoints, or a weights file.

    Returns:
        The account of the keys, and the run; None where the path is a plain weights file.

    Raises:
        ConfigurationError: there is no such path, it holds another architecture, or weights of a run do not fit whole.
    """
    place = Path(path).expanduser()
    run = PretrainingRun.of(place)
    if run is None and not place.is_file():
        raise ConfigurationError(
            f"{place} does not exist: give the folder of a pre-training run (runs/<experiment>/<run id>), one of its "
            "checkpoints, or a weights file"
        )
    if run is not None and run.backbone not in (None, backbone.name):
        raise ConfigurationError(
            f"{place} has pre-trained {run.backbone}, and this experiment has {backbone.name}: choose the experiment "
            "for that backbone"
        )
    try:
        report = (
            load_weights(backbone.net, place) if run is None else load_weights(backbone.net, run.checkpoint, ONLINE)
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if run is not None:
        refuse_part(report, place, backbone)
    return report, run


def refuse_part(report: LoadReport, path: Path, backbone: Backbone) -> None:
    """Raise a ``ConfigurationError`` where a file does not fill a whole backbone."""
    if report.missing or report.mismatched:
        raise ConfigurationError(f"{path} does not fit {backbone.name} (in_chans, say, may differ): {report}")


def _patients(file: Path) -> tuple[frozenset[str], frozenset[str]] | None:
    """Real ids of the patients of the training and validation parts, and of all parts."""
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [(row["subject"], row["split"]) for row in csv.DictReader(lines)]
    learnt_from = frozenset(subject for subject, part in rows if part in ("train", "validate"))
    return learnt_from, frozenset(subject for subject, _ in rows)


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return other if one is None else one if other is None else one | other
