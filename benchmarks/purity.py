"""What every measure of gaze similarity makes of real gaze: extra positives per film and how many share a class.

Run ``GAZE_OPEN_DATA=... python -m benchmarks.purity [--seed 0]``. The 800 readings of CXR-P, labels pneumothorax or
not, on a square frame (the films themselves are not there; their shapes are taken as square).

- ``same class``: share of the pairs whose labels are equal. It rises also where a measure pairs films of the commoner
  class with each other and leaves the others alone, hence
- ``partners of pneumothorax``: of the partners of films with pneumothorax, how many have it as well.

Beside both stands what pairs give that know nothing of the labels: the labels shuffled 200 times, an interval of 95 %.
Half a minute.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # before numpy starts its threads
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.multimatch import FRAME, SECONDS, SIDE, reading
from gaze_lightning.gaze.similarity import DHash, GazeSimilarity, MapCC, Moments, MultiMatch, RelationMatrix
from gaze_lightning.protocols import TrainingGaze
from gaze_lightning.relations import open_artefact

MEASURES: tuple[tuple[str, GazeSimilarity, float], ...] = (
    ("MultiMatch", MultiMatch(), 0.7),
    ("MultiMatch, even weights", MultiMatch(weights=(0.2, 0.2, 0.2, 0.2, 0.2)), 0.9),
    ("Moments", Moments(), 0.95),
    ("DHash", DHash(), 0.7),
    ("MapCC", MapCC(), 0.7),
    ("MapCC, mean map removed", MapCC(subtract_mean=True), 0.7),
)
"""Name, measure, and the threshold of the specification (of ours, where it has none)."""

RATES = (0.003, 0.01, 0.03, 0.1)
SHUFFLES = 200


def cxr_p(folder: Path) -> TrainingGaze:
    """Readings of CXR-P with their labels."""
    points = pd.read_csv(folder / "fixations.csv").sort_values(["image_id", "order"], kind="stable")
    labels = pd.read_csv(folder / "readings.csv").set_index("image_id")["pneumothorax"]
    groups = {str(name): own[["x", "y", "n_samples"]].to_numpy() for name, own in points.groupby("image_id")}
    gaze = [reading(SIDE * own[:, 0], SIDE * own[:, 1], SECONDS * own[:, 2]) for own in groups.values()]
    known = labels.loc[list(groups)].to_numpy(dtype=np.int64)
    return TrainingGaze(tuple(groups), tuple(gaze), FRAME, np.arange(len(groups)), known)


def purity(relations: RelationMatrix, labels: npt.NDArray[np.int64]) -> float:
    """Share of the related pairs whose labels are equal."""
    rows = np.repeat(np.arange(len(relations)), relations.degrees)
    return float((labels[rows] == labels[relations.indices]).mean())


def partners(relations: RelationMatrix, labels: npt.NDArray[np.int64]) -> float:
    """Of the partners of films with pneumothorax, the share that has it as well; NaN where they have none."""
    rows = np.repeat(np.arange(len(relations)), relations.degrees)
    theirs = labels[relations.indices[labels[rows] == 1]]
    return float(theirs.mean()) if len(theirs) else float("nan")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not os.environ.get("GAZE_OPEN_DATA"):
        print("GAZE_OPEN_DATA does not say where the open data are: nothing to measure", file=sys.stderr)
        return
    gaze = cxr_p(Path(os.environ["GAZE_OPEN_DATA"]) / "cxr_p_gaze")
    assert gaze.labels is not None
    labels = np.asarray(gaze.labels, dtype=np.int64)[np.argsort(gaze.sample_ids)]  # matrices are sorted by id
    generator = np.random.default_rng(options.seed)
    table = Table(box=box.MARKDOWN)
    for name in (
        "measure",
        "threshold",
        "similarity above",
        "pairs",
        "extra positives",
        "none",
        "same class",
        "by chance",
        "partners of pneumothorax",
        "chance",
    ):
        table.add_column(name, justify="left" if name == "measure" else "right", no_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, measure, tau in MEASURES:
            for asked in ({"tau": tau, "positive_rate": None}, *({"tau": None, "positive_rate": r} for r in RATES)):
                found = open_artefact(gaze, measure, **asked, folder=Path(folder), progress=False)
                own = found.statistics.chosen
                cells = [name, own.asked, f"{own.threshold:.3f}", f"{own.share or 0:.2%}", f"{own.mean:.1f}"]
                if not own.pairs:
                    table.add_row(*cells, f"{own.alone:.0%}", "-", "-", "-", "-")
                    continue
                same = purity(found.relations, labels)
                assert own.same_class is not None
                assert abs(same - own.same_class) < 1e-12  # counted in another way
                shuffles = [generator.permutation(labels) for _ in range(SHUFFLES)]
                for count in (purity, partners):
                    low, high = np.nanquantile([count(found.relations, one) for one in shuffles], (0.025, 0.975))
                    cells += [f"{count(found.relations, labels):.1%}", f"{low:.1%} to {high:.1%}"]
                table.add_row(*cells[:5], f"{own.alone:.0%}", *cells[5:])
    positive = int(labels.sum())
    console = Console(width=220)
    console.print(f"CXR-P: {len(labels)} readings, {positive} with pneumothorax")
    console.print(f"Of all pairs {base_rate(labels):.1%} share a class")
    console.print(table)


def base_rate(labels: npt.NDArray[np.int64]) -> float:
    """Share of all pairs whose labels are equal."""
    counts = np.bincount(labels)
    n = len(labels)
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
