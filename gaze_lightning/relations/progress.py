"""How far the comparison of all pairs has come."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

_SECONDS = 60.0  # between two lines where no bar can be drawn


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} pairs/s")


@contextmanager
def pair_progress(what: str, total: int, done: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with pairs per second and the time that remains; in a log, lines at both ends and once a minute.

    Args:
        what: is done, e.g. "Comparing gaze (MapCC)".
        total: number of pairs.
        done: how many of them are done already.
        shown: or nothing at all.

    Yields:
        To be called with the number of pairs that were finished.
    """
    console = Console(stderr=True, soft_wrap=True)
    lines = shown and not console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), _Rate(), TimeRemainingColumn())
    start = said = time.monotonic()
    first = done
    if lines:
        before = f", {done:,} of them done before" if done else ""
        console.print(f"{what}: {total:,} pairs{before}", highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not shown or lines) as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(pairs: int) -> None:
            nonlocal done, said
            done += pairs
            bar.advance(task, pairs)
            now = time.monotonic()
            if lines and now - said >= _SECONDS and done < total:
                said, rate = now, (done - first) / (now - start)
                left = (total - done) / rate / 60
                console.print(
                    f"{what}: {done:,} of {total:,}, {rate:,.0f} pairs/s, {left:,.0f} min left", highlight=False
                )

        yield advance
    if lines:
        seconds = time.monotonic() - start
        rate = (done - first) / max(seconds, 1e-9)
        console.print(f"{what}: done in {seconds:,.1f} s, {rate:,.0f} pairs/s", highlight=False)
