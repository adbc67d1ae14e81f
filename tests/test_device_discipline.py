"""Every task on a pretended device: what is made on the CPU and meets what is on the device fails, without a GPU."""

import json

import pytest
import torch

from gaze_lightning.main import main
from tests.matrix_cases import TASKS, arguments_of
from tests.pretend_device import DEVICE, pretending


def test_the_pretended_device_refuses_what_a_gpu_refuses():
    with pretending():
        there = torch.arange(6.0, device=DEVICE).view(2, 3)
        assert there.device == DEVICE
        assert (there * 2).sum().item() == 30
        assert torch.equal(there.cpu(), torch.arange(6.0).view(2, 3))
        assert (there + torch.tensor(1.0)).device == DEVICE  # a scalar of the CPU may meet it
        assert there[torch.tensor([1])].device == DEVICE  # and indices may
        for wrong in (
            lambda: there + torch.ones(2, 3),
            lambda: torch.arange(3)[there[0].long()],
            lambda: torch.rand(2, device=DEVICE, generator=torch.Generator()),
            lambda: torch.cat([there, torch.ones(2, 3)]),
        ):
            with pytest.raises(RuntimeError, match="CPU"):
                wrong()
        with pytest.raises((TypeError, RuntimeError)):
            there.numpy()
        weight = torch.nn.Linear(3, 1).to(DEVICE).weight
        (there @ weight.T).sum().backward()
        assert weight.grad.device == DEVICE
        assert torch.equal(weight.grad.cpu(), there.cpu().sum(0, keepdim=True))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [one for name, one in TASKS.items() if name != "classifier"])  # ggcam is one
def test_task_trains_and_tests_on_a_device_that_is_not_the_cpu(experiment, shared, tmp_path):
    run = tmp_path / "run"
    with pretending():
        main(
            [
                "train",
                *arguments_of(experiment, shared),
                "--trainer.strategy={class_path: tests.pretend_device.PretendStrategy}",
                "--trainer.inference_mode=false",  # its tensors cannot be wrapped
                "--trainer.limit_train_batches=1",
                "--trainer.limit_val_batches=1",
                "--trainer.limit_test_batches=1",
                "--cam_logger.n_cases=1",
                "--cam_logger.every_n_epochs=0",
                f"--run_dir={run}",
            ]
        )
    assert json.loads((run / "results.json").read_text())["n"] == 8
