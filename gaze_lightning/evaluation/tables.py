"""The table of results, for people."""

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaze_lightning.evaluation.results import Measured, Results

_NAMES = {
    "auroc_macro": "AUROC, mean of classes",
    "auroc_ovo": "AUROC, mean of pairs",
    "nll": "negative log-likelihood",
    "gaze_cc": "CC",
    "gaze_kl": "KL divergence",
    "gaze_sim": "SIM",
    "gaze_nss": "NSS",
    "gaze_auc_judd": "AUC-Judd",
    "pointing_lesion": "pointing game, lesion",
    "pointing_anatomy": "pointing game, heart/lungs",
    "pointing_anatomy_cells": "same, 3x3 cells (published)",
    "energy_lesion": "energy inside lesion",
    "iou_lesion": "IoU with lesion",
}
_SECTIONS = {
    "Classification": ("auroc", "accuracy", "nll"),
    "Gaze: true class's CAM, own gaze": ("gaze_",),
    "Localisation: true class's CAM": ("pointing", "energy", "iou"),
    "Other": ("",),
}
_LOWER_IS_BETTER = {"nll", "gaze_kl"}


def print_results(results: Results, console: Console | None = None) -> None:
    """Print classification, gaze agreement and localisation as one table, at most 80 columns where names allow.

    Undefined values are printed as ``-`` with the reason in a note below.

    Args:
        results: what to print.
        console: where; standard output by default.
    """
    console = console or Console()
    sections: dict[str, list[str]] = {title: [] for title in _SECTIONS}
    for name in results.metrics:
        sections[_section(name)].append(name)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("metric", min_width=32)
    table.add_column("value", justify="right")
    table.add_column(f"{100 * results.level:g} % interval", justify="center")
    table.add_column("chance", justify="right")
    table.add_column("n", justify="right")
    filled = {title: names for title, names in sections.items() if any(results.metrics[name].n for name in names)}
    for position, (title, names) in enumerate(filled.items(), start=1):
        table.add_row(Text(title, style="bold cyan"))
        for place, name in enumerate(names, start=1):
            last = place == len(names) and position < len(filled)
            table.add_row(*_row(name, results.metrics[name]), end_section=last)
    console.print()
    console.print(Text.assemble(("Test results", "bold"), f"   {results.n} films of {results.n_subjects} patients"))
    if results.data:
        console.print(Text(results.data, style="yellow"))
    console.print()
    console.print(table)
    console.print()
    silent = [title for title, names in sections.items() if names and title not in filled]
    for note in _notes(results, silent):
        console.print(Text(note, style="dim"))


def _row(name: str, measured: Measured) -> tuple[Text, str, str, str, str]:
    better = "↓" if name in _LOWER_IS_BETTER else "↑"
    label = Text(f"  {readable_name(name)}", style="bold" if name == "auroc_macro" else "")
    value = "-" if math.isnan(measured.value) else f"{measured.value:.3f}"
    interval = "-" if math.isnan(measured.low) else f"{measured.low:.3f} to {measured.high:.3f}"
    chance = "" if math.isnan(measured.chance) else f"{measured.chance:.3f}"
    n = f"{measured.n}" if measured.n_positive is None else f"{measured.n_positive}/{measured.n}"
    return label, f"{value} {better}", interval, chance, n


def readable_name(name: str) -> str:
    """Write a metric's name for people.

    Args:
        name: as in ``results.json``.

    Returns:
        For example ``AUROC Normal vs CHF``; unknown names come back with spaces for underscores.
    """
    match name.split("/", 1):
        case ["auroc", cls]:
            return f"AUROC {cls}"
        case ["auroc_pair", pair]:
            return f"AUROC {pair.replace('_vs_', ' vs ')}"
    return _NAMES.get(name) or name.replace("_", " ")


def _section(name: str) -> str:
    return next(title for title, starts in _SECTIONS.items() if name.startswith(starts))


def _notes(results: Results, silent: list[str]) -> list[str]:
    notes = [
        f"Intervals: {results.n_boot} resamples of patients. n: films that count; k/n: k positive.",
    ]
    undefined: dict[str, list[str]] = {}
    for name, measured in results.metrics.items():
        if measured.reason and _section(name) not in silent:
            undefined.setdefault(measured.reason, []).append(readable_name(name))
    notes += [f"{', '.join(names)}: {reason}." for reason, names in undefined.items()]
    return [*notes, *(f"{title}: not shown, no sample has these values." for title in silent)]
