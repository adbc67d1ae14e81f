"""Experiments made small: arguments of the command line with which the matrix trains them."""

from pathlib import Path
from typing import Any

import yaml

from gaze_lightning.layers import ROOT, task_of
from tests.interruption import CALLBACKS

TASKS = {
    "classifier": "baseline_resnet18",
    "ggcam": "ggcam_resnet50",
    "cooperative": "cooperative_densenet201",
    "mtunet": "mtunet",
    "attention": "global_attention_resnet18",
    "batch_stack": "global_attention_resnet18_batch_stack",
    "moco": "mcgip_moco_resnet18",
    "byol": "mcgip_byol_resnet50",
    "simsiam": "mcgip_simsiam_resnet50",
    "simclr": "mcgip_simclr_resnet50",
    "finetune": "finetune_resnet18",
}
"""One experiment per task; ``finetune`` starts from the network of ``moco``."""
PRETRAINING = ("BYOL", "MoCo", "SimCLR", "SimSiam")
N_TEST = 33
"""Readings of the test part: a tenth of its 30 patients have a second film. Odd: padding would change it."""
_DATA = {"n_train": 24, "n_validate": 9, "n_test": 30, "height": 120, "width": 100, "phantom_seed": 3}
_DATA |= {"missing_gaze": 0.2, "batch_size": 4, "eval_batch_size": 8}
_HEADS = {"hidden": 16, "dim": 8}
_TINY: dict[str, dict[str, Any]] = {
    "Cooperative": {"width": 0.0625},
    "MultiTaskUNet": {"width": 0.0625},
    "MoCo": _HEADS | {"queue_size": 16},
    "BYOL": _HEADS,
    "SimSiam": _HEADS | {"predictor_hidden": 8},
    "SimCLR": _HEADS,
}
_FREEZABLE = {"MultiTaskUNet": "weighting", "Cooperative": "model.encoder"}
_SIZES = "{epochs: 1, lr: 0.01}"


def arguments_of(experiment: str, folder: Path, pretrained: str = "scratch", tiny: bool = True) -> list[str]:
    """Arguments of ``train`` but for devices and the run folder.

    Every training has stages, its own or one that freezes a part and one that does not; gaze is missing on one process
    only (`OneSidedPhantom`); CAM panels are drawn after every other epoch.

    Args:
        experiment: its name.
        folder: holds the data that runs share.
        pretrained: what an experiment starts from that needs a pre-training.
        tiny: timm's smallest network and narrow heads; else the experiment's own network and two steps per epoch.
    """
    task = task_of(experiment)
    content = yaml.safe_load((ROOT / f"{experiment}.yaml").read_text())
    names = [stage["name"] for stage in (content.get("staged_training") or {}).get("stages") or []]
    own, model = [], dict[str, Any]()
    epochs = 3 if names or task == "AttentionClassifier" else 2
    if not names:
        frozen = _FREEZABLE.get(task, "model.backbone")
        own += [f"--staged_training.stages=[{{name: part, epochs: 1, freeze: [{frozen}]}}, {{name: all}}]"]
    elif task == "Cooperative":  # its stages say how long; the first one takes smaller films
        epochs = -1
        sizes = dict.fromkeys(names, _SIZES) | {names[0]: "{epochs: 2, lr: 0.01, image_scale: 0.5}"}
        own += [f"--staged_training.sizes={{{', '.join(f'{name}: {size}' for name, size in sizes.items())}}}"]
    if task in PRETRAINING:
        own += ["--relations.positive_rate=0.1"]
        model |= {"neighbours": 5}
    if task == "PretrainedClassifier":
        model |= {"pretrained": pretrained}
    if task == "AttentionClassifier":
        own += ["--data.init_args.augmentation=light"]
        one_map = content["model"]["init_args"].get("attention") != "local"
        model |= {"n_anchors": 12} | ({"freeze_epoch": 2} if one_map else {})
    if tiny:
        model |= {} if task == "MultiTaskUNet" else {"backbone": "test_resnet.r160_in1k"}
        model |= _TINY.get(task, {"output_stride": 32})
    else:
        own += ["--trainer.limit_train_batches=2"]
    return [
        f"--config={experiment}",
        *_data(folder, (48, 40) if tiny else (72, 64)),
        *own,
        *(f"--model.init_args.{name}={value}" for name, value in model.items()),
        f"--trainer.max_epochs={epochs}",
        "--cam_logger.every_n_epochs=2",
        "--cam_logger.n_cases=2",
        "--test_report.n_boot=20",
        "--trainer.enable_progress_bar=false",
        CALLBACKS,
    ]


def _data(folder: Path, size: tuple[int, int]) -> list[str]:
    height, width = size
    options = _DATA | {
        "root": folder / "phantom",
        "cache_dir": folder / "cache",
        "image_size": f"[{height},{width}]",
        "saliency_size": f"[{height // 2},{width // 2}]",
    }
    given = [f"--data.init_args.{name}={value}" for name, value in options.items()]
    return ["--data.class_path=tests.one_sided.OneSidedPhantom", *given, f"--relations.folder={folder / 'relations'}"]
