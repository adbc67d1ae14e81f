"""All tasks, tiny, and a batch that each of them can be trained on."""

import torch

from gaze_lightning.tasks import AttentionClassifier, PretrainedClassifier
from tests.contrastive_data import METHODS, make_task
from tests.test_multi_task import cooperative, mtunet
from tests.test_tasks import CLASSES, H, W, classifier, ggcam, make_batch


def batch_of(n=4, seed=0):
    """Everything that any task asks for."""
    batch = make_batch(n, seed)
    second = torch.rand(batch["image"].shape, generator=torch.Generator().manual_seed(seed + 100))
    return batch | {"second_view": second, "film": torch.arange(n)}


def attention(**options):
    torch.manual_seed(0)
    task = AttentionClassifier(CLASSES, backbone="test_resnet", **options)
    if options.get("attention") != "local":
        task.attention = task._build(8, (H, W))
        task.attention.set_anchors(torch.rand(8, 1, H, W, generator=torch.Generator().manual_seed(1)) - 0.5)
    return task


def pretrained(**options):
    torch.manual_seed(0)
    return PretrainedClassifier(CLASSES, backbone="test_resnet", pretrained="scratch", **options)


def moco(**options):
    """Its queue is not empty."""
    task = make_task("MoCo", CLASSES, **options)
    task.remember(task.contrast(batch_of(4, 9)))
    return task


def local(**options):
    return attention(attention="local", sparsity=0.1, total_variation=0.1, **options)


TASKS = {
    "Classifier": classifier,
    "GGCAM": ggcam,
    "PretrainedClassifier": pretrained,
    "AttentionClassifier": attention,
    "AttentionClassifier, local": local,
    "MultiTaskUNet": mtunet,
    "Cooperative": cooperative,
    "MoCo": moco,
} | {name: lambda name=name, **options: make_task(name, CLASSES, **options) for name in METHODS if name != "MoCo"}
