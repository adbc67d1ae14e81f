"""Compilation and memory format of every task."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from pytorch_lightning import Trainer
from torch._dynamo.utils import counters

from callbacks import Acceleration
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.main import main
from gaze_lightning.protocols import HasPureParts
from gaze_lightning.sync_batch_norm import SyncBatchNorm
from tests.every_task import TASKS, attention, batch_of

every_task = pytest.mark.parametrize("name", list(TASKS))


def compiled(task, backend="eager"):
    """By default what dynamo makes of it runs as it is: that is where Python can go wrong, and a second each."""
    trainer = SimpleNamespace(precision="32-true", world_size=1)
    Acceleration(compile=True, compile_backend=backend).setup(trainer, task, "fit")
    return task


@pytest.fixture(autouse=True)
def fresh():
    """Each test compiles for itself."""
    torch.compiler.reset()
    counters.clear()


def step(task, batch):
    """Loss, gradients and buffers of a training step, and what the task predicts after it."""
    torch.manual_seed(1)
    task.train()
    loss = task.loss_for(frozenset(task.loss_terms), batch)
    loss.backward()
    found = {"loss": loss.detach()}
    found |= {f"gradient of {name}": p.grad for name, p in task.named_parameters() if p.grad is not None}
    found |= {name: buffer.clone() for name, buffer in task.named_buffers()}
    task.eval()
    with torch.no_grad():
        predicted = task.predict_step({name: batch[name] for name in ("image", "sample_id")}, 0)
    return found | {name: value for name, value in predicted.items() if isinstance(value, torch.Tensor)}


def assert_alike(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name in found:
        scale = float(expected[name].abs().max()) if expected[name].numel() else 0.0
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance * max(scale, 1e-3), msg=name)


@every_task
def test_a_compiled_task_computes_the_same_in_one_graph_per_part(name):
    batch = batch_of()
    plain, task = TASKS[name](), compiled(TASKS[name]())
    assert isinstance(task, HasPureParts)
    assert task.state_dict().keys() == plain.state_dict().keys()
    assert_alike(step(task, batch), step(plain, batch), 2e-4)
    assert counters["stats"]["unique_graphs"] > len({type(part) for part in task.pure_parts()})
    assert not counters["graph_break"]
    task.load_state_dict(plain.state_dict())


def test_forward_and_backward_graphs_compute_the_same():
    batch = batch_of()
    plain, task = TASKS["Classifier"](), compiled(TASKS["Classifier"](), "aot_eager")
    assert_alike(step(task, batch), step(plain, batch), 2e-4)
    assert counters["aot_autograd"]["ok"]


def test_stages_and_sizes_compile_anew_and_change_nothing():
    plain, task = TASKS["MultiTaskUNet"](), compiled(TASKS["MultiTaskUNet"]())
    for n, frozen in ((4, ()), (6, ("decoder", "encoder"))):
        for one in (plain, task):
            one.zero_grad(set_to_none=True)
            for part in ("encoder", "decoder"):
                one.model.get_submodule(part).requires_grad_(part not in frozen)
        batch = batch_of(n)
        assert_alike(step(task, batch), step(plain, batch), 2e-4)


@every_task
def test_channels_last_keeps_weights_in_that_order_and_computes_the_same(name):
    batch = batch_of()
    plain, task = TASKS[name](), TASKS[name](channels_last=True)
    named = [(name, p) for name, p in task.named_parameters() if not name.startswith("attention.")]
    kernels = [p for name, p in named if p.ndim == 4 and min(p.shape[1:]) > 1]  # of others there is one order only
    assert len(kernels) > 3
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    found, expected = step(task, batch), step(plain, batch)
    # not the gradients: where an activation is zero but for rounding, they jump
    outputs = [name for name in found if not name.startswith("gradient")]
    assert_alike({name: found[name] for name in outputs}, {name: expected[name] for name in outputs}, 2e-4)


def test_what_cannot_be_compiled_or_computed_is_refused():
    with pytest.raises(ConfigurationError, match=r"torch knows no 'inducter'; there are .*inductor"):
        compiled(TASKS["Classifier"](), "inducter")
    with pytest.raises(ConfigurationError, match="position: stem the map acts inside the network"):
        compiled(attention(position="stem"))
    with pytest.raises(ConfigurationError, match="Module does not say which of its parts"):
        compiled(torch.nn.Module())
    for precision in ("16-true", "bf16-true"):
        with pytest.raises(ConfigurationError, match=f"trainer.precision: {precision} rounds"):
            Acceleration().setup(SimpleNamespace(precision=precision), TASKS["Classifier"](), "fit")


@pytest.mark.parametrize("options", [{"plugins": [SyncBatchNorm()]}, {"sync_batchnorm": True}])
def test_synchronised_batch_norm_is_not_compiled(options):
    def setup(n, compile=True, **given):
        trainer = Trainer(accelerator="cpu", devices=n, strategy="ddp", logger=False, **given)
        Acceleration(compile, "eager").setup(trainer, task, "fit")

    task = TASKS["BYOL"]()
    with pytest.raises(ConfigurationError, match=r"BYOL is synchronised over 2 processes.*never tested"):
        setup(2, **options)
    setup(2, compile=False, **options)
    assert not any(part._compiled_call_impl for part in task.pure_parts())
    for n, given in ((2, {}), (1, options)):
        task = TASKS["BYOL"]()
        setup(n, **given)
        assert all(part._compiled_call_impl for part in task.pure_parts())


def test_nothing_is_compiled_unless_it_is_asked_for():
    task = TASKS["Classifier"]()
    Acceleration().setup(SimpleNamespace(precision="bf16-mixed"), task, "fit")
    assert task.model._compiled_call_impl is None


def test_a_compiled_run_is_tested_resumed_and_predicted_without_compilation(phantom_arguments, tmp_path):
    run = tmp_path / "run"
    small = [
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=8",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--model.init_args.schedule=constant",
        "--cam_logger.n_cases=1",
        "--test_report.n_boot=10",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ]
    compilation = ["--acceleration.compile=true", "--acceleration.compile_backend=eager"]
    main(["train", "--config=baseline_resnet18", *small, *compilation, "--trainer.max_epochs=1", f"--run_dir={run}"])
    assert counters["stats"]["unique_graphs"] > 1
    assert list(run.glob("cams/test/*.png"))
    torch.compiler.reset()
    counters.clear()
    plain = "--acceleration.compile=false"
    main(["test", "--run", str(run), plain, f"--run_dir={tmp_path / 'again'}"])
    first, second = (pd.read_csv(folder / "predictions.csv") for folder in (run, tmp_path / "again"))
    columns = [name for name in first if name.startswith("prob_")]
    assert first["sample_id"].tolist() == second["sample_id"].tolist()
    assert first[columns].to_numpy() == pytest.approx(second[columns].to_numpy(), abs=1e-5)
    main(["resume", "--run", str(run), plain, "--trainer.max_epochs=2"])
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    assert json.loads((run / "results.json").read_text())["n"] == len(first)
    assert not counters["stats"]
