"""Throughput of the experiments on a GPU: float32, bfloat16, channels last, compiled.

Run ``make bench BENCH=gpu`` (``ARGS="--experiments ggcam_resnet50 mtunet"`` for some; default: one per task) on a
machine with a GPU. Networks, film sizes and batches are those of ``setting/paper``; films are a phantom's; the speed is
what `Throughput` measures after a warm-up, loading included (at most 8 processes). ``fp32`` is torch's default, which
lets cuDNN compute convolutions in TF32. A mode that an experiment does not have, or refuses, is a dash; one that
crashes has failed, and the benchmark ends with status 1. Without CUDA it says so and ends with status 2.
``--plumbing`` runs tiny networks on the CPU: it shows that the benchmark works, its numbers mean nothing.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.ending import finish
from benchmarks.training_speed import TrainingError, phantom, train
from gaze_lightning.layers import ROOT, available, task_of

_BF16, _LAST = "--trainer.precision=bf16-mixed", "--model.init_args.channels_last=true"
MODES: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "channels_last": (_LAST,),
    "bf16": (_BF16,),
    "bf16, channels_last": (_BF16, _LAST),
    "bf16, channels_last, compile": (_BF16, _LAST, "--acceleration.compile=true"),
}
ONE_PER_TASK = (
    "baseline_densenet121",
    "ggcam_resnet50",
    "cooperative_densenet201",
    "mtunet",
    "global_attention_resnet18",
    "mcgip_moco_resnet50",
    "mcgip_byol_resnet50",
    "mcgip_simsiam_resnet50",
    "mcgip_simclr_resnet50",
    "finetune_resnet50",
)
WARM_UP, STEPS = 15, 25
"""Steps; compilation happens in the first ones."""
N_TRAIN = 2400
"""Patients; a tenth have a second film. An epoch has all steps of the largest batch (64): none of them waits for a
validation."""


def arguments(experiment: str, root: Path, mode: str, run: Path, plumbing: bool) -> list[str]:
    """Of the command line for one epoch, or one of each stage."""
    warm_up, steps, batch = (1, 2, ["--data.init_args.batch_size=4"]) if plumbing else (WARM_UP, STEPS, [])
    content = yaml.safe_load((ROOT / f"{experiment}.yaml").read_text())
    stages = [stage["name"] for stage in (content.get("staged_training") or {}).get("stages") or []]
    sizes = ", ".join(f"{stage}: {{epochs: 1, lr: 0.0001}}" for stage in stages)
    own_epochs = task_of(experiment) == "Cooperative" and stages
    epochs = [f"--staged_training.sizes={{{sizes}}}"] if own_epochs else ["--trainer.max_epochs=2"]
    tiny = ["--data.init_args.image_size=[64,48]", "--data.init_args.saliency_size=[32,24]"]
    return [
        f"--config={experiment}",
        *([] if plumbing else ["--config=setting/paper"]),
        *phantom(root, 24 if plumbing else N_TRAIN, *((120, 100) if plumbing else (1536, 1280))),
        *(tiny if plumbing else [f"--data.init_args.num_workers={_workers()}"]),
        *batch,
        *epochs,
        *(["--model.init_args.pretrained=scratch"] if task_of(experiment) == "PretrainedClassifier" else []),
        f"--relations.folder={root / 'relations'}",
        f"--trainer.accelerator={'cpu' if plumbing else 'gpu'}",
        "--trainer.devices=1",
        f"--trainer.limit_train_batches={warm_up + steps}",
        "--trainer.limit_val_batches=2",
        "--cam_logger.every_n_epochs=0",
        f"--throughput.warm_up={warm_up}",
        f"--throughput.steps={steps}",
        "--trainer.enable_progress_bar=false",
        f"--run_dir={run}",
        *MODES[mode],
    ]


def _workers() -> int:
    return min(8, (os.cpu_count() or 1) - 1)


def measure(experiments: list[str], root: Path, plumbing: bool, console: Console) -> list[dict[str, Any]]:
    """Images per second of each experiment and mode; of stages the slowest."""
    rows = []
    for experiment in experiments:
        row: dict[str, Any] = {"experiment": experiment, "refused": {}, "faults": {}}
        for number, mode in enumerate(MODES):
            run = root / f"{experiment} {number}"
            try:
                speeds, _ = train(arguments(experiment, root, mode, run, plumbing))
                row[mode] = min(speeds)
            except TrainingError as failed:
                row["refused" if failed.refused else "faults"][mode] = str(failed)
                console.print(f"{experiment}, {mode}: {str(failed).strip().splitlines()[-1]}", style="red")
        rows.append(row)
    return rows


def _cell(row: dict[str, Any], mode: str) -> str:
    if mode in row["faults"]:
        return "failed"
    return f"{row[mode]:,.1f}" if mode in row else "-"


def main(given: list[str] | None = None) -> int:
    """Run all, print the table, write the JSON; 0, 1 if float32 was refused or anything crashed, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Throughput on a GPU.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--experiments", nargs="+", choices=available(), metavar="NAME", help="default: one per task")
    parser.add_argument("--plumbing", action="store_true", help="tiny, on the CPU: a test of this benchmark")
    options = parser.parse_args(given)
    if not (options.plumbing or torch.cuda.is_available()):
        print("benchmarks.gpu needs a GPU: torch.cuda.is_available() is false here", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory() as name:
        rows = measure(options.experiments or list(ONE_PER_TASK), Path(name), options.plumbing, console)
    where = "the CPU, tiny networks: numbers mean nothing" if options.plumbing else torch.cuda.get_device_name()
    table = Table(title=f"Images per second on {where}", title_justify="left")
    table.add_column("experiment")
    for mode in MODES:
        table.add_column(mode, justify="right")
    for row in rows:
        table.add_row(row["experiment"], *(_cell(row, mode) for mode in MODES))
    console.print(table)
    workers = 0 if options.plumbing else _workers()
    console.print(f"Loading is included: {workers} process(es). fp32 with torch's default, convolutions in TF32.")
    right = all("fp32" in row and not row["faults"] for row in rows)
    checks = {"every experiment trains in float32, and nothing crashes": right}
    return finish(console, checks, {"device": where, "rows": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
