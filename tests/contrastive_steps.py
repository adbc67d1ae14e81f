"""Steps, values and keys of the pre-training methods on one process or two; for processes that tests start."""

from pathlib import Path

import torch
from pytorch_lightning import Callback

from tests.contrastive_data import METHODS, TwoViews, make_task, relations, trainer


class _Keep(Callback):
    """The outputs of a test, by sample."""

    def __init__(self):
        self.outputs = {}

    def on_test_batch_end(self, trainer, pl_module, result, batch, batch_idx, dataloader_idx=0):
        for i, name in enumerate(result["sample_id"]):
            both = [result["probability"][i].double(), result["extra_probabilities"]["knn"][i].double()]
            self.outputs[name] = torch.cat(both)


def steps(folder: str, devices: int) -> None:
    """Two steps of each method, validation and test; files ``<what>_<devices>_<rank>.pt`` in the folder."""
    torch.set_num_threads(1)
    strategy = "ddp" if devices > 1 else "auto"

    def run_of(**options):
        return trainer(folder, devices=devices, strategy=strategy, **options)

    encoded = []
    for name in METHODS:
        for normalise in ("global", "per_anchor") if name == "MoCo" else ("global",):
            task = make_task(name, still=True, positives="gaze", normalise=normalise, neighbours=3, lr=0.1)
            task.set_relations(relations())
            if name == "MoCo" and normalise == "global":
                task.target.register_forward_pre_hook(lambda module, images: encoded.append(images[0].clone()))
            start = {key: value.clone() for key, value in task.state_dict().items()}
            data, keep = TwoViews(batch_size=8, ordered=True), _Keep()
            first = normalise == "global"
            run = run_of(limit_train_batches=2, limit_val_batches=1.0 if first else 0, callbacks=[keep])
            run.fit(task, datamodule=data)
            values = {key: value for key, value in run.callback_metrics.items() if not key.endswith("_step")}
            saved = {"start": start, "end": dict(task.state_dict()), "values": values}
            if first:
                run.test(task, datamodule=data, verbose=False)
                saved["outputs"] = keep.outputs
            torch.save(saved, f"{folder}/{name}_{normalise}_{devices}_{run.global_rank}.pt")
    torch.save(torch.stack(encoded), f"{folder}/encoded_{devices}_{run.global_rank}.pt")


def keys(folder: str) -> None:
    """Keys of MoCo's first step on two processes, with batch statistics: files ``keys_<rank>.pt`` in the folder."""
    task, kept = make_task("MoCo", key_groups=2), []
    remember = task.remember
    task.remember = lambda contrast: kept.append(contrast.keys.clone()) or remember(contrast)
    run = trainer(folder, devices=2, strategy="ddp", limit_train_batches=1)
    run.fit(task, datamodule=TwoViews(batch_size=8, ordered=True))
    torch.save(kept[0], Path(folder) / f"keys_{run.global_rank}.pt")
