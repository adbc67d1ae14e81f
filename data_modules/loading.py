"""Work around the loaders: when they start, in the processes that load, and on the device afterwards."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch.utils.data import DataLoader, Dataset, Sampler

from data_modules.collate import RawBatch
from data_modules.references import mean_of_others, place_on_films
from data_modules.smaller import make_smaller
from gaze_lightning.batch import Batch
from gaze_lightning.gaze import render_saliency_batch


class LateLoader(DataLoader[Any]):
    """A loader that starts when its first batch is asked for, not when its iterator is made.

    Lightning makes the iterator of a resumed run before it tells the sampler the epoch; worker processes would already
    load the samples of epoch 0.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches."""
        yield from super().__iter__()


def late_loader(
    dataset: Dataset[Any],
    sampler: Sampler[Any],
    batch_size: int,
    drop_last: bool,
    collate: Callable[[Any], Any],
    num_workers: int,
    pin_memory: bool,
    seed: int,
) -> LateLoader:
    """Make a loader whose processes are set up by `start_worker` and which draws nothing from the global generator."""
    return LateLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        drop_last=drop_last,
        worker_init_fn=start_worker,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=num_workers > 0,
    )


def finish_batch(batch: RawBatch, saliency_size: tuple[int, int], image_size: tuple[int, int] | None = None) -> Batch:
    """Make ``image`` (and ``second_view``) float32 in [0, 1] and render the maps, on the device where the batch is.

    ``has_gaze`` becomes false where nothing of the gaze shows in the map.

    Args:
        batch: as the collate function makes it.
        saliency_size: (h, w) of the maps, cells.
        image_size: (H, W) to which the image is reduced, pixels, if not its own; see `make_smaller`.
    """
    canvas = (int(batch["image"].shape[-2]), int(batch["image"].shape[-1]))
    batch["image"] = batch["image"].to(torch.float32) / 255
    if "second_view" in batch:
        batch["second_view"] = batch["second_view"].to(torch.float32) / 255
    batch["saliency"] = render_saliency_batch(
        batch["fixations"], batch["fixation_mask"], saliency_size, canvas=canvas, visible=batch.get("visible")
    )
    batch["has_gaze"] = batch["has_gaze"] & (batch["saliency"].sum(dim=(1, 2, 3)) > 0)
    if (mean_map := batch.pop("mean_map", None)) is not None:
        batch["mean_saliency"] = place_on_films(mean_map, batch["film_box"], canvas, saliency_size)
    if (others := batch.pop("others", None)) is not None:
        batch["other_saliency"] = mean_of_others(*others, saliency_size, canvas)
    if image_size is not None and image_size != canvas:
        make_smaller(batch, image_size)
    return batch


def start_worker(worker: int) -> None:
    """Use one thread per loading process: with numpy's default, two workers were five times slower (anchors D.4).

    The garbage collector leaves alone what came from the training process: it writes into every object that it visits,
    and each page written to is copied.
    """
    gc.freeze()
    threadpool_limits(limits=1)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
