"""Statistics of relations, for people."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaze_lightning.relations.statistics import RelationStatistics, ThresholdStatistics

_SHOWN = ("0.01", "0.1", "0.5", "0.9", "0.99")
_WIDEST = 10
"""Characters of the first column with which columns may stand two apart and the largest data still fit 80."""


def print_statistics(statistics: RelationStatistics, measure: str, console: Console | None = None) -> None:
    """Print what a threshold of gaze similarity means, at most 80 columns.

    Args:
        statistics: what to print.
        measure: name and arguments of the measure.
        console: where; standard output by default.
    """
    console = console or Console()
    console.print()
    console.print(Text.assemble(("Related readings", "bold"), f"   {measure}"))
    console.print(Text(_readings(statistics)))
    if statistics.quantiles:
        shown = " · ".join(f"{100 * float(level):g} % {statistics.quantiles[level]:.3f}" for level in _SHOWN)
        console.print(Text(f"Similarity: {shown}"))
    console.print()
    console.print(_table(statistics))
    console.print()
    for note in _notes(statistics):
        console.print(Text(note, style="dim"))


def _readings(statistics: RelationStatistics) -> str:
    alone = statistics.readings - statistics.valid
    short = f"; {alone:,} with too little gaze, positive to themselves only" if alone else ""
    return f"{statistics.valid:,} of {statistics.readings:,} readings compared{short}; {statistics.pairs:,} pairs"


def _table(statistics: RelationStatistics) -> Table:
    names = [_name(one) for one in (statistics.chosen, *statistics.candidates)]
    gap = 1 if max(map(len, names)) <= _WIDEST else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    table.add_column("threshold", no_wrap=True)
    for name in ("S >", "pairs", "mean", "10 %", "50 %", "90 %", "max", "none", "same\nclass", "by\nclass"):
        table.add_column(name, justify="right")
    table.add_row(*_row(statistics.chosen, "bold"), end_section=True)
    for one in statistics.candidates:
        table.add_row(*_row(one, ""))
    if statistics.base_rate is not None:
        table.rows[-1].end_section = True
        table.add_row("all pairs", *[""] * 8, _share(statistics.base_rate), _share(statistics.by_class))
    return table


def _name(one: ThresholdStatistics) -> str:
    kind, _, value = one.asked.partition("-")
    return f"tau {value}" if kind == "tau" else f"rate {100 * float(value):g} %"


def _row(one: ThresholdStatistics, style: str) -> list[Text]:
    cells = [
        _name(one),
        f"{one.threshold:.3f}",
        _share(one.share),
        f"{one.mean:.{1 if one.mean < 1000 else 0}f}",
        f"{one.low:.0f}",
        f"{one.median:.0f}",
        f"{one.high:.0f}",
        f"{one.most}",
        _share(one.alone),
        _share(one.same_class),
        _share(one.by_class),
    ]
    return [Text(cell, style=style) for cell in cells]


def _share(value: float | None) -> str:
    """A share as a percentage of about three digits."""
    if value is None:
        return "-"
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 99.95 or percent == 0 else f"{percent:.{1 if percent >= 1 else 2}f}%"


def _notes(statistics: RelationStatistics) -> list[str]:
    notes = [
        "First row: the threshold of this matrix. pairs: share that is related; mean to max: extra positives per "
        "reading; none: readings without any."
    ]
    if statistics.base_rate is None:
        notes.append("same class: not known, these data have no labels.")
    else:
        notes.append(
            "same class: share of the related pairs. by class: of the partners of readings of a class, the share that "
            "has it too; mean over the classes, rare ones as important as common ones. Relations say something about "
            "the class only where by class exceeds that of all pairs: same class also rises where readings of the "
            "commonest class are paired with each other."
        )
        alone = sum(
            share is not None and (k >= len(statistics.chosen.classes) or statistics.chosen.classes[k] is None)
            for k, share in enumerate(statistics.classes)
        )
        if alone and statistics.chosen.pairs:
            notes.append(f"by class of the first row leaves out {alone} of the classes: no partners.")
        if statistics.unknown:
            notes.append(f"Left out of same class: {statistics.unknown:,} pairs whose labels are unknown.")
    if statistics.same_film_pairs:
        pairs = "pair" if statistics.same_film_pairs == 1 else "pairs"
        notes.append(f"Left out: {statistics.same_film_pairs:,} {pairs} of readings of one film, positives anyway.")
    if statistics.chosen.pairs == 0:
        notes.append("No pair is related: training equals that without gaze. Lower tau, or raise positive_rate.")
    return notes
