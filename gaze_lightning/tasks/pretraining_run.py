"""A pre-training run, as a later training starts from it."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.run_folder import checkpoint_of

ONLINE = "model.backbone.net."
"""Prefix of the keys of a checkpoint that belong to the network that was trained; momentum copies have another one."""


@dataclass(frozen=True)
class PretrainingRun:
    """What a run folder says about its weights.

    Attributes:
        checkpoint: the file with the weights.
        backbone: name of the network, None where the file does not tell.
        learnt_from: real ids of the patients of its training and validation parts; None where no split.csv tells.
    """

    checkpoint: Path
    backbone: str | None
    learnt_from: frozenset[str] | None

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Find the run behind a path.

        Args:
            path: the folder of a run, or one of its checkpoints (``<run>/checkpoints/<name>.ckpt``).

        Returns:
            None where the path is another file.

        Raises:
            ConfigurationError: the folder is not that of a run, or holds no checkpoint.
        """
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
        return cls(checkpoint, stored.get("hyper_parameters", {}).get("backbone"), _learnt_from(folder / "split.csv"))

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
                f"{self.checkpoint}: a test on them would be worth nothing. Split both alike (same source, split and "
                "split_seed), or pre-train with data.init_args.held_out=[<split.csv of a run on these data>]."
            )


def _learnt_from(file: Path) -> frozenset[str] | None:
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as lines:
        return frozenset(row["subject"] for row in csv.DictReader(lines) if row["split"] in ("train", "validate"))
