"""What loading a film and a step of MoCo cost; a part of `benchmarks.scaling`."""

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.loader import FILM, N_FILES, data_set, films_in, write_film
from data_modules.augment import PRESETS, Augmenter
from data_modules.collate import collate
from data_modules.films.cache import open_cache
from data_modules.films.reading import read_films
from data_modules.loading import late_loader
from data_modules.samplers import TrainingSampler
from gaze_lightning.tasks import MoCo

SIDE, BATCH = 224, 128


def measure_building(folder: Path, runs: int) -> dict[str, float]:
    """Processor seconds per film of full size: read, decoded, fitted into 224 x 224."""
    films = [folder / f"full {i}.jpg" for i in range(N_FILES)]
    for seed, path in enumerate(films):
        write_film(path, seed)
    fastest = float("inf")
    for _ in range(runs):
        start = time.process_time()
        assert sum(1 for _ in read_films(films, [FILM] * N_FILES, (SIDE, SIDE), "stored", workers=1)) == N_FILES
        fastest = min(fastest, (time.process_time() - start) / N_FILES)
    return {"film_s": fastest, "film_bytes": sum(path.stat().st_size for path in films) / N_FILES}


def measure_loading(folder: Path, runs: int) -> dict[str, float]:
    """Processor seconds per film of a loading process, for one and two views, and per batch of the training process.

    A loading process hands its batches over through shared memory; that, and its start, is counted.
    """
    films = films_in(folder)
    names = [f"film {i}" for i in range(len(films))]
    cache = open_cache(films, [FILM] * len(films), (SIDE, SIDE), folder / "cache", names, progress=False)
    found: dict[str, float] = {}
    for views in (1, 2):
        dataset = data_set(cache, SIDE, 6 * BATCH)
        dataset.augmenter = Augmenter(PRESETS["contrastive"], (SIDE, SIDE), 0)  # type: ignore[arg-type]
        dataset.show(views == 2, True)
        theirs, own = [], []
        for _ in range(runs):
            loader = late_loader(dataset, TrainingSampler(dataset, 0), BATCH, True, collate, 1, False, 0)
            busy, before = time.process_time(), _of_children()
            assert sum(len(batch["image"]) for batch in loader) == len(dataset)
            own.append((time.process_time() - busy) / len(loader))
            del loader  # ends the loading process: only then its time is known
            gc.collect()
            theirs.append((_of_children() - before) / len(dataset))
        found |= {f"film_s_{views}": min(theirs), f"batch_s_{views}": min(own)}
    sample = dataset[0, 0]
    same = np.array_equal(sample["image"], dataset[0, 0]["image"])
    found["right"] = float(same and not np.array_equal(sample["image"], sample["second_view"]))
    return found


def _of_children() -> float:
    """Processor seconds of processes that were started from here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure_step(queue: int) -> dict[str, float]:
    """Operations per film, and bytes: of weights, of gradients, of a checkpoint, and of what processes send each other.

    A step of the published MoCo: ResNet50, films of 224 x 224, one channel. Counted on two films, on the CPU.
    """
    torch.manual_seed(0)
    task = MoCo(["finding"], "multi", backbone="resnet50", queue_size=queue, schedule="constant", momentum=0.999)
    batch: dict[str, Any] = {
        "image": torch.rand(2, 1, SIDE, SIDE),
        "second_view": torch.rand(2, 1, SIDE, SIDE),
        "sample_id": ["a", "b"],
        "film": torch.arange(2),
    }
    sent: list[torch.Tensor] = []

    def recorded(rows: torch.Tensor) -> torch.Tensor:
        sent.append(rows)
        return rows

    task.on_all_ranks = recorded  # type: ignore[method-assign]
    with FlopCounterMode(display=False) as operations:
        contrast = task.contrast(batch)  # type: ignore[arg-type]
        contrast.loss.backward()
    optimizer: torch.optim.Optimizer = task.configure_optimizers()  # type: ignore[assignment]
    optimizer.step()
    weights = [parameter for parameter in task.parameters() if parameter.requires_grad]
    state = sum(value.nbytes for one in optimizer.state.values() for value in one.values() if torch.is_tensor(value))
    return {
        "flops_per_film": operations.get_total_flops() / 2,
        "gradient_bytes": sum(parameter.numel() * 4 for parameter in weights),
        "images_sent_per_film": sum(rows.nbytes for rows in sent if rows.ndim == 4) / 2,
        "rest_sent_per_film": sum(rows.nbytes for rows in sent if rows.ndim == 2) / 2,
        "checkpoint_bytes": sum(value.nbytes for value in task.state_dict().values()) + state,
        "queue_bytes": sum(buffer.nbytes for buffer in task.queue.buffers()),
    }
