"""Films, relations and tiny methods for the tests of pre-training; importable by processes that some of them start."""

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.tasks import BYOL, MoCo, SimCLR, SimSiam

SIZE = 32
METHODS = {
    "MoCo": (MoCo, {"hidden": 8, "dim": 6, "queue_size": 10, "momentum": 0.9}),
    "BYOL": (BYOL, {"hidden": 8, "dim": 6, "momentum": 0.9}),
    "SimSiam": (SimSiam, {"hidden": 8, "dim": 6, "predictor_hidden": 4}),
    "SimCLR": (SimCLR, {"hidden": 8, "dim": 6}),
}
CLASSES = ["a", "b", "c"]


def make_task(name, class_names=CLASSES, still=False, **options):
    """A method on timm's smallest ResNet; ``still``: batch norms use their statistics, those of any batch are alike."""
    cls, own = METHODS[name]
    if still:
        cls = type(
            f"Still{name}", (cls,), {"on_train_batch_start": lambda self, batch, batch_idx: self.eval() and None}
        )
    torch.manual_seed(0)
    given = {"backbone": "test_resnet", "optimizer": "sgd", "lr": 0.05, "schedule": "constant", "weight_decay": 0.0}
    return cls(list(class_names), **(given | own | options))


def films(part, n, label_type="single", labels=True):
    """Samples with a second view; numbers and brightness depend on the part and the class."""
    generator = torch.Generator().manual_seed({"train": 0, "validate": 1, "test": 2}[part])
    image = torch.rand(n, 2, 1, SIZE, SIZE, generator=generator) * 0.5
    label = torch.arange(n) % len(CLASSES)
    image[:, :, :, :, : SIZE // 2] += 0.25 * label[:, None, None, None, None]
    samples = []
    for i in range(n):
        sample = {"image": image[i, 0], "sample_id": f"{part}-{i:02d}", "subject": f"p{i}", "film": i // 2 * 2}
        if labels:
            one_hot = torch.nn.functional.one_hot(label[i], len(CLASSES)).float()
            sample["label"] = label[i] if label_type == "single" else one_hot
        samples.append(sample | ({"second_view": image[i, 1]} if part == "train" else {}))
    return samples


def collate(samples):
    batch = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if isinstance(values[0], torch.Tensor):
            batch[key] = torch.stack(values)
        else:
            batch[key] = torch.tensor(values) if key == "film" else values
    return batch


def relations(n=12, partners=((0, 4), (0, 7), (3, 8), (5, 10)), threshold=0.5):
    """Of the first training films; some of these pairs lie in one batch of four or eight, some do not."""
    similarity = np.eye(n, dtype=np.float32)
    for i, j in partners:
        similarity[i, j] = similarity[j, i] = 0.9
    ids = tuple(f"train-{i:02d}" for i in range(n))
    return RelationMatrix.of(ids, np.ones(n, dtype=bool), similarity, threshold, digest=f"made up {threshold}")


class TwoViews(LightningDataModule):
    """Implements ``OffersTwoViews`` on films in memory; the order of training films depends on the epoch alone."""

    flips = False

    def __init__(self, batch_size=4, train=16, validate=7, test=5, ordered=False, **options):
        super().__init__()
        self.batch_size, self.ordered = batch_size, ordered
        numbers = {"train": train, "validate": validate, "test": test}
        self.films = {part: films(part, n, **options) for part, n in numbers.items()}
        self.asked, self.views = [], 1

    def show_two_views(self):
        self.views = 2

    def _loader(self, samples, batch_size):
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return DataLoader(samples[rank::world], batch_size=batch_size, collate_fn=collate)

    def reference_loader(self, part, n):
        self.asked.append((part, n))
        samples = [{k: v for k, v in one.items() if k != "second_view"} for one in self.films[part][:n]]
        return self._loader(samples, 3) if "label" in samples[0] else None

    def train_dataloader(self):
        n = len(self.films["train"])
        order = torch.randperm(n, generator=torch.Generator().manual_seed(self.trainer.current_epoch)).tolist()
        order = list(range(n)) if self.ordered else order
        world, rank, own = self.trainer.world_size, self.trainer.global_rank, self.batch_size // self.trainer.world_size
        batches = [order[i : i + self.batch_size] for i in range(0, n, self.batch_size)]
        mine = [self.films["train"][i] for batch in batches for i in batch[rank * own : (rank + 1) * own]]
        assert self.views == 2 and world * own == self.batch_size  # noqa: PT018
        return DataLoader(mine, batch_size=own, collate_fn=collate)

    def val_dataloader(self):
        return self._loader(self.films["validate"], 2)

    def test_dataloader(self):
        return self._loader(self.films["test"], 2)

    predict_dataloader = test_dataloader


def trainer(path, epochs=1, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    quiet |= {"use_distributed_sampler": False, "reload_dataloaders_every_n_epochs": 1, "limit_val_batches": 0}
    return Trainer(default_root_dir=path, max_epochs=epochs, **(quiet | options))


def batch_of(n=8):
    return collate(films("train", n))


def fit(task, path, epochs=1, data=None, given=None, **options):
    if given is not None:
        task.set_relations(given)
    run = trainer(path, epochs, **options)
    run.fit(task, datamodule=data or TwoViews())
    return run


def equal(a, b, but=()):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a if name not in but)
