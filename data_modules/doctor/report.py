"""What the data doctor found, and where it is written."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_modules.doctor.finding import LEVELS, Area, Finding, Level
from data_modules.doctor.html import page

MOST_ROWS = 200
"""Rows of a finding that are written down; a table with one fault in every row would make a page of many megabytes."""


@dataclass(frozen=True)
class FactTable:
    """A small table of numbers for the report; it holds no ids.

    Args:
        area: what it concerns.
        title: above it.
        header: names of the columns.
        rows: cells as text.
    """

    area: Area
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Report:
    """The outcome of one examination.

    Attributes:
        source: one line that says what was examined.
        findings: everything that was found, in the order of the areas.
        tables: numbers beside them.
        seconds: how long it took.
        labelled: false if the source has no labels.
        films: number of films read and of those there are, where these differ; else None.
        trainable_gaze: true if the split can be made and its training part has gaze: methods that need no labels can
            learn from it.
    """

    source: str
    findings: tuple[Finding, ...]
    tables: tuple[FactTable, ...] = ()
    seconds: float = 0.0
    labelled: bool = True
    films: tuple[int, int] | None = None
    trainable_gaze: bool = False

    @property
    def may_predict(self) -> bool:
        """True if there is no error."""
        return not any(finding.level == "error" for finding in self.findings)

    @property
    def may_train(self) -> bool:
        """True if there is no error, and there are labels, or gaze for methods that need no labels."""
        return self.may_predict and (self.labelled or self.trainable_gaze)

    @property
    def counts(self) -> dict[Level, int]:
        """Number of findings of each level."""
        found = Counter(finding.level for finding in self.findings)
        return {level: found[level] for level in LEVELS}

    @property
    def verdict(self) -> str:
        """The last word."""
        errors, warnings = self.counts["error"], self.counts["warning"]
        also = [f"{warnings} warning{'s' * (warnings != 1)}"] if warnings else []
        also += [f"{self.films[0]:,} of {self.films[1]:,} films read"] if self.films else []
        tail = f" ({', '.join(also)})" if also else ""
        if errors:
            return f"Training must not start: {errors} error{'s' * (errors != 1)}{tail}"
        if not self.labelled and self.trainable_gaze:
            return f"No labels: training may start for methods that need gaze only{tail}"
        if not self.labelled:
            return f"No labels: these data can be predicted and previewed, not trained on{tail}"
        return f"Training may start{tail}"

    def write(self, folder: Path) -> Path:
        """Write ``report.html`` (self-contained) and ``report.json`` (without pictures); the folder is made.

        Both stay on this machine: the page shows films. They hold no ids of patients, studies or films, and the first
        200 rows of a finding with their number in all.

        Returns:
            Path of the page.
        """
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "source": self.source,
            "may_train": self.may_train,
            "may_predict": self.may_predict,
            "films_read": None if self.films is None else {"read": self.films[0], "of": self.films[1]},
            "verdict": self.verdict,
            "counts": self.counts,
            "findings": [
                {
                    "level": finding.level,
                    "area": finding.area,
                    "title": finding.title,
                    "detail": finding.detail,
                    "rows": list(finding.rows[:MOST_ROWS]),
                    "rows_in_all": len(finding.rows),
                    "remedy": finding.remedy,
                }
                for finding in self.findings
            ],
            "tables": [
                {"area": table.area, "title": table.title, "header": list(table.header), "rows": list(table.rows)}
                for table in self.tables
            ],
            "seconds": round(self.seconds, 1),
        }
        (folder / "report.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        path = folder / "report.html"
        path.write_text(page(self, MOST_ROWS), encoding="utf-8")
        return path
