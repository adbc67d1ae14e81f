"""On a GPU: every task trains and tests through the command line, resumes, and draws. Skipped where there is none."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

from gaze_lightning.layers import task_of
from gaze_lightning.main import main
from gaze_lightning.models.warp import warp
from tests.interruption import command_line, digests
from tests.matrix_cases import N_TEST, PRETRAINING, TASKS, arguments_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch.cuda.is_available() is false: there is no GPU"),
]

TOLERANCE = 0.25
"""Distance between the weights of a run and of one that was killed in its second epoch and went on, as a share of the
way that the weights went from the checkpoint to the end: some operations have no deterministic algorithm on a GPU
(`deterministic: warn` names them), and sums have no order there. The bound was reasoned, not measured: there was no
GPU. Another order of films or a fresh optimiser, for comparison, moves weights about as far as the training itself."""


class SyncedLayers(Callback):
    """Writes how many batch norms of the task are synchronised, and how many are not."""

    def on_train_start(self, trainer, pl_module):
        norms = [m for m in pl_module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        synced = sum(isinstance(m, torch.nn.SyncBatchNorm) for m in norms)
        if trainer.is_global_zero:
            (Path(trainer.default_root_dir) / "batch_norms.txt").write_text(f"{synced} {len(norms) - synced}")


def arguments(experiment, folder, *more):
    return [
        "train",
        *arguments_of(experiment, folder),
        "--trainer.accelerator=gpu",
        "--trainer.devices=1",
        f"--run_dir={folder / 'run'}",
        *more,
    ]


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"]


def distance(a, b):
    """Euclidean, over the parameters: counters and a queue of keys go further than any weight."""
    assert a.keys() == b.keys()
    keys = [key for key in a if a[key].is_floating_point() and "running_" not in key and "queue." not in key]
    return math.sqrt(sum(float((a[key].double() - b[key].double()).square().sum()) for key in keys))


@pytest.mark.parametrize(
    "options",
    [
        ["--config=trainer/gpu"],
        ["--trainer.precision=bf16-mixed"],
        ["--trainer.precision=bf16-mixed", "--acceleration.compile=true"],
    ],
)
@pytest.mark.parametrize("experiment", TASKS.values())
def test_task_trains_and_tests(experiment, options, tmp_path, recwarn):
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    main(arguments(experiment, tmp_path, *options))
    run = tmp_path / "run"
    assert json.loads((run / "results.json").read_text())["n"] == N_TEST
    assert all(value.isfinite().all() for value in weights(run).values() if value.is_floating_point())
    assert torch.cuda.max_memory_allocated() > before
    assert (len(list(run.glob("cams/test/*.png"))) > 0) == (task_of(experiment) not in PRETRAINING)
    # ``deterministic: warn`` names what has no deterministic algorithm, and goes on
    assert not [w for w in recwarn if "CUBLAS_WORKSPACE_CONFIG" in str(w.message)]


@pytest.mark.parametrize("experiment", TASKS.values())
def test_resumed_run_is_close_to_the_uninterrupted_one(experiment, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command_line(arguments(experiment, tmp_path, f"--run_dir={whole}"))
    command_line(arguments(experiment, tmp_path, f"--run_dir={stopped}"), interrupt_at="batch_end 1 1")
    start = weights(stopped)
    command_line(["resume", "--run", str(stopped)])
    way = distance(weights(whole), start)
    assert way > 0
    assert distance(weights(whole), weights(stopped)) < TOLERANCE * way


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs: synchronised batch norm needs two")
@pytest.mark.parametrize("experiment", TASKS.values())
def test_two_gpus_stay_the_same(experiment, tmp_path):
    command_line(arguments(experiment, tmp_path, "--trainer.devices=2", "--trainer.strategy=ddp"))
    run = tmp_path / "run"
    assert digests(run, 0) == digests(run, 1)
    assert json.loads((run / "results.json").read_text())["n"] == N_TEST


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs: synchronised batch norm needs two")
def test_batch_norm_is_synchronised_on_two_gpus(tmp_path):
    layers = "--trainer.callbacks+=tests.test_gpu.SyncedLayers"
    command_line(arguments(TASKS["byol"], tmp_path, "--trainer.devices=2", "--trainer.strategy=ddp", layers))
    synced, others = map(int, (tmp_path / "run" / "batch_norms.txt").read_text().split())
    assert synced > 0
    assert others == 0


def test_warp_in_float64_agrees_with_the_cpu():
    torch.manual_seed(0)
    image = torch.rand(4, 1, 48, 40)
    matrix = torch.eye(2, 3).repeat(4, 1, 1) + 0.05 * torch.randn(4, 2, 3)
    expected = warp(image, matrix, (48, 40))
    found = warp(image.cuda(), matrix.cuda(), (48, 40))
    assert found.device.type == "cuda"
    assert np.abs(found.cpu().numpy() - expected.numpy()).max() < 1e-5
    moved = image.cuda().requires_grad_()
    warp(moved, matrix.cuda(), (48, 40)).square().sum().backward()
    alone = image.clone().requires_grad_()
    warp(alone, matrix, (48, 40)).square().sum().backward()
    assert torch.allclose(moved.grad.cpu(), alone.grad, atol=1e-4)
