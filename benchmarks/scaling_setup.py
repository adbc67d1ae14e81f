"""What starting and ordering an epoch cost with all 377,110 films of MIMIC-CXR; a part of `benchmarks.scaling`.

The table of readings is made up and the cache a file with holes; everything that works on them is the library's. Run in
a process of its own, so that memory counts from the moment when the table is there.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.cache import memory
from benchmarks.scaling_pairs import QUEUE, simulate
from data_modules.augment import PRESETS
from data_modules.base import GazeDataModule
from data_modules.films.cache_files import CacheFiles
from data_modules.films.cache_index import publish_index
from data_modules.readings import ReadingTable
from data_modules.samplers import EvaluationSampler, TrainingSampler
from data_modules.sampling import sampling_weights
from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity import MapCC, RelationMatrix
from gaze_lightning.models import Positives
from gaze_lightning.relations import similarity_scores
from gaze_lightning.relations.thresholds import Threshold

FILM, SIDE, WORLD = (3056, 2544), 224, 8
VALIDATE, TEST = 2_991, 5_159
"""Films of these parts in the official split of MIMIC-CXR-JPG."""

RATE = 0.01
"""Share of the pairs of readings that are related, the default of the chest films' measure."""


class MadeUp(GazeDataModule):
    """A data module over a table that is there."""

    def __init__(self, made: ReadingTable, folder: Path) -> None:
        super().__init__(
            class_names=list(made.class_names),
            label_type="multi",
            open_data=True,
            intensity="stored",
            image_size=(SIDE, SIDE),
            saliency_size=(56, 56),
            batch_size=128,
            eval_batch_size=128,
            num_workers=0,
            split="official",
            split_seed=0,
            split_file=None,
            folds=5,
            fold=0,
            held_out=None,
            cache_dir=str(folder),
            gaze_source="own",
            gaze_weight="duration",
            augmentation=PRESETS["contrastive"],  # type: ignore[arg-type]
            sampling="shuffled",
            seed=0,
            missing="error",
        )
        self._made = made

    def read_table(self) -> ReadingTable:
        """Return the table."""
        return self._made


def made_up(n: int, readings: int) -> ReadingTable:
    """One reading per film, ids and paths as long as real ones; so many training films have gaze (45 fixations)."""
    generator = np.random.default_rng(0)
    ids = [f"{i:08x}-00000000-11111111-22222222-{i % 2**32:08x}" for i in range(n)]
    patients = [f"1{i // 6:07d}" for i in range(n)]
    last = [f"p1{i // 60000}/p1{i // 6:07d}/s5{i // 2:07d}/{ids[i]}.jpg" for i in range(n)]
    few = max(1, min(VALIDATE, n // 10)), max(1, min(TEST, n // 10))
    split = np.repeat(["train", "validate", "test"], [n - sum(few), *few])
    # whole patients in each part
    split = split[np.arange(n) // 6 * 6]
    frame = pd.DataFrame(
        {
            "sample_id": ids,
            "image_id": ids,
            "subject": patients,
            "image_path": [f"/made-up/files/{path}" for path in last],
            "height": FILM[0],
            "width": FILM[1],
            "split": split,
            "source_row": [f"table row {i}" for i in range(n)],
        }
    )
    labels = generator.choice(np.array([0, 1, np.nan], dtype=np.float32), (n, 14))
    with_gaze = generator.choice(np.flatnonzero(split == "train"), readings, replace=False)
    fixations = {ids[i]: gaze_of_one(generator) for i in with_gaze.tolist()}
    return ReadingTable(frame, labels, tuple(f"finding {k}" for k in range(14)), "multi", fixations)


def gaze_of_one(generator: np.random.Generator, fixations: int = 45) -> Fixations:
    """Fixations around three places of a film, of a size that real ones have."""
    centre = generator.uniform(0.15, 0.85, (2, 3))[:, generator.integers(0, 3, fixations)]
    place = (centre + generator.normal(0, 0.06, (2, fixations))) * np.array(FILM[::-1])[:, None]
    sigma = generator.uniform(60, 90, (2, fixations))
    return Fixations(*place, generator.gamma(2.0, 0.15, fixations), *sigma, np.arange(fixations))


def empty_cache(table: ReadingTable, folder: Path) -> None:
    """A finished cache of these films whose pixels are holes in a file."""
    frame = table.frame
    sizes = frame[["height", "width"]].to_numpy()
    files = CacheFiles.of(frame["image_path"].tolist(), sizes, (SIDE, SIDE), folder)
    folder.mkdir(exist_ok=True)
    with files.pixels.open("wb") as file:
        file.write(files.header)
        file.truncate(files.total_bytes)
    n = len(frame)
    publish_index(files, sizes.astype(np.int32), np.zeros(n, dtype=bool), np.zeros((n, 16), dtype=np.uint8), {})


def measure_setup(folder: Path, n: int, readings: int) -> dict[str, Any]:
    """Start a training on ``n`` films and order its epochs: seconds, and bytes of memory."""
    table = made_up(n, readings)
    empty_cache(table, folder)
    found: dict[str, Any] = {"n": n, "readings": readings}
    found["table_bytes"] = int(table.frame.memory_usage(deep=True).sum()) + table.labels.nbytes  # type: ignore[union-attr]
    data, before = MadeUp(table, folder), memory("VmRSS")
    with timed(found, "setup_s"):
        data.setup("fit")
    with timed(found, "fingerprint_s"):
        data.fingerprint()
    with timed(found, "split_csv_s"):
        data.write_split(folder / "split.csv")
    data.show_two_views()
    with timed(found, "loader_s"):
        dataset = data.train_dataloader().dataset
    found["setup_bytes"] = memory("VmHWM") - before
    assert len(dataset) == found.setdefault("trained", int((table.frame["split"] == "train").sum()))  # type: ignore[arg-type]
    with timed(found, "test_order_s"):  # as if all films were tested
        assert sum(1 for _ in EvaluationSampler(data.readings, WORLD, 0)) == -(-n // WORLD)  # type: ignore[arg-type]
    with timed(found, "gaze_s"):
        gaze = data.training_gaze()
    assert len(gaze.sample_ids) == readings
    with timed(found, "similarity_s"):
        prepared = MapCC().prepare(gaze.gaze, gaze.frame)
        scores = similarity_scores(prepared, folder / "similarity.npy", progress=False)
    found["similarity_bytes"] = (folder / "similarity.npy").stat().st_size
    with timed(found, "threshold_s"):
        threshold = Threshold(None, RATE).of(scores, prepared.valid, gaze.films)
        matrix = RelationMatrix.of(gaze.sample_ids, prepared.valid, scores, threshold, "made up", gaze.films)
    positives = Positives("gaze")
    positives.set_relations(matrix)
    found |= {
        "pairs": len(matrix.indices) // 2,
        "matrix_bytes": matrix.indptr.nbytes + matrix.indices.nbytes + matrix.scores.nbytes,
        "positives_bytes": sum(buffer.nbytes for buffer in positives.buffers()),
        "rows_bytes": _bytes_of(lambda: {name: row for row, name in enumerate(matrix.ids)}),
    }
    found |= lookups(positives, 128, min(QUEUE, n // 4), list(gaze.sample_ids), torch.from_numpy(gaze.films))
    orders: dict[str, Any] = {"random": {}}
    for share in (0.5, 0.9):
        with timed(found, "related_order_made_s"):
            data.draw_related_together(matrix, share)
        orders[f"related_share {share:g}"] = {"related": data.train_dataloader().sampler.related}  # type: ignore[attr-defined, union-attr]
    weights = sampling_weights("gaze_balanced", None, np.isin(dataset.sample_ids[:], gaze.sample_ids))  # type: ignore[attr-defined]
    orders["gaze_balanced"] = {"weights": weights}
    found["orders"] = {}
    for name, options in orders.items():
        sampler = TrainingSampler(dataset, 0, WORLD, 0, **options)
        found["orders"][name] = order = {"seconds": _fastest(lambda sampler=sampler: sum(1 for _ in sampler))}  # type: ignore[misc]
        order["bytes"] = _bytes_of(lambda sampler=sampler: iter(sampler))  # type: ignore[misc]
    found["pairs_per_step"] = simulate(dataset, positives, len(matrix.indices) // 2, orders)
    return found


@contextmanager
def timed(found: dict[str, Any], name: str) -> Iterator[None]:
    """Put the processor's seconds of what is inside under a name, the fewest where it runs several times."""
    start = time.process_time()
    yield
    seconds = time.process_time() - start
    found[name] = min(seconds, found.get(name, seconds))


def _fastest(function: Callable[[], object], runs: int = 3) -> float:
    found: dict[str, Any] = {}
    for _ in range(runs):
        with timed(found, "seconds"):
            function()
    return float(found["seconds"])


def _bytes_of(function: Callable[[], object]) -> int:
    """Bytes that Python has allocated at the most while a function runs, as far as they are Python's and numpy's."""
    tracemalloc.start()
    kept = function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak


def lookups(positives: Positives, batch: int, queue: int, ids: list[str], films: torch.Tensor) -> dict[str, float]:
    """Seconds per step of finding identities and positives: in a queue, and among the films of all processes.

    All films have gaze, as in no real batch: nothing is faster because most have none.
    """
    chosen = [i % len(ids) for i in range(batch * WORLD)]
    everybody = positives.identities([ids[i] for i in chosen], films[chosen], None)
    own = everybody[:batch]
    slots = own[torch.arange(queue) % batch]
    return {
        "identities_s": _fastest(lambda: positives.identities([ids[i] for i in chosen[:batch]], own[:, 0], None), 7),
        "queue_s": _fastest(lambda: positives.pairs(own, slots), 7),
        "batch_s": _fastest(lambda: positives.pairs(everybody, everybody), 7),
    }
