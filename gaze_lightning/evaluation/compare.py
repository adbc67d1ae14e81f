"""Several runs side by side: arms in columns, metrics in rows, mean and spread over the runs of an arm."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from rich import box
from rich.table import Table

from gaze_lightning.evaluation.measured import Measured
from gaze_lightning.evaluation.names import arrow, readable_name
from gaze_lightning.evaluation.results import Results

_REFERENCES = {"mean_map": "mean map", "centre": "centre", "readers": "other readers"}


def compare_runs(arms: Mapping[str, Sequence[Results]]) -> Table:
    """Make the table that compares arms of an experiment.

    A cell holds the mean over the arm's runs and, for two or more, ``±`` their sample standard deviation: the spread of
    repeated trainings, not an interval over patients. Undefined values of a run are left out and the number of runs
    that count is added. The best mean is not marked: with a few runs per arm the order of close means says nothing.
    Arrows say which way a metric is better. Chance and, of agreement with gaze, the references (mean map, centre, other
    readers) are means over all runs and stand in columns of their own where a run has them. Below stands what an arm's
    classification is by, where it is not by the model itself.

    Args:
        arms: name of the arm -> results of its runs, all on the same test samples.

    Returns:
        A table for rich's console.

    Raises:
        ValueError: an arm without runs, or arms that were tested on sets of another size or other classes.
    """
    everything = [results for runs in arms.values() for results in runs]
    empty = [name for name, runs in arms.items() if not runs]
    if empty or not everything:
        raise ValueError(f"no finished run in: {', '.join(empty) or 'nothing given'}")
    sets = {(results.n, results.n_subjects, results.class_names, results.data) for results in everything}
    if len(sets) > 1:
        raise ValueError(f"the runs were tested on different sets, which cannot be compared: {sorted(map(str, sets))}")
    table = Table(box=box.MARKDOWN, caption=_classifiers(arms) or None, caption_justify="left")
    table.add_column("metric", no_wrap=True)
    for name, runs in arms.items():
        table.add_column(f"{name} ({len(runs)} run{'s' if len(runs) > 1 else ''})", justify="right")
    table.add_column("chance", justify="right")
    every = [measured for results in everything for measured in results.metrics.values()]
    references = {key: head for key, head in _REFERENCES.items() if any(key in one.references for one in every)}
    for head in references.values():
        table.add_column(head, justify="right")
    metrics = dict.fromkeys(name for results in everything for name in results.metrics)
    for metric in metrics:
        cells = [
            _cell([results.metrics[metric].value for results in runs if metric in results.metrics], len(runs))
            for runs in arms.values()
        ]
        measured = [results.metrics[metric] for results in everything if metric in results.metrics]
        beside = [[one.chance for one in measured], *(_values(measured, key) for key in references)]
        table.add_row(f"{readable_name(metric)} {arrow(metric)}", *cells, *(_mean(values) for values in beside))
    return table


def _classifiers(arms: Mapping[str, Sequence[Results]]) -> str:
    said = {name: dict.fromkeys(results.classifier for results in runs) for name, runs in arms.items()}
    lines = [
        f"{name}: classified by {' or '.join(one or 'the model itself' for one in classifiers)}."
        for name, classifiers in said.items()
        if any(classifiers)
    ]
    return "\n".join(lines)


def _values(measured: Sequence[Measured], reference: str) -> list[float]:
    return [one.references[reference].value for one in measured if reference in one.references]


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{fmean(known):.3f}" if known else ""


def _cell(values: Sequence[float], runs: int) -> str:
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "-"
    text = f"{fmean(defined):.3f}"
    if len(defined) > 1:
        text += f" ± {stdev(defined):.3f}"
    return text if len(defined) == runs else f"{text} (of {len(defined)})"
