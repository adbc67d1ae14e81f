"""Agreement with gaze beside what needs no model and beside other readers."""

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from gaze_lightning.evaluation.measured import Measured
from gaze_lightning.evaluation.names import arrow, readable_name
from gaze_lightning.evaluation.results import DIFFERENCE, Results

_HEADS = {"mean_map": "mean\nmap", "centre": "centre", "readers": "other\nreaders"}
_MEANINGS = {
    "mean_map": "mean map: the mean of the training readings' maps",
    "centre": "centre: a Gaussian in the middle of the film",
    "readers": "other readers: the other readings of the same film, no ceiling where they are few, least of all for KL",
}


def reference_table(results: Results, title: str, names: Sequence[str], wide: bool) -> Table:
    """Make the table of a section whose values have references.

    Args:
        results: what to print.
        title: of the section.
        names: its metrics, paired differences among them.
        wide: the paired difference to the mean map stands beside each value (about 95 columns), else below it (about
            75).

    Returns:
        A table for rich's console: value, interval, the references that exist, difference, n. Below it, where a
        reference exists for fewer readings than the value, what the value is on those.
    """
    rows = [name for name in names if not name.endswith(DIFFERENCE)]
    columns = [key for key in _HEADS if any(key in results.metrics[name].references for name in rows)]
    differences = {name: results.metrics[name + DIFFERENCE] for name in rows if name + DIFFERENCE in results.metrics}
    fewer = _fewer(results, rows, columns)
    table = Table(
        title=Text(title, style="bold cyan"),
        title_justify="left",
        caption=Text("\n".join(fewer), style="dim") if fewer else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
        padding=(0, 0, 0, 1),
    )
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(f"{100 * results.level:g} % interval", justify="center", no_wrap=True)
    for key in columns:
        table.add_column(_HEADS[key], justify="right", no_wrap=True)
    if wide and differences:
        table.add_column("minus mean map\n(better: ↑ > 0, ↓ < 0)", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for name in rows:
        measured, difference = results.metrics[name], differences.get(name)
        beside = [_number(measured.references[key].value) if key in measured.references else "" for key in columns]
        cells = [readable_name(name, section=True), *_value(name, measured), *beside]
        if wide and differences:
            cells.append("" if difference is None else " ".join(_value(name, difference, "+")))
        table.add_row(*cells, f"{measured.n}")
        if not wide and difference is not None:
            empty = [""] * len(columns)
            table.add_row("  minus mean map", *_value(name, difference, "+"), *empty, f"{difference.n}", style="dim")
    return table


def reference_notes(results: Results, names: Sequence[str]) -> list[str]:
    """Say what the references and the differences are.

    Args:
        results: what was printed.
        names: the metrics of the sections with references.

    Returns:
        Lines of text.
    """
    rows = [name for name in names if not name.endswith(DIFFERENCE)]
    present = [key for key in _MEANINGS if any(key in results.metrics[name].references for name in rows)]
    notes = [f"{'; '.join(_MEANINGS[key] for key in present)}."]
    if len(rows) < len(names):
        notes.append(
            "minus mean map: the value minus that of the mean map, reading by reading, with its interval over patients;"
            " the model beats the mean map above zero where ↑ stands, below zero where ↓ stands."
        )
    return notes


def _fewer(results: Results, rows: Sequence[str], columns: Sequence[str]) -> list[str]:
    lines = []
    for key in columns:
        beside = {name: results.metrics[name].references.get(key) for name in rows}
        fewer = {name: other for name, other in beside.items() if other and other.n < results.metrics[name].n}
        if fewer:
            head = _HEADS[key].replace("\n", " ")
            counts = sorted({f"{other.n} of {results.metrics[name].n}" for name, other in fewer.items()})
            own = ", ".join(
                f"{readable_name(name, section=True)} {_number(other.own)}" for name, other in fewer.items()
            )
            lines.append(f"{head}: {' or '.join(counts)} readings; the model on these: {own}")
    return lines


def _value(name: str, measured: Measured, sign: str = "") -> tuple[str, str]:
    interval = "-" if math.isnan(measured.low) else f"{measured.low:{sign}.3f} to {measured.high:{sign}.3f}"
    return f"{_number(measured.value, sign)} {arrow(name)}", interval


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"
