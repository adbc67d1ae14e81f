"""``train``, ``fit``, ``validate``, ``test`` and ``predict``."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.utilities import rank_zero_only

from gaze_lightning.cli import GazeCLI
from gaze_lightning.commands.data_errors import data_errors_end_the_command
from gaze_lightning.metrics_file import put_together, set_aside
from gaze_lightning.run_folder import remove_empty_run_folder


def run(command: str, args: list[str], images: str | None = None) -> None:
    """Run one of Lightning's commands; ``train`` is ``fit`` followed by ``test`` on the best checkpoint.

    ``resume`` is ``train`` that goes on where a run was interrupted, in the same folder.

    Args:
        command: name of the subcommand.
        args: its arguments, with experiment names already resolved to files.
        images: ``predict`` only: folder of films to predict instead of the configured data.
    """
    with data_errors_end_the_command(), _no_empty_folder():
        with tempfile.TemporaryDirectory(prefix="gaze_lightning_") as folder:
            if images is not None:
                args = _predict_folder(args, Path(images), Path(folder))
            if command == "resume":
                step = torch.load(args[args.index("--ckpt_path") + 1], weights_only=True, map_location="cpu")[
                    "global_step"
                ]
                set_aside(Path(args[args.index("--run_dir") + 1]), before_step=step)
            trains = command in ("train", "resume")
            cli = GazeCLI(["fit" if trains else command, *args], resumes=command == "resume")
        if trains:
            best = getattr(cli.trainer.checkpoint_callback, "best_model_path", None)
            # fast_dev_run leaves no best checkpoint: then the weights at hand are tested
            cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best or None, verbose=False)
        if command == "resume":
            put_together(cli.run_folder)  # last: the logger appends rows with the columns that it has written itself
    _farewell(cli.run_folder)


@contextmanager
def _no_empty_folder() -> Iterator[None]:
    """A run that could not start leaves no folder behind."""
    try:
        yield
    except Exception:
        remove_empty_run_folder()
        raise


@rank_zero_only
def _farewell(folder: Path) -> None:
    """Say what lies where."""
    shown = Path(os.path.relpath(folder))
    what = {
        "results.json": "results with intervals",
        "predictions.csv": "one row per sample",
        "metrics.csv": "curves",
        "stages.json": "what each stage reached",
        "cams": "CAM panels (PNG)",
        "overlays": "CAM overlays (PNG)",
        "checkpoints": ", ".join(sorted(path.name for path in folder.glob("checkpoints/*.ckpt"))),
        "config.yaml": "the resolved configuration",
    }
    print(f"\n{shown}/")  # noqa: T201
    for name, text in what.items():
        if (folder / name).exists():
            print(f"  {name:<16} {text}")  # noqa: T201


def _predict_folder(args: list[str], images: Path, temporary: Path) -> list[str]:
    """Replace the data of a run's configuration by a folder of films."""
    config_path, checkpoint = args[args.index("--config") + 1], args[args.index("--ckpt_path") + 1]
    config: dict[str, Any] = yaml.safe_load(Path(config_path).read_text())
    stored = torch.load(checkpoint, weights_only=True, map_location="cpu")["hyper_parameters"]
    data = config["data"]["init_args"]
    config["data"] = {
        "class_path": "data_modules.FolderDataModule",
        "init_args": {
            "root": str(images),
            "intensity": data.get("intensity", "stored"),
            "image_size": data["image_size"],
            "class_names": stored["class_names"],
            "label_type": stored["label_type"],
            "batch_size": data.get("eval_batch_size") or data["batch_size"],
            "num_workers": data["num_workers"],
            "cache_dir": None,
        },
    }
    changed = temporary / "config.yaml"
    changed.write_text(yaml.safe_dump(config))
    return [str(changed) if arg == config_path else arg for arg in args]
