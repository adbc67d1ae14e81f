"""Batch-all triplet loss: sorted distances against the literal triple loop, forward and backward.

Run ``python -m benchmarks.triplet [--json PATH]``. Float32 on one thread, batches balanced over three classes. The loop
is re-implemented from the description of the published one: a call of ``torch.nn.functional.triplet_margin_loss`` for
every anchor, every other sample of its class and every sample of another class, and the sum of the results. Its epsilon
is set to zero: by default, rows without any activation, which coincide, get a gradient along the diagonal.

- ``pooled``: 32 samples of 1,920 features, both methods in turns;
- ``per row``: 32 feature maps of 1920 x 10 x 8, distances over the last axis only. The graph of the whole loop would
  fill the memory, so the loop is timed on the triplets of one anchor, and that time counts as often as needed for all.
  Its time and the ratio are therefore scaled, not measured, and printed with "about";
- ``large``: 256 samples of 1,920 features, with the largest tensor that any operation makes and the growth of memory,
  in a process of its own. A tensor of one cell per triple would have 256^3 = 16.8 million.

Loss and gradient of the first two are compared with those of the loop before a number is printed. Exit code 1 if they
differ, if the first is less than 100 times faster, or if a tensor of 256^3 cells turns up. About one minute.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.cache import memory
from benchmarks.ending import finish
from benchmarks.saliency import speedup, time_in_turns
from gaze_lightning.losses import LabelPairs, TripletLoss, label_pairs

TARGET = 100.0
"""Speed-up over the loop that the pooled case must reach."""

TOLERANCE = 1e-4
"""Relative, of loss and gradient; both methods add in float32, in different orders."""

BATCH, LARGE, CLASSES = 32, 256, 3
POOLED, MAPS = (1920,), (1920, 10, 8)


def embeddings(samples: int, shape: tuple[int, ...]) -> Tensor:
    """Features after a ReLU, at most about one apart in distance, so that some triplets are active and some are not."""
    generator = torch.Generator().manual_seed(0)
    size = 1 + 0.05 * torch.randn(samples, *(1 for _ in shape), generator=generator)
    return (torch.randn(samples, *shape, generator=generator).relu() * size).requires_grad_()


def balanced_pairs(samples: int) -> LabelPairs:
    """Pairs of samples of three classes in turns."""
    return label_pairs(torch.arange(samples) % CLASSES, "single")


def triplets(pairs: LabelPairs) -> list[tuple[int, int, int]]:
    """Every anchor, positive and negative."""
    same, different = pairs.same.tolist(), pairs.different.tolist()
    return [(i, j, k) for i, j, k in itertools.product(range(len(same)), repeat=3) if same[i][j] and different[i][k]]


def literal(embedding: Tensor, chosen: list[tuple[int, int, int]]) -> Tensor:
    """Sum over triplets of the mean over channels and rows, one call each."""
    total = embedding.new_zeros(())
    for i, j, k in chosen:
        total = total + F.triplet_margin_loss(embedding[i], embedding[j], embedding[k], margin=1.0, eps=0.0)
    return total


def with_gradient(embedding: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Loss and gradient."""
    value = loss(embedding)
    (gradient,) = torch.autograd.grad(value, embedding)
    return value.detach(), gradient


def error(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Larger one of the relative errors of loss and gradient."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


def pooled(runs: int) -> dict[str, Any]:
    """Both methods on pooled features."""
    embedding, pairs = embeddings(BATCH, POOLED), balanced_pairs(BATCH)
    chosen, loss = triplets(pairs), TripletLoss(reduction="sum")
    methods: dict[str, Callable[[], Any]] = {
        "loop": lambda: with_gradient(embedding, lambda f: literal(f, chosen)),
        "sorted": lambda: with_gradient(embedding, lambda f: loss(f, pairs)),
    }
    wrong = error(methods["sorted"](), methods["loop"]())
    active = (loss(embedding, pairs) / TripletLoss()(embedding, pairs)).detach()
    times = time_in_turns(methods, runs)
    return {
        "name": "pooled",
        "shape": [BATCH, *POOLED],
        "triplets": len(chosen),
        "scaled_from": None,
        "active": float(active) / len(chosen),
        "loop_s": statistics.median(times["loop"]),
        "sorted_s": statistics.median(times["sorted"]),
        "sorted_spread_s": [min(times["sorted"]), max(times["sorted"])],
        "speedup": speedup(times["loop"], times["sorted"]),
        "error": wrong,
    }


def per_row(runs: int) -> dict[str, Any]:
    """Feature maps; the loop on the triplets of the first anchor."""
    embedding, pairs = embeddings(BATCH, MAPS), balanced_pairs(BATCH)
    first = torch.arange(BATCH)[:, None] == 0
    of_first = LabelPairs(pairs.same & first, pairs.different & first)
    chosen, loss = triplets(of_first), TripletLoss(reduction="sum")
    wrong, share = 0.0, len(triplets(pairs)) / len(chosen)
    times: dict[str, list[float]] = {"loop": [], "sorted": []}
    for _ in range(max(2, runs // 2)):
        start = time.perf_counter()
        expected = with_gradient(embedding, lambda f: literal(f, chosen))
        times["loop"].append((time.perf_counter() - start) * share)
        start = time.perf_counter()
        with_gradient(embedding, lambda f: loss(f, pairs))
        times["sorted"].append(time.perf_counter() - start)
        wrong = max(wrong, error(with_gradient(embedding, lambda f: loss(f, of_first)), expected))
    active = (loss(embedding, pairs) / TripletLoss()(embedding, pairs)).detach() * MAPS[0] * MAPS[1]
    return {
        "name": "per row",
        "shape": [BATCH, *MAPS],
        "triplets": len(triplets(pairs)),
        "scaled_from": len(chosen),
        "active": float(active) / (len(triplets(pairs)) * MAPS[0] * MAPS[1]),
        "loop_s": statistics.median(times["loop"]),
        "sorted_s": statistics.median(times["sorted"]),
        "sorted_spread_s": [min(times["sorted"]), max(times["sorted"])],
        "speedup": speedup(times["loop"], times["sorted"]),
        "error": wrong,
    }


class LargestTensor(TorchDispatchMode):
    """Remembers the number of cells of the largest tensor that an operation made."""

    cells = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at its results."""
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.cells = max([self.cells, *sizes])
        return result


def large(runs: int) -> dict[str, Any]:
    """256 samples: growth of memory and time in this process, then the largest tensor."""
    embedding, pairs, loss = embeddings(LARGE, POOLED), balanced_pairs(LARGE), TripletLoss()
    small, small_pairs = embeddings(8, POOLED), balanced_pairs(8)
    with_gradient(small, lambda f: loss(f, small_pairs))  # libraries are loaded and threads exist
    before, seconds = memory("VmRSS"), []
    for _ in range(runs):
        start = time.perf_counter()
        with_gradient(embedding, lambda f: loss(f, pairs))
        seconds.append(time.perf_counter() - start)
    growth = memory("VmHWM") - before
    with LargestTensor() as largest:
        with_gradient(embedding, lambda f: loss(f, pairs))
    return {
        "shape": [LARGE, *POOLED],
        "seconds": statistics.median(seconds),
        "spread_s": [min(seconds), max(seconds)],
        "growth_bytes": growth,
        "largest_cells": largest.cells,
    }


def child(runs: int) -> dict[str, Any]:
    """Run the large case in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.triplet", "--part", "large", "--runs", str(runs)]
    result: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return result


def table(cases: list[dict[str, Any]]) -> Table:
    """Lay out the results."""
    result = Table(title="Triplet loss, forward and backward, float32, one thread", title_justify="left")
    result.caption, result.caption_justify = "about: scaled from the loop over one anchor's triplets", "left"
    for column in ("case", "embedding", "triplets", "active", "loop", "sorted", "min - max", "ratio", "error"):
        result.add_column(column, justify="left" if column == "case" else "right")
    for case in cases:
        low, high = case["sorted_spread_s"]
        about = "about " if case["scaled_from"] else ""
        result.add_row(
            case["name"],
            " x ".join(map(str, case["shape"])),
            f"{case['triplets']:,}",
            f"{case['active']:.0%}",
            f"{about}{case['loop_s']:,.0f} s" if about else f"{case['loop_s']:,.2f} s",
            f"{1e3 * case['sorted_s']:,.2f} ms",
            f"{1e3 * low:,.2f} - {1e3 * high:,.2f}",
            f"{about}{case['speedup']:,.0f} x",
            f"{case['error']:.0e}",
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run all cases, print the results, write the JSON; 0, or 1 as the module says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triplet", description="Time and check triplet losses.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=5, help="timed runs per method, at least 5 (default: %(default)s)")
    parser.add_argument("--part", choices=["large"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.runs < 5:
        parser.error("--runs must be at least 5")
    torch.set_num_threads(1)
    if options.part:
        print(json.dumps(large(options.runs)))
        return 0
    big = child(options.runs)
    cases = [pooled(options.runs), per_row(options.runs)]
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(cases))
    low, high = big["spread_s"]
    console.print(
        f"{LARGE} samples: {1e3 * big['seconds']:.1f} ms ({1e3 * low:.1f} - {1e3 * high:.1f}); memory grows by "
        f"{big['growth_bytes'] / 1e6:.1f} MB; the largest tensor has {big['largest_cells']:,} cells, "
        f"the features have {LARGE * POOLED[0]:,}"
    )
    worst, faster = max(case["error"] for case in cases), cases[0]["speedup"]
    cells = f"no tensor of {LARGE}^3 = {LARGE**3:,} cells"
    checks = {
        f"largest error of loss and gradient {worst:.1e}, limit {TOLERANCE:.0e}": worst < TOLERANCE,
        f"{faster:.0f} times the triple loop on pooled features, target {TARGET:.0f}": faster >= TARGET,
        cells: big["largest_cells"] < LARGE**3,
    }
    return finish(console, checks, {"cases": cases, "large": big}, options.json)


if __name__ == "__main__":
    sys.exit(main())
