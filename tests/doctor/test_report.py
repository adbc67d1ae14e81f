"""The report on paper and on the screen."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from data_modules.doctor.finding import AREAS, Finding
from data_modules.doctor.reading import area_of, as_finding
from data_modules.doctor.report import FactTable, Report
from data_modules.doctor.terminal import show
from data_modules.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n made up"
ERROR = Finding(
    "error",
    "films",
    "7 films are <truncated>",
    rows=tuple(f"sheet.csv row {n}" for n in range(2, 9)),
    remedy="Copy them again.",
)
OTHERS = (
    Finding("ok", "tables", "12 readings read"),
    Finding("note", "gaze", "histogram", picture=PNG),
    Finding("warning", "labels", "no positives & no negatives", "In test.", remedy="Choose another split."),
)
TABLE = FactTable("patients", "Split <official>", ("", "patients"), (("train", "3"), ("test", "1")))


class Outline(HTMLParser):
    """What opens and closes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_well_formed_and_needs_no_other_file(tmp_path: Path) -> None:
    page = Report("made up", (ERROR, *OTHERS), (TABLE,)).write(tmp_path / "new" / "folder")
    outline = Outline()
    outline.feed(page.read_text())
    outline.close()
    assert not outline.open
    text = " ".join(outline.text)
    for words in ("Training must not start: 1 error (1 warning)", "<truncated>", "7 rows", "Split <official>"):
        assert words in text
    assert all(row in text for row in ERROR.rows), "the page shows all rows"
    links = [value or "" for name, value in outline.attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)


def test_json_holds_everything_but_pictures(tmp_path: Path) -> None:
    Report("made up", (ERROR, *OTHERS), (TABLE,)).write(tmp_path)
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["may_train"] is False
    assert facts["counts"] == {"error": 1, "warning": 1, "note": 1, "ok": 1}
    assert facts["findings"][0]["rows"] == list(ERROR.rows)
    assert facts["tables"][0]["rows"] == [["train", "3"], ["test", "1"]]
    assert "PNG" not in json.dumps(facts)


@pytest.mark.parametrize(
    ("findings", "may", "verdict"),
    [
        ((ERROR,), False, "Training must not start: 1 error"),
        ((ERROR, ERROR, OTHERS[2]), False, "Training must not start: 2 errors (1 warning)"),
        ((OTHERS[2], OTHERS[2]), True, "Training may start (2 warnings)"),
        ((OTHERS[0],), True, "Training may start"),
    ],
)
def test_only_errors_forbid_training(findings: tuple[Finding, ...], may: bool, verdict: str) -> None:
    report = Report("made up", findings)
    assert report.may_train is may
    assert report.verdict == verdict


def test_data_without_labels_may_be_predicted_only() -> None:
    report = Report("made up", (OTHERS[0],), labelled=False)
    assert report.verdict == "No labels: these data can be predicted and previewed, not trained on"
    assert (report.may_train, report.may_predict) == (False, True)
    faulty = Report("made up", (ERROR,), labelled=False)
    assert faulty.verdict == "Training must not start: 1 error"
    assert faulty.may_predict is False


def test_data_without_labels_train_what_needs_gaze_only() -> None:
    report = Report("made up", (OTHERS[0],), labelled=False, films=(5, 12), trainable_gaze=True)
    assert report.verdict == "No labels: training may start for methods that need gaze only (5 of 12 films read)"
    assert (report.may_train, report.may_predict) == (True, True)
    faulty = Report("made up", (ERROR,), labelled=False, trainable_gaze=True)
    assert (faulty.may_train, faulty.verdict) == (False, "Training must not start: 1 error")


def test_verdict_says_that_some_films_only_were_read(tmp_path: Path) -> None:
    report = Report("made up", OTHERS, films=(50, 1200))
    assert report.verdict == "Training may start (1 warning, 50 of 1,200 films read)"
    report.write(tmp_path)
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["films_read"] == {"read": 50, "of": 1200}
    assert report.verdict in (tmp_path / "report.html").read_text()


def test_two_hundred_rows_of_a_finding_are_written_and_the_others_counted(tmp_path: Path) -> None:
    finding = Finding("error", "gaze", "bad", rows=tuple(f"row {n}." for n in range(5000)))
    report = Report("made up", (finding,))
    text = report.write(tmp_path).read_text()
    assert "row 199." in text
    assert "row 200." not in text
    assert "5,000 rows" in text
    assert "... and 4,800 more" in text
    facts = json.loads((tmp_path / "report.json").read_text())["findings"][0]
    assert (len(facts["rows"]), facts["rows_in_all"]) == (200, 5000)
    screen = io.StringIO()
    show(report, Console(file=screen, width=80))
    assert "(5,000 in all, 200 in report.html)" in " ".join(screen.getvalue().split())


def test_long_paths_are_shown_whole_in_a_narrow_terminal() -> None:
    screen = io.StringIO()
    path = "/data/" + "folder/" * 15 + "sheet.csv"
    show(Report("made up", (Finding("error", "tables", f"{path}: is empty"),)), Console(file=screen, width=60))
    assert path in "".join(line[20:].strip() for line in screen.getvalue().splitlines())


def test_a_heading_is_not_repeated_above_its_table(tmp_path: Path) -> None:
    tables = (FactTable("gaze", "Gaze", ("", "n"), (("a", "1"),)), FactTable("gaze", "Other", ("", "n"), (("a", "1"),)))
    text = Report("made up", (), tables).write(tmp_path).read_text()
    assert text.count("Gaze<") == 1
    assert "<h3>Other</h3>" in text


def test_terminal_shows_five_rows_the_remedy_and_the_verdict_last() -> None:
    screen = io.StringIO()
    show(Report("made up", (ERROR, *OTHERS), (TABLE,)), Console(file=screen, width=100))
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "- sheet.csv row 6" in text
    assert "sheet.csv row 7" not in text
    assert "and 2 more (7 in all" in text
    assert "Copy them again." in text
    order = [text.index(words) for words in ("12 readings read", "no positives & no negatives", "7 films are")]
    assert order == sorted(order), "the worst stands last, above the verdict"
    assert lines[-1] == "Training must not start: 1 error (1 warning)"


@pytest.mark.parametrize(
    ("message", "area"),
    [
        ("fixations.csv: missing column(s): FPOGD. The file has: a, b", "tables"),
        ("3 film(s) are missing below /data/files. Complete the download", "films"),
        ("master_sheet.csv and MIMIC-CXR-JPG disagree about the patient of 1 film(s). Restore", "patients"),
        ("sheet: exactly one of Normal, CHF, pneumonia must be 1 and the others 0", "labels"),
        ("2 patients are in more than one part of the split: a model would", "patients"),
        ("something that nobody thought of", "tables"),
    ],
)
def test_refusals_are_sorted_by_what_they_concern(message: str, area: str) -> None:
    assert area_of(message) == area
    assert area in AREAS


def test_refusal_becomes_title_rows_and_remedy() -> None:
    fault = DataError("a.csv: 2 rows are wrong. Restore the file:", ["row 3", "row 9"])
    finding = as_finding(fault)
    assert finding.level == "error"
    assert finding.title == "a.csv: 2 rows are wrong"
    assert finding.remedy == "Restore the file."
    assert finding.rows == ("row 3", "row 9")
    assert as_finding(DataError("One sentence only.")).title == "One sentence only"
