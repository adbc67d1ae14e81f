"""Gradients of several batches in one step of the optimiser."""

import pytest
import torch
from pytorch_lightning import Callback

from gaze_lightning.protocols import FilmStatistics
from gaze_lightning.tasks import AttentionClassifier, Classifier
from tests.contrastive_data import METHODS
from tests.every_task import TASKS
from tests.test_tasks import CLASSES, H, W, classifier, loader, make_batch, trainer


class Watch(Callback):
    """Rates of the steps, and parameters after each batch."""

    def __init__(self):
        self.rates, self.parameters = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.parameters.append([p.detach().clone() for p in pl_module.parameters()])


def test_two_batches_in_one_step_are_one_of_twice_the_size(tmp_path):
    """Of a network without batch norm, whose loss is a mean over films."""
    parts = [make_batch(4, seed) for seed in range(4)]
    wholes = []
    for one, other in zip(parts[::2], parts[1::2], strict=True):
        tensors = {name: torch.cat([one[name], other[name]]) for name, value in one.items() if torch.is_tensor(value)}
        wholes.append(one | tensors | {name: one[name] + other[name] for name in ("sample_id", "subject")})
    moved = []
    for batches, accumulate in ((parts, 2), (wholes, 1)):
        task = classifier(backbone="test_convnext", optimizer="adamw", lr=1e-2)
        run = trainer(tmp_path, accumulate_grad_batches=accumulate)
        run.fit(task, loader(batches))
        assert run.global_step == 2
        moved.append(list(task.parameters()))
    start = classifier(backbone="test_convnext").parameters()
    for one, other, first in zip(*moved, start, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert not one.requires_grad or not torch.equal(one, first)


def batch_stack(**options):
    task = AttentionClassifier(CLASSES, backbone="test_resnet", attention="batch_stack", **options)
    task.attention = task._build(4, (H, W))
    return task


OWN = {name: make for name, make in TASKS.items() if name not in METHODS} | {"AttentionClassifier, stack": batch_stack}
"""Of pre-training: test_resume, where gradients of MoCo accumulate, and test_contrastive_tasks."""


@pytest.mark.parametrize("name", OWN)
def test_steps_and_schedules_count_steps_of_the_optimiser(tmp_path, name, monkeypatch):
    monkeypatch.setattr(AttentionClassifier, "setup", Classifier.setup)  # the maps are made already
    task, watch = OWN[name](optimizer="sgd", lr=0.1, schedule="cosine", warmup=0.0), Watch()
    if isinstance(task, AttentionClassifier):
        task._statistics = FilmStatistics(torch.rand(H, W), 1.0, torch.ones(H, W), 20)
    run = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=2, callbacks=[watch])
    run.fit(task, loader([make_batch(4, seed) for seed in range(5)]))
    assert run.global_step == 6  # of the last one of each epoch there is one batch only
    assert watch.rates == pytest.approx([0.1, 0.0933, 0.075, 0.05, 0.025, 0.0067], abs=1e-4)
    of_map = [index for index, (key, _) in enumerate(task.named_parameters()) if key.startswith("attention.")]
    for number, (before, after) in enumerate(zip(watch.parameters, watch.parameters[1:], strict=False), start=1):
        steps = number % 5 in (1, 3, 4)
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert steps == any(moved), number
        assert not of_map or steps == any(moved[index] for index in of_map), number
