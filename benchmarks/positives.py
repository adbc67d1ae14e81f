"""Positive pairs of a batch and a queue: one lookup in sparse relations against the literal double loop.

Run ``python -m benchmarks.positives [--json PATH]``. 64 anchors against a queue of 1,280 keys, 1,083 readings with
random symmetric similarities of which 1 or 10 % are above the threshold, one thread. The loop is re-implemented from
the description of the published one: for every anchor and every slot, an entry of the dense similarities is compared
with the threshold. Both give the same film and the related films; no difference is allowed. Exit code 1 if there is
one, or if the lookup is less than 100 times faster. About half a minute.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.ending import finish
from benchmarks.saliency import speedup, time_in_turns
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.models import Pairs, Positives

TARGET = 100.0
"""Speed-up over the double loop that every case must reach."""

READINGS, BATCH, QUEUE = 1083, 64, 1280
RATES = (0.01, 0.1)
"""Share of pairs above the threshold; 1 % is the default of the chest films' measure."""


def similarities(seed: int = 0) -> Tensor:
    """Symmetric float32 ``[N, N]`` in [0, 1], 1 on the diagonal."""
    upper = np.triu(np.random.default_rng(seed).random((READINGS, READINGS), dtype=np.float32), 1)
    return torch.from_numpy(upper + upper.T + np.eye(READINGS, dtype=np.float32))


def identities(positives: Positives, ids: tuple[str, ...], number: int, seed: int) -> Tensor:
    """Readings drawn at random, a tenth of which have no gaze; the film is the reading."""
    rows = np.random.default_rng(seed).integers(0, READINGS * 10 // 9, number)
    return positives.identities([ids[r] if r < READINGS else "other" for r in rows], torch.from_numpy(rows), None)


def literal(anchors: Tensor, others: Tensor, similarity: Tensor, threshold: float) -> Pairs:
    """Pair by pair."""
    same = torch.zeros(len(anchors), len(others), dtype=torch.bool)
    related = torch.zeros_like(same)
    for i in range(len(anchors)):
        for m in range(len(others)):
            row, column = anchors[i, 1].item(), others[m, 1].item()
            if anchors[i, 0].item() == others[m, 0].item():
                same[i, m] = True
            elif row >= 0 and column >= 0 and similarity[row, column].item() > threshold:
                related[i, m] = True
    return Pairs(same, related)


def measure(rate: float, runs: int) -> dict[str, Any]:
    """Both methods on one share of related pairs."""
    similarity, ids = similarities(), tuple(f"reading{i}" for i in range(READINGS))
    threshold = float(similarity[torch.triu(torch.ones_like(similarity), 1).bool()].quantile(1 - rate))
    positives = Positives("gaze")
    valid = np.ones(READINGS, dtype=np.bool_)
    positives.set_relations(RelationMatrix.of(ids, valid, similarity.numpy(), threshold))
    anchors, queue = (identities(positives, ids, number, seed) for seed, number in enumerate((BATCH, QUEUE), start=1))
    found, expected = positives.pairs(anchors, queue), literal(anchors, queue, similarity, threshold)
    times = time_in_turns(
        {
            "loop": lambda: literal(anchors, queue, similarity, threshold),
            "lookup": lambda: positives.pairs(anchors, queue),
        },
        runs,
    )
    return {
        "rate": rate,
        "related_per_anchor": float(expected.related.sum() / BATCH),
        "loop_s": statistics.median(times["loop"]),
        "lookup_s": statistics.median(times["lookup"]),
        "lookup_spread_s": [min(times["lookup"]), max(times["lookup"])],
        "speedup": speedup(times["loop"], times["lookup"]),
        "differences": int(sum((a ^ b).sum() for a, b in zip(found, expected, strict=True))),
    }


def table(cases: list[dict[str, Any]]) -> Table:
    """Lay out the results."""
    result = Table(title=f"Positives of {BATCH} anchors in a queue of {QUEUE:,}, one thread", title_justify="left")
    for column in ("related", "per anchor", "loop", "lookup", "min - max", "ratio", "differences"):
        result.add_column(column, justify="right")
    for case in cases:
        low, high = case["lookup_spread_s"]
        result.add_row(
            f"{case['rate']:.0%}",
            f"{case['related_per_anchor']:.1f}",
            f"{1e3 * case['loop_s']:,.0f} ms",
            f"{1e3 * case['lookup_s']:.3f} ms",
            f"{1e3 * low:.3f} - {1e3 * high:.3f}",
            f"{case['speedup']:,.0f} x",
            str(case["differences"]),
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run all cases, print the results, write the JSON; 0, or 1 as the module says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.positives", description="Time and check positives.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the results there")
    parser.add_argument("--runs", type=int, default=5, help="timed runs per method, at least 5 (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.runs < 5:
        parser.error("--runs must be at least 5")
    torch.set_num_threads(1)
    cases = [measure(rate, options.runs) for rate in RATES]
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(cases))
    differences, slowest = sum(case["differences"] for case in cases), min(case["speedup"] for case in cases)
    checks = {
        f"{differences} pairs differ from those of the loop": differences == 0,
        f"at least {slowest:.0f} times the double loop, target {TARGET:.0f}": slowest >= TARGET,
    }
    return finish(console, checks, {"cases": cases}, options.json)


if __name__ == "__main__":
    sys.exit(main())
