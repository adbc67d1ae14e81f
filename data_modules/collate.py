"""From samples to a batch."""

from collections.abc import Sequence
from typing import NamedTuple, NotRequired

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_modules.dataset import Sample
from data_modules.training_mean import MeanMap
from gaze_lightning.batch import Batch


class Others(NamedTuple):
    """The other readings of the films of a batch, ``M`` in all, each once; coordinates in network pixels."""

    points: Tensor
    """float32 ``[M, N, 5]``: x, y, weight, sigma_x, sigma_y."""
    mask: Tensor
    """bool ``[M, N]``: false where ``points`` is padding."""
    visible: Tensor | None
    """float32 ``[M, N, 4]`` where samples have visible rectangles."""
    belongs: Tensor
    """bool ``[B, M]``: whether a reading is another one of a sample's film."""


class RawBatch(Batch, total=False):
    """A batch before the data module has finished it on the device: uint8 images, no maps, and what maps need."""

    others: NotRequired[Others]
    """Where the data set knows of other readings."""
    mean_map: NotRequired[MeanMap]
    """The training readings' mean map in fractions of the film, in test batches."""


def collate(samples: Sequence[Sample], mean_map: MeanMap | None = None) -> RawBatch:
    """Stack samples; pad fixations with zeros to the longest reading (at least one place).

    The image stays uint8 and there are no maps yet: the data module makes both on the device.

    Args:
        samples: with the same keys; at least one.
        mean_map: goes along with the batch.
    """
    fixations, mask = _points([sample["fixations"] for sample in samples])
    longest = mask.shape[1]
    batch = RawBatch(
        image=torch.from_numpy(np.stack([sample["image"] for sample in samples])),
        sample_id=[sample["sample_id"] for sample in samples],
        subject=[sample["subject"] for sample in samples],
        film=torch.tensor([int(sample["film"]) for sample in samples]),
        fixations=fixations,
        fixation_mask=mask,
        has_gaze=(fixations[..., 2] * mask).sum(dim=1) > 0,
        film_box=torch.from_numpy(np.stack([sample["film_box"] for sample in samples])),
    )
    if "second_view" in samples[0]:
        batch["second_view"] = torch.from_numpy(np.stack([sample["second_view"] for sample in samples]))
    if "label" in samples[0]:
        batch["label"] = torch.from_numpy(np.stack([sample["label"] for sample in samples]))
    if "warp" in samples[0]:
        batch["warp"] = torch.from_numpy(np.stack([sample["warp"] for sample in samples]))
    if "visible" in samples[0]:
        batch["visible"] = _padded([sample["visible"] for sample in samples], longest, 4)
    if "lesion_mask" in samples[0]:
        batch["lesion_mask"] = torch.from_numpy(np.stack([sample["lesion_mask"] for sample in samples]))
    if "anatomy_mask" in samples[0]:
        batch["anatomy_mask"] = torch.from_numpy(np.stack([sample["anatomy_mask"] for sample in samples]))
    if "others" in samples[0]:
        batch["others"] = _others(samples)
    if mean_map is not None:
        batch["mean_map"] = mean_map
    return batch


def _others(samples: Sequence[Sample]) -> Others:
    """Samples of one film lie side by side in evaluation and share their other readings: each is taken once."""
    readings: dict[int, npt.NDArray[np.float32]] = {}
    shown: dict[int, npt.NDArray[np.float32]] = {}
    for sample in samples:
        readings.update(sample["others"])
        shown.update(sample.get("others_visible", {}))
    points, mask = _points(list(readings.values()))
    visible = _padded(list(shown.values()), mask.shape[1], 4) if "others_visible" in samples[0] else None
    belongs = torch.tensor([[number in sample["others"] for number in readings] for sample in samples])
    return Others(points, mask, visible, belongs.bool())


def _points(readings: Sequence[npt.NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Padded points ``[n, N, 5]`` and where they are points ``[n, N]``; N is at least one."""
    counts = torch.tensor([len(points) for points in readings], dtype=torch.int64)
    longest = max(1, *(len(points) for points in readings)) if readings else 1
    return _padded(readings, longest, 5), torch.arange(longest)[None] < counts[:, None]


def _padded(arrays: Sequence[npt.NDArray[np.float32]], length: int, width: int) -> Tensor:
    padded = torch.zeros(len(arrays), length, width)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return padded
