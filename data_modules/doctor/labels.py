"""Balance of the classes in the parts of the split, and whether the amount of gaze goes with them."""

import numpy as np
import numpy.typing as npt

from data_modules.doctor.finding import Finding, Level
from data_modules.doctor.gaze import GazeFacts
from data_modules.doctor.report import FactTable
from data_modules.doctor.words import count, percent
from data_modules.readings import ReadingTable
from data_modules.splits import SPLITS, Parts
from gaze_lightning.metrics.statistics import auroc_interval, weighted_auroc

Floats = npt.NDArray[np.float64]

_RESAMPLES = 500
_FEW = 30  # readings per outcome below which no AUC is stated


def one_against_rest(table: ReadingTable) -> Floats | None:
    """Labels as float ``[n, K]`` in {0, 1, NaN}; None without labels."""
    if table.labels is None:
        return None
    if table.label_type == "single":
        return np.asarray(np.equal.outer(table.labels, np.arange(len(table.class_names))), dtype=np.float64)
    return np.asarray(table.labels, dtype=np.float64)


def parts_in_use(parts: Parts) -> dict[str, npt.NDArray[np.bool_]]:
    """Name of each part that has readings -> its readings, bool ``[n]``; all readings where there is no split."""
    chosen = {str(part): parts == part for part in SPLITS if (parts == part).any()}
    return chosen or {"all": np.ones(len(parts), dtype=np.bool_)}


def positive_share(labels: Floats) -> Floats:
    """Share of positives among the known values of each class ``[K]``; NaN where none is known."""
    known = (~np.isnan(labels)).sum(axis=0)
    return np.where(known > 0, (labels == 1).sum(axis=0) / np.maximum(known, 1), np.nan)


def check_labels(table: ReadingTable, parts: Parts) -> tuple[list[Finding], list[FactTable]]:
    """Report positives, negatives and unknown values per class and part.

    Args:
        table: all readings.
        parts: part of each reading, or empty.
    """
    labels = one_against_rest(table)
    if labels is None or not len(labels):
        return [Finding("note", "labels", "no labels: only methods that need gaze alone can learn from these data")], []
    chosen = parts_in_use(parts)
    rows, lacking, unknown = [], [], []
    for k, name in enumerate(table.class_names):
        cells = [name]
        lacks: dict[str, list[str]] = {"positives": [], "negatives": []}
        for part, here in chosen.items():
            positive, negative = int((labels[here, k] == 1).sum()), int((labels[here, k] == 0).sum())
            cells.append(f"{positive:,} of {positive + negative:,}")
            lacks["positives"] += [part] * (not positive)
            lacks["negatives"] += [part] * (not negative)
        said = [f"no {what} in {', '.join(names)}" for what, names in lacks.items() if names]
        if said and not np.isnan(labels[:, k]).all():
            lacking.append(f"{name}: {'; '.join(said)}")
        share = float(np.isnan(labels[:, k]).mean())
        unknown.append(share)
        rows.append((*cells, percent(share)))
    table_of = FactTable("labels", "Positives of known, per part", ("", *chosen, "unknown"), tuple(rows))
    return _findings(table, labels, lacking, np.array(unknown), chosen), [table_of]


def _findings(
    table: ReadingTable,
    labels: Floats,
    lacking: list[str],
    unknown: Floats,
    chosen: dict[str, npt.NDArray[np.bool_]],
) -> list[Finding]:
    findings = []
    empty = tuple(np.array(table.class_names)[unknown == 1].tolist())
    if empty:
        title = f"no value is known of {len(empty)} of {len(unknown)} classes"
        level: Level = "error" if len(empty) == len(unknown) else "warning"
        remedy = "Choose other labels: nothing is learnt of these, and no metric is defined."
        findings.append(Finding(level, "labels", title, rows=empty, remedy=remedy))
    if lacking:
        title = f"{len(lacking)} of {len(unknown)} classes lack positives or negatives in a part"
        detail = "Their AUROC is undefined (NaN) there; in the training part nothing is learnt of them."
        remedy = "Choose other labels, or another split."
        findings.append(Finding("warning", "labels", title, detail, tuple(lacking), remedy))
    train = chosen.get("train")
    if train is not None and not any(
        (labels[train, k] == 1).any() and (labels[train, k] == 0).any() for k in range(labels.shape[1])
    ):
        remedy = "Choose another split or other labels."
        title = "no class has positives and negatives in the training part: nothing can be learnt"
        findings.append(Finding("error", "labels", title, remedy=remedy))
    some = (unknown > 0) & (unknown < 1)
    if some.any():
        title = f"{int(some.sum())} of {len(unknown)} classes are unknown in some readings"
        detail = f"Up to {percent(float(unknown[some].max()))}; they are masked in losses and metrics."
        findings.append(Finding("note", "labels", title, detail))
    if not any(finding.level in ("error", "warning") for finding in findings):
        findings.append(
            Finding("ok", "labels", f"{count(len(unknown), 'class')}, positives and negatives in every part")
        )
    return findings


def gaze_predicts(table: ReadingTable, facts: GazeFacts) -> tuple[list[Finding], list[FactTable]]:
    """Report how well the number of points of a reading tells each class from the rest: for orientation, no fault.

    Readers look longer where there is something; a class that the mere amount of gaze gives away (CXR-P: 0.68,
    spec/datasets.md section 4) must be remembered when gaze helps a model.
    """
    labels = one_against_rest(table)
    if labels is None or not len(facts.rows) or np.ptp(facts.counts) == 0:
        return [], []
    patients = table.frame["subject"].to_numpy(dtype=str)[facts.rows]
    score = facts.counts.astype(np.float64)
    rows = []
    binary = len(table.class_names) == 2 and table.label_type == "single"
    for k, name in enumerate(table.class_names):
        if binary and k == 0:
            continue  # the mirror image of the other
        target = labels[facts.rows, k]
        if min((target == 1).sum(), (target == 0).sum()) < _FEW:
            continue
        value = float(weighted_auroc(score, target, np.ones((1, len(score))))[0])
        low, high = auroc_interval(score, target, patients.tolist(), n_boot=_RESAMPLES)
        rows.append((name, f"{value:.2f}", f"{low:.2f} to {high:.2f}"))
    if not rows:
        return [], []
    best = max(rows, key=lambda row: abs(float(row[1]) - 0.5))
    title = f"the number of points alone tells {best[0]} from the rest with an AUC of {best[1]} ({best[2]})"
    header = ("", "AUC", "95 % interval")
    return [Finding("note", "gaze", title)], [FactTable("gaze", "Number of points against class", header, tuple(rows))]
