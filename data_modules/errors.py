"""The one error of this package."""

from collections.abc import Sequence


class DataError(ValueError):
    """The data on disk cannot be used as they are.

    Args:
        message: what is wrong, where it was looked for, and the remedy.
        rows: all offending rows, each as a short text (table and line, never a patient id); the first twenty are shown.
    """

    def __init__(self, message: str, rows: Sequence[str] = ()) -> None:
        shown = [f"  - {row}" for row in rows[:20]]
        if len(rows) > 20:
            shown.append(f"  ... and {len(rows) - 20} more")
        super().__init__("\n".join([message, *shown]))
        self.rows = tuple(rows)
