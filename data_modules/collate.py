"""From samples to a batch."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_modules.dataset import Sample
from gaze_lightning.batch import Batch


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; pad fixations with zeros to the longest reading (at least one place).

    The image stays uint8 and there is no ``saliency`` yet: the data module makes both on the device.

    Args:
        samples: with the same keys; at least one.
    """
    longest = max(1, *(len(sample["fixations"]) for sample in samples))
    fixations = _padded([sample["fixations"] for sample in samples], longest)
    counts = torch.tensor([len(sample["fixations"]) for sample in samples])
    mask = torch.arange(longest)[None] < counts[:, None]
    batch = Batch(
        image=torch.from_numpy(np.stack([sample["image"] for sample in samples])),
        sample_id=[sample["sample_id"] for sample in samples],
        subject=[sample["subject"] for sample in samples],
        fixations=fixations,
        fixation_mask=mask,
        has_gaze=(fixations[..., 2] * mask).sum(dim=1) > 0,
        film_box=torch.from_numpy(np.stack([sample["film_box"] for sample in samples])),
    )
    if "label" in samples[0]:
        batch["label"] = torch.from_numpy(np.stack([sample["label"] for sample in samples]))
    if "visible" in samples[0]:
        batch["visible"] = _padded([sample["visible"] for sample in samples], longest)
    if "lesion_mask" in samples[0]:
        batch["lesion_mask"] = torch.from_numpy(np.stack([sample["lesion_mask"] for sample in samples]))
    if "anatomy_mask" in samples[0]:
        batch["anatomy_mask"] = torch.from_numpy(np.stack([sample["anatomy_mask"] for sample in samples]))
    return batch


def _padded(arrays: Sequence[npt.NDArray[np.float32]], length: int) -> Tensor:
    padded = torch.zeros(len(arrays), length, arrays[0].shape[1])
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return padded
