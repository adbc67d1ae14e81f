"""The table of results, for people."""

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaze_lightning.evaluation.measured import Measured
from gaze_lightning.evaluation.names import arrow, readable_classifier, readable_name, split_classifier
from gaze_lightning.evaluation.reference_table import reference_notes, reference_table
from gaze_lightning.evaluation.results import Results

_CLASSIFICATION = ("auroc", "accuracy", "f1", "nll")
_SECTIONS = {
    "Gaze: predicted map, own gaze": ("saliency_",),
    "Gaze: true class's CAM, own gaze": ("gaze_",),
    "Gaze: attention map, own gaze": ("attention_",),
    "Localisation: true class's CAM": ("pointing", "energy", "iou"),
    "Other": ("",),
}


def print_results(results: Results, console: Console | None = None) -> None:
    """Print classification, gaze agreement and localisation as tables, at most 80 columns where names allow.

    Gaze agreement that has references (mean training map, centre, other readers) is a table of its own after the
    others, with the paired difference to the mean map in a column where the console has room (100 columns), else in
    rows of its own. Undefined values are printed as ``-`` with the reason in a note below.

    Args:
        results: what to print.
        console: where; standard output by default.
    """
    console = console or Console()
    sections = _sections(results)
    filled = {title: names for title, names in sections.items() if any(results.metrics[name].n for name in names)}
    compared = {
        title: names for title, names in filled.items() if any(results.metrics[name].references for name in names)
    }
    plain = {title: names for title, names in filled.items() if title not in compared}
    console.print()
    console.print(Text.assemble(("Test results", "bold"), f"   {results.n} readings of {results.n_subjects} patients"))
    if results.data:
        console.print(Text(results.data, style="yellow"))
    console.print()
    tables = [_plain_table(results, plain)] if plain else []
    for wide in (True, False):
        beside = [reference_table(results, title, names, wide) for title, names in compared.items()]
        if all(_width(table, console) <= console.width for table in beside):
            break
    for table in [*tables, *beside]:
        console.print(table)
        console.print()
    silent = [title for title, names in sections.items() if names and title not in filled]
    for note in _notes(results, silent, [name for names in compared.values() for name in names]):
        console.print(Text(note, style="dim"))


def _width(table: Table, console: Console) -> int:
    """Columns that a table needs without breaking a number."""
    return console.measure(table, options=console.options.update(max_width=1000)).maximum


def _plain_table(results: Results, sections: dict[str, list[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("metric", min_width=32)
    table.add_column("value", justify="right")
    table.add_column(f"{100 * results.level:g} % interval", justify="center")
    table.add_column("chance", justify="right")
    table.add_column("n", justify="right")
    for position, (title, names) in enumerate(sections.items(), start=1):
        table.add_row(Text(title, style="bold cyan"))
        for place, name in enumerate(names, start=1):
            last = place == len(names) and position < len(sections)
            table.add_row(*_row(name, results.metrics[name]), end_section=last)
    return table


def _row(name: str, measured: Measured) -> tuple[Text, str, str, str, str]:
    headline = split_classifier(name)[1] == "auroc_macro"
    label = Text(f"  {readable_name(name, section=True)}", style="bold" if headline else "")
    value = "-" if math.isnan(measured.value) else f"{measured.value:.3f}"
    interval = "-" if math.isnan(measured.low) else f"{measured.low:.3f} to {measured.high:.3f}"
    chance = "" if math.isnan(measured.chance) else f"{measured.chance:.3f}"
    n = f"{measured.n}" if measured.n_positive is None else f"{measured.n_positive}/{measured.n}"
    return label, f"{value} {arrow(name)}", interval, chance, n


def _sections(results: Results) -> dict[str, list[str]]:
    """Names of metrics under the titles of their sections, in the order of the table."""
    sections: dict[str, list[str]] = {_main_title(results): []}
    for name in results.metrics:  # further classifiers come after the main one
        if split_classifier(name)[0]:
            sections.setdefault(_section(results, name), [])
    sections |= {title: [] for title in _SECTIONS}
    for name in results.metrics:
        sections[_section(results, name)].append(name)
    return sections


def _section(results: Results, name: str) -> str:
    classifier, _ = split_classifier(name)
    if classifier:
        return f"Classification: {readable_classifier(classifier)}"
    if name.startswith(_CLASSIFICATION):
        return _main_title(results)
    return next(title for title, starts in _SECTIONS.items() if name.startswith(starts))


def _main_title(results: Results) -> str:
    return f"Classification: {results.classifier}" if results.classifier else "Classification"


def _notes(results: Results, silent: list[str], compared: list[str]) -> list[str]:
    notes = [f"Intervals: {results.n_boot} resamples of patients. n: readings that count; k/n: k positive."]
    notes += results.notes
    notes += reference_notes(results, compared) if compared else []
    undefined: dict[str, list[str]] = {}
    for name, measured in results.metrics.items():
        if measured.reason and _section(results, name) not in silent:
            undefined.setdefault(measured.reason, []).append(readable_name(name))
    notes += [f"{', '.join(names)}: {reason}." for reason, names in undefined.items()]
    return [*notes, *(f"{title}: not shown, no sample has these values." for title in silent)]
