"""Every task in half precision: what the network computes may be rounded, what is made of it may not."""

import copy
import math

import pandas as pd
import pytest
import torch
from torchmetrics import Metric

import gaze_lightning.losses as losses
from gaze_lightning.main import main
from tests.contrastive_data import METHODS, fit, make_task
from tests.every_task import TASKS, batch_of, local
from tests.test_tasks import loader, make_batch, only_image, trainer

LOSSES = tuple(
    value for value in vars(losses).values() if isinstance(value, type) and issubclass(value, torch.nn.Module)
)
every_task = pytest.mark.parametrize("name", list(TASKS))
halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def loss_of(task, batch, dtype=None):
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        return task.loss_for(frozenset(task.loss_terms), batch)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.bfloat16) for name in TASKS]
    # a CPU takes minutes for the UNets' convolutions in float16
    + [(name, torch.float16) for name in TASKS if name not in ("MultiTaskUNet", "Cooperative")],
)
def test_losses_are_exact_for_what_the_network_has_said(name, dtype):
    """Each is computed again in float64 from what it got; one computed in bfloat16 is a thousand times further away."""
    task, seen = TASKS[name](), []
    for module in task.modules():
        if isinstance(module, LOSSES):
            module.register_forward_hook(lambda *call: seen.append(call))
    total = loss_of(task, batch_of(), dtype)
    assert total.dtype == torch.float32
    assert total.isfinite()
    assert seen
    for module, inputs, output in tuple(seen):  # the copies below are seen as well
        found = output[0] if isinstance(output, tuple) else output
        again = copy.deepcopy(module).double()(*(_double(value) for value in inputs))
        expected = again[0] if isinstance(again, tuple) else again
        assert found.dtype == torch.float32, module
        assert float(found) == pytest.approx(float(expected), rel=1e-5, abs=1e-6), module
    total.backward()
    gradients = [p.grad for p in task.parameters() if p.grad is not None]
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def _double(value):
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


@every_task
def test_a_step_in_bfloat16_is_near_one_in_float32(name):
    batch = batch_of()
    half, single = (float(loss_of(TASKS[name](), batch, dtype)) for dtype in (torch.bfloat16, None))
    assert half == pytest.approx(single, rel=0.03, abs=0.03)


@halves
def test_penalties_of_a_map_for_each_film_are_exact_too(dtype):
    task, batch = local(position="stem"), batch_of()
    with torch.autocast("cpu", dtype):
        logits, maps = task.outputs(batch)
        found = task.losses(frozenset(task.loss_terms), batch, logits, maps)
    attention = task._weighed_by.double()
    assert task._weighed_by.dtype == dtype
    expected = found.classification + 0.1 * attention.mean() + 0.1 * losses.total_variation(attention)
    assert float(found.total) == pytest.approx(float(expected), rel=1e-6)


@every_task
def test_what_is_predicted_is_float32(name):
    task, batch = TASKS[name]().eval(), batch_of()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predicted = task.predict_step({key: batch[key] for key in ("image", "sample_id")}, 0)
    values = {key: value for key, value in predicted.items() if isinstance(value, torch.Tensor)}
    assert all(value.dtype == torch.float32 for value in values.values())
    for key in ("probability", "saliency"):
        if key in values and values[key].numel():
            total = values[key].double().sum(dim=1 if key == "probability" else (1, 2, 3))
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def assert_metrics_are_single(task):
    states = [
        value
        for metric in task.modules()
        if isinstance(metric, Metric)
        for name in metric._defaults
        for value in (getattr(metric, name) if isinstance(getattr(metric, name), list) else [getattr(metric, name)])
    ]
    assert states
    assert all(value.dtype in (torch.float32, torch.float64, torch.int64, torch.int32) for value in states)


@pytest.mark.parametrize("name", ["Classifier", "GGCAM", "MultiTaskUNet", "Cooperative"])
def test_a_trained_and_validated_epoch_accumulates_in_float32(tmp_path, name):
    task, run = TASKS[name](), trainer(tmp_path, precision="bf16-mixed")
    of_batches = []
    batches = [make_batch(4, seed) for seed in range(3)] + [make_batch(4, 0, gaze=False)] * 30
    run.fit(task, loader([batch_of(6)] * 2), loader(batches))
    assert_metrics_are_single(task)
    logged = run.callback_metrics
    assert all(value.dtype in (torch.float32, torch.float64) for value in logged.values())
    assert math.isfinite(logged["val/loss"])
    term = {"Cooperative": "fusion"}.get(name, "classification")
    loss = task.classification_loss
    handle = loss.register_forward_hook(lambda _, inputs, output: of_batches.append((inputs[0], float(output))))
    run.validate(task, loader(batches), verbose=False)
    handle.remove()
    values = [value for _, value in of_batches]
    if name == "Cooperative":  # the linear head comes first
        values = values[1::2]
    assert len(values) == len(batches)
    mean = math.fsum(values) / len(values)
    assert float(run.callback_metrics[f"val/{term}_loss"]) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_pretraining_epoch_accumulates_in_float32(tmp_path, name):
    task = make_task(name)
    run = fit(task, tmp_path, precision="bf16-mixed", limit_train_batches=2, limit_val_batches=1.0)
    assert all(value.dtype in (torch.float32, torch.float64) for value in run.callback_metrics.values())
    assert all(buffer.dtype in (torch.float32, torch.int64, torch.int32) for buffer in task.buffers())


def test_a_network_that_trained_in_bfloat16_predicts_in_the_trainers_precision(tmp_path):
    task = TASKS["Classifier"]()
    single, half = (
        trainer(tmp_path, precision=precision).predict(task, loader([only_image(make_batch())]))[0]["probability"]
        for precision in ("32-true", "bf16-mixed")
    )
    assert half.dtype == torch.float32
    assert not torch.equal(single, half)
    torch.testing.assert_close(single, half, rtol=0, atol=0.02)


def test_a_run_in_bfloat16_writes_all_digits(phantom_arguments, tmp_path):
    run = tmp_path / "run"
    main(
        [
            "train",
            "--config=mtunet",
            *phantom_arguments,
            f"--data.init_args.cache_dir={tmp_path / 'cache'}",
            "--data.init_args.batch_size=8",
            "--data.init_args.image_size=[48,40]",
            "--data.init_args.saliency_size=[24,20]",
            "--model.init_args.width=0.0625",
            "--cam_logger.n_cases=1",
            "--test_report.n_boot=10",
            "--trainer.precision=bf16-mixed",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            "--trainer.enable_progress_bar=false",
            f"--run_dir={run}",
        ]
    )
    predictions = pd.read_csv(run / "predictions.csv")
    columns = [name for name in predictions if name.startswith("prob_")]
    values = torch.tensor(predictions[columns].to_numpy())
    assert (values != values.bfloat16().double()).double().mean() > 0.9
    assert pd.read_csv(run / "metrics.csv")["val/saliency_cc"].notna().any()
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights["state_dict"].values())
