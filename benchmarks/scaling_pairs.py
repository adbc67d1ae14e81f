"""How many pairs by gaze a step has: the formula beside a simulation; a part of `benchmarks.scaling`.

The simulation draws whole epochs with the library's sampler, looks its films up in the library's relations, and passes
them through the library's queue. In random order, of ``n`` training films ``M`` in a batch of all processes, ``P``
related pairs of films among them all and ``K`` slots of the queue::

    pairs in a batch               P M (M - 1) / (n (n - 1))
    pairs of a batch and a queue   2 P M K / (n (n - 1))

whatever the pairs are. A step without any is as frequent as ``exp(-pairs)``, or more where pairs share films.
"""

import math
from typing import Any

import numpy as np
import torch

from data_modules.dataset import GazeDataset
from data_modules.samplers import TrainingSampler
from gaze_lightning.models import KeyQueue, Positives

BATCHES = (256, 1024)
"""Films of all processes in a step."""

QUEUE = 65_536
EPOCHS = {256: 3, 1024: 2}
"""In random order; of other orders, which are compared with nothing, one. One more comes before, to fill the queue."""

EVERY = 8
"""One step in so many is compared with the queue."""

FURTHEST = 4.5
"""Standard errors by which simulation and formula may differ."""


def simulate(dataset: GazeDataset, positives: Positives, pairs: int, orders: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per order of the epoch and size of the batch.

    Args:
        dataset: the training films.
        positives: with the relations of some of them.
        pairs: number of related pairs of films.
        orders: name of an order -> options of `TrainingSampler`; ``random`` is compared with the formula.
    """
    n = len(dataset)
    known = positives.identities(dataset.sample_ids[:], torch.from_numpy(dataset.films), None)
    rows = []
    for name, options in orders.items():
        sampler = TrainingSampler(dataset, 1, **options)
        for batch in BATCHES:
            queue = min(QUEUE, n // 2 // batch * batch)
            inside, queued = [], []
            slots = KeyQueue(queue, 1)
            for epoch in range(1 + (EPOCHS[batch] if name == "random" else 1)):
                sampler.set_epoch(epoch)
                order = torch.tensor([index for _, index in sampler])
                steps = pairs_of_epoch(known[order], positives, batch, slots)
                if epoch:  # in the first one its early steps have no full queue, and they are unlike the late ones
                    inside.append(steps[0])
                    queued.append(steps[1])
            row: dict[str, Any] = {"order": name, "batch": batch, "queue": queue, "films": n}
            of_all = n * (n - 1)
            row |= _summary("pairs_batch", np.concatenate(inside), pairs * batch * (batch - 1) / of_all)
            row |= _summary("pairs_queue", np.concatenate(queued), 2 * pairs * batch * queue / of_all)
            if name == "random":
                row["right"] = max(row["pairs_batch_errors"], row["pairs_queue_errors"]) < FURTHEST
            rows.append(row)
    return rows


def pairs_of_epoch(
    identities: torch.Tensor, positives: Positives, batch: int, slots: KeyQueue
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Related pairs in each batch of an epoch, and of some batches with the queue.

    Args:
        identities: int64 ``[draws, 3]``, in the order of the epoch.
        positives: knows the relations.
        batch: films of a step.
        slots: the queue as the epoch before has left it.
    """
    inside, queued = [], []
    for step, own in enumerate(identities[: len(identities) // batch * batch].split(batch)):
        looked_at = own[own[:, 1] >= 0]  # the others have no pairs
        inside.append(int(positives.pairs(looked_at, looked_at).related.sum()) // 2)
        if step % EVERY == 0:
            queued.append(int(positives.pairs(looked_at, slots.identities).related.sum()))
        slots.push(torch.ones(batch, 1), own)
    return np.array(inside), np.array(queued)


def _summary(what: str, steps: np.ndarray[Any, Any], expected: float) -> dict[str, float]:
    """Mean, share of steps with any, the formula's values, and how many standard errors lie between the means."""
    error = max(float(steps.std(ddof=1)), math.sqrt(expected)) / math.sqrt(len(steps))
    return {
        what: float(steps.mean()),
        f"{what}_any": float((steps > 0).mean()),
        f"{what}_expected": expected,
        f"{what}_any_expected": 1 - math.exp(-expected),
        f"{what}_errors": abs(float(steps.mean()) - expected) / error,
    }
