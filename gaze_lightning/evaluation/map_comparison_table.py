"""A global map beside the mean training gaze, for people."""

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaze_lightning.evaluation.map_comparison import COMPARED_WITH, Agreement, MapComparison

_ROWS = {"mean_film": "  mean training film", "centre": "  centre", "even": "  even map"}


def print_map_comparison(comparison: MapComparison, data: str, console: Console | None = None) -> None:
    """Print the agreement of a map with the mean gaze beside that of maps that learn nothing, at most 80 columns.

    Without gaze only the lines that describe the map are printed.

    Args:
        comparison: what to print.
        data: one line that says where the films come from.
        console: where; standard output by default.
    """
    console = console or Console()
    title = "Global map" if comparison.gaze is None else "Global map against the mean training gaze"
    console.print()
    console.print(Text(title, style="bold"))
    if data:
        console.print(Text(data, style="yellow"))
    console.print()
    if comparison.gaze is not None:
        console.print(_table(comparison.gaze, comparison.references))
        console.print()
    for note in _notes(comparison):
        console.print(Text(note, style="dim"))


def _table(gaze: Agreement, references: dict[str, Agreement]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("map", min_width=32)
    table.add_column("CC ↑", justify="right")
    table.add_column("KL ↓", justify="right")
    table.add_row(Text("global map", style="bold"), *_cells(gaze), end_section=True)
    for name, one in references.items():
        table.add_row(_ROWS[name], *_cells(one))
    return table


def _notes(comparison: MapComparison) -> list[str]:
    values = f"Map: mean {comparison.mean:.3f}, sd {comparison.sd:.3f}, {comparison.low:.3f} to {comparison.high:.3f}"
    if comparison.gaze is not None:
        meaning = (
            "A map that comes no closer to the gaze than the mean film or the centre has learnt no more about gaze than"
            " where the chest is."
        )
    elif comparison.films is not None:
        meaning = "The training readings have no gaze: there is nothing to compare the map with."
    else:
        return [f"{values}. The data do not show the training films: there is nothing to compare the map with."]
    source = f"{COMPARED_WITH[0].upper()}{COMPARED_WITH[1:]}."
    if comparison.films is None:
        return [meaning, f"{values}.", source]
    cc = "undefined" if math.isnan(comparison.film_cc) else f"{comparison.film_cc:.3f}"
    return [
        meaning,
        f"{values}; correlation with the mean of {comparison.films} training films: {cc}.",
        f"Compared: {_percent(comparison.share)} of the canvas, where at least half of these films are.",
        source,
    ]


def _percent(share: float) -> str:
    """With one digit, rounded down: 100 % only of the whole."""
    return f"{math.floor(1000 * share) / 10:g} %"


def _cells(one: Agreement) -> tuple[str, str]:
    cc, kl = ("-" if math.isnan(value) else f"{value:.3f}" for value in one)
    return cc, kl
