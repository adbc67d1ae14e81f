"""``train``, ``fit``, ``validate``, ``test`` and ``predict``."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from pytorch_lightning.utilities.exceptions import SIGTERMException

from callbacks import StagedTraining
from gaze_lightning.cli import GazeCLI
from gaze_lightning.commands.lost_processes import lost_processes_end_the_command
from gaze_lightning.commands.user_errors import user_errors_end_the_command
from gaze_lightning.launch import is_first_process
from gaze_lightning.metrics_file import one_metrics_file
from gaze_lightning.run_folder import remove_empty_run_folder


def run(command: str, args: list[str], images: str | None = None, resumed: Path | None = None) -> None:
    """Run one of Lightning's commands; ``train`` is ``fit`` followed by ``test`` on the best checkpoint.

    Args:
        command: name of the subcommand.
        args: its arguments, with experiment names already resolved to files.
        images: ``predict`` only: folder of films to predict instead of the configured data.
        resumed: folder of an interrupted run, in which it goes on from its last checkpoint, or anew if there is none.

    Raises:
        SystemExit: status 2 for what cannot be used, 1 if another process has gone, 143 after SIGTERM.
    """
    with (
        sigterm_ends_the_command(),
        user_errors_end_the_command(),
        lost_processes_end_the_command(),
        _no_empty_folder(),
        _one_metrics_file(resumed),
    ):
        with tempfile.TemporaryDirectory(prefix="gaze_lightning_") as folder:
            if images is not None:
                args = _predict_folder(args, Path(images), Path(folder))
            cli = GazeCLI(["fit" if command == "train" else command, *args], resumes=resumed is not None)
        if command == "train" and not _stopped_early(cli):
            best = getattr(cli.trainer.checkpoint_callback, "best_model_path", None)
            # fast_dev_run leaves no best checkpoint: then the weights at hand are tested
            cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best or None, verbose=False)
    _farewell(cli.run_folder)


@contextmanager
def sigterm_ends_the_command() -> Iterator[None]:
    """Exit with status 143, as a shell reports SIGTERM, where Lightning ends a run without a status.

    Of several processes only the first one does. Launchers, and Lightning where it has started the others, kill all
    processes when one ends with another status than 0, and the first one has its loggers to close.

    Raises:
        SystemExit: status 143, caused by Lightning's exception.
    """
    try:
        yield
    except SIGTERMException as end:
        if not is_first_process():
            raise
        raise SystemExit(128 + signal.SIGTERM) from end


def _stopped_early(cli: GazeCLI) -> bool:
    """Whether stages are left to train (``max_time``, ``max_steps``): what there is would be tested as the result."""
    staged = next(one for one in cli.trainer.callbacks if isinstance(one, StagedTraining))  # type: ignore[attr-defined]
    if staged.unfinished is None:
        return False
    folder = os.path.relpath(cli.run_folder)
    rank_zero_info(
        f"Not tested: {staged.unfinished}. To go on, without the limit: gaze-lightning resume --run {folder}"
    )
    return True


def _one_metrics_file(resumed: Path | None) -> AbstractContextManager[None]:
    if resumed is None or not is_first_process():
        return nullcontext()
    last = resumed / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return one_metrics_file(resumed, before_step=0)
    step = torch.load(last, weights_only=True, map_location="cpu", mmap=True)["global_step"]
    return one_metrics_file(resumed, step)


@contextmanager
def _no_empty_folder() -> Iterator[None]:
    """A run that could not start leaves no folder behind, also not if its arguments could not be read."""
    try:
        yield
    except BaseException:
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
        "attention": "the map of all films (PNG, JSON)",
        "relations.json": "how many pairs of films were positives, and how many are of one class",
        "relations.png": "such pairs",
        "features.npy": "features, in the order of predictions.csv",
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
    if data.get("align") == "chest_box":
        rank_zero_warn(
            "The model was trained on films aligned by their chest boxes. Films of a folder have no boxes and are "
            "placed whole. Give films that are cropped to the chest, or a table of films with their boxes: "
            "predict --run <run> --config data/manifest, with data.init_args.chest_box_columns and, as "
            "label_columns, the model's classes (cells may be empty)."
        )
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
