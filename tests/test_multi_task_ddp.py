"""Two real processes: the contrastive loss sees the samples of both, and one step equals that of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

_SCRIPT = """
import sys
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader
from gaze_lightning.tasks import Cooperative
from tests.test_tasks import make_batch

folder, devices, contrastive = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)


class Still(Cooperative):
    def on_train_batch_start(self, batch, batch_idx):
        self.eval()  # BatchNorm would see half of the batch on each process

    def on_train_end(self):
        torch.save(self.model.encoder.state_dict(), f"{folder}/{contrastive}_{devices}_{self.global_rank}.pt")


torch.manual_seed(0)
options = {"backbone": "test_resnet", "width": 1 / 16, "contrastive": contrastive, "optimizer": "sgd", "lr": 0.5}
task = Still(["a", "b", "c"], **options)
torch.save(task.model.encoder.state_dict(), f"{folder}/{contrastive}_start.pt")
task.active_loss_terms = frozenset({"contrastive"})
whole = make_batch(12, planted=True)
trainer = Trainer(
    default_root_dir=folder, accelerator="cpu", devices=devices, max_epochs=1, logger=False, enable_checkpointing=False,
    strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto", enable_progress_bar=False,
    enable_model_summary=False, use_distributed_sampler=False,
)
size = 12 // devices
rows = slice(trainer.global_rank * size, (trainer.global_rank + 1) * size)
part = {key: value[rows] for key, value in whole.items()}
trainer.fit(task, DataLoader([part], batch_size=None, collate_fn=lambda batch: batch))
"""


@pytest.mark.parametrize("contrastive", ["triplet", "supcon"])
def test_one_contrastive_step_on_two_processes_equals_the_step_on_their_samples_together(tmp_path, contrastive):
    script = tmp_path / "step.py"
    script.write_text(_SCRIPT)
    for devices in (1, 2):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path), str(devices), contrastive],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    start, alone, first, second = (
        torch.load(tmp_path / f"{contrastive}_{name}.pt", weights_only=True) for name in ("start", "1_0", "2_0", "2_1")
    )
    step = max(float((alone[name] - value).abs().max()) for name, value in start.items() if value.is_floating_point())
    assert step > 1e-3
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-4 * step, msg=name)
