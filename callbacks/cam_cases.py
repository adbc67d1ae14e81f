"""From data sets and batches to the cases of a CAM page."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from callbacks.panel_parts import CamCase
from gaze_lightning.batch import Batch


def choose_cases(dataset: Any, n: int, n_classes: int, label_type: Literal["single", "multi"]) -> list[int]:
    """Choose cases that are balanced over the classes, always the same of one data set; with gaze where possible.

    The data set is read in a fixed shuffled order until every class has its share (at most 50 samples per wanted case
    are read). In multi-label sets a sample counts for its rarest class so far; "no class" is a class of its own.

    Args:
        dataset: a map-style data set of samples with ``label`` and ``has_gaze`` or ``fixations`` (each may be absent).
        n: how many cases.
        n_classes: number of classes ``K``; 0: labels are not looked at.
        label_type: what ``label`` holds.

    Returns:
        At most ``n`` indices, the classes taking turns.
    """
    buckets = max(1, n_classes + (n_classes > 0 and label_type == "multi"))
    share = -(-n // buckets)
    with_gaze: list[list[int]] = [[] for _ in range(buckets)]
    without: list[list[int]] = [[] for _ in range(buckets)]
    order = np.random.default_rng(0).permutation(len(dataset))
    for index in order[: 50 * n].tolist():
        sample = dataset[index]
        classes = true_classes(sample.get("label"), label_type) if n_classes else [0]
        classes = classes or ([n_classes] if label_type == "multi" else [0])
        bucket = min(classes, key=lambda k: len(with_gaze[k]))
        (with_gaze if _has_gaze(sample) else without)[bucket].append(index)
        if all(len(found) >= share for found in with_gaze):
            break
    queues = [(gaze + rest) for gaze, rest in zip(with_gaze, without, strict=True)]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return turns[:n]


def true_classes(label: Any, label_type: Literal["single", "multi"]) -> list[int]:
    """The classes that hold for one sample.

    Args:
        label: class index (negative: unknown), ``[K]`` in {0, 1, NaN}, or None.
        label_type: which of the two.

    Returns:
        Class indices, ascending.
    """
    if label is None:
        return []
    values = np.asarray(label)
    if label_type == "single":
        return [int(values)] if int(values) >= 0 else []
    return [int(k) for k in np.flatnonzero(values == 1)]


def cases_of(
    batch: Batch, outputs: dict[str, Any], label_type: Literal["single", "multi"], names: Sequence[str]
) -> list[CamCase]:
    """Gather what is drawn of each sample of a batch.

    Args:
        batch: a batch on any device.
        outputs: of the same batch: ``probability`` ``[B, K]``, where ``K`` may be 0; where the task has them ``cam``
            ``[B, K, h, w]`` and ``saliency`` ``[B, 1, H, W]``.
        label_type: what ``batch["label"]`` holds.
        names: what each case is called on its page.

    Returns:
        ``B`` cases, as arrays on the CPU.
    """
    probability = numpy_of(outputs["probability"])
    cams = [numpy_of(maps) for maps in outputs["cam"]] if outputs.get("cam") is not None else None
    saliency = outputs.get("saliency")
    label = batch.get("label") if probability.shape[1] else None  # without classes a label has no meaning
    return [
        CamCase(
            name=name,
            film=numpy_of(batch["image"][i, 0]),
            cams=np.zeros((0, 1, 1), np.float32) if cams is None else cams[i],
            probability=probability[i],
            true_classes=() if label is None else tuple(true_classes(label[i].cpu(), label_type)),
            has_label=label is not None and _known(label[i], label_type),
            film_box=_film_box(batch, i),
            gaze=_gaze(batch, i),
            fixations=_fixations(batch, i),
            lesions=batch["lesion_mask"][i].bool().cpu().numpy() if "lesion_mask" in batch else None,
            multi_label=label_type == "multi",
            saliency=None if saliency is None else numpy_of(saliency[i, 0]),
        )
        for i, name in enumerate(names)
    ]


def numpy_of(tensor: Tensor) -> npt.NDArray[np.floating[Any]]:
    """A float32 array on the CPU, whatever the tensor's precision and device."""
    return np.asarray(tensor.detach().to("cpu", torch.float32).numpy())


def _has_gaze(sample: Mapping[str, Any]) -> bool:
    if "has_gaze" in sample:
        return bool(sample["has_gaze"])
    return bool(len(sample.get("fixations", ())))


def _known(label: Tensor, label_type: Literal["single", "multi"]) -> bool:
    return bool(label >= 0) if label_type == "single" else not bool(label.isnan().all())


def _film_box(batch: Batch, i: int) -> tuple[float, float, float, float] | None:
    if "film_box" not in batch:
        return None
    x0, y0, x1, y1 = (float(edge) for edge in batch["film_box"][i])
    return (x0, y0, x1, y1)


def _gaze(batch: Batch, i: int) -> npt.NDArray[np.floating[Any]] | None:
    if "saliency" not in batch or ("has_gaze" in batch and not bool(batch["has_gaze"][i])):
        return None
    return numpy_of(batch["saliency"][i, 0])


def _fixations(batch: Batch, i: int) -> npt.NDArray[np.floating[Any]] | None:
    if "fixations" not in batch or "fixation_mask" not in batch:
        return None
    return numpy_of(batch["fixations"][i][batch["fixation_mask"][i]][:, :3])
