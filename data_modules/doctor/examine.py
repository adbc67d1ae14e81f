"""The whole examination of a source."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_modules.base import GazeDataModule
from data_modules.doctor.film_checks import check_films
from data_modules.doctor.films import FilmFacts, choose_films, read_all_films
from data_modules.doctor.finding import AREAS, Finding
from data_modules.doctor.gaze import GazeFacts, gather_gaze
from data_modules.doctor.gaze_checks import check_gaze
from data_modules.doctor.identical import check_identical
from data_modules.doctor.labels import check_labels, gaze_predicts, one_against_rest, parts_in_use, positive_share
from data_modules.doctor.orientation_checks import check_orientation
from data_modules.doctor.overlap import check_overlap
from data_modules.doctor.patients import check_patients, split_readings
from data_modules.doctor.pictures import draw_balance, draw_histograms, draw_mean_gaze
from data_modules.doctor.progress import Reading
from data_modules.doctor.reading import as_finding, as_findings, read_source
from data_modules.doctor.report import FactTable, Report
from data_modules.doctor.samples import sample_pages
from data_modules.doctor.tables import check_tables
from data_modules.errors import DataError, collected_faults
from data_modules.readings import ReadingTable
from data_modules.splits import Parts


def examine(data: GazeDataModule, progress: bool = True, films: int | None = None) -> Report:
    """Read everything of a source once and say what is wrong with it; never stops at the first fault.

    Nothing is written, and no cache is built. Memory holds the table of readings with its gaze, and less than 500 bytes
    of a film.

    Args:
        data: the module as training would use it.
        progress: show what is being read.
        films: number of films to read, drawn at random, the same ones every time; None: all.

    Raises:
        ValueError: if ``films`` is not positive.
    """
    if films is not None and films < 1:
        raise ValueError(f"films must be positive, got {films}")
    start = time.monotonic()
    with Reading(progress) as bar:
        bar.step("Reading the tables")
        table, findings = read_source(data)
        tables: list[FactTable] = []
        sample, trainable = None, False
        if table is not None and len(table.frame):
            bar.step("Reading the films", len(choose_films(table.frame, films)))
            facts = read_all_films(data, table.frame, bar.advance, films)
            sample = (len(facts.frame), facts.total) if len(facts.frame) < facts.total else None
            bar.step("Comparing films, gaze, labels and patients")
            more, tables, trainable = _examine_table(data, table, facts, findings)
            findings = findings + more
        elif table is not None:
            findings, tables = _nothing_left(table, findings)
    findings.sort(key=lambda finding: AREAS.index(finding.area))
    source = data.data_note or type(data).__name__
    labelled = table is None or table.labels is not None
    return Report(source, tuple(findings), tuple(tables), time.monotonic() - start, labelled, sample, trainable)


def _nothing_left(table: ReadingTable, known: Sequence[Finding]) -> tuple[list[Finding], list[FactTable]]:
    """Report why no reading is left, and not what follows from it."""
    causes = [finding for finding in known if finding.area in ("tables", "films", "patients")] or list(known)
    more, tables = check_tables(table)
    if causes:
        more = [finding for finding in more if finding.level != "error"]
    title = "films, gaze, labels, patients and orientation were not checked: no reading is left"
    return [*causes, *more, Finding("note", "tables", title)], tables


def _examine_table(
    data: GazeDataModule, table: ReadingTable, films: FilmFacts, known: Sequence[Finding]
) -> tuple[list[Finding], list[FactTable], bool]:
    """Run all checks on what could be read; say also whether what needs gaze only could be trained."""
    own = _source_checks(data)
    said = {finding.detail for finding in own}
    table = replace(table, notes=tuple(note for note in table.notes if note not in said))
    unreadable = films.unreadable
    _forget_reported(films, known)
    parts, refused = split_readings(data, table, unreadable)
    gaze = gather_gaze(table)
    findings: list[Finding] = list(refused)
    tables: list[FactTable] = []
    for more, facts in (
        check_tables(table),
        check_films(films, data.missing),
        check_gaze(table, gaze),
        gaze_predicts(table, gaze),
        check_labels(table, parts),
        check_patients(data, table, parts, troubled=any(finding.level != "ok" for finding in refused)),
        check_orientation(table),
    ):
        findings += more
        tables += facts
    findings += check_identical(data, films, table.frame, parts)
    findings += check_overlap(data, table, parts)
    findings += own
    findings += _pictures(data, table, films, gaze, parts)
    training = table.frame["sample_id"][parts == "train"]
    gaze_in_training = any(len(table.fixations.get(name, ())) for name in training)
    return findings, tables, gaze_in_training and not data.class_names and not refused


def _forget_reported(films: FilmFacts, known: Sequence[Finding]) -> None:
    """Do not report a film twice that the reader of the tables has refused already."""
    reported = {row.partition(":")[0] for finding in known for row in finding.rows if finding.area == "films"}
    places = films.frame["source_row"].tolist()
    for kind in list(films.faults):
        films.faults[kind] = [(row, text) for row, text in films.faults[kind] if places[row] not in reported]
        if not films.faults[kind]:
            del films.faults[kind]


def _source_checks(data: GazeDataModule) -> list[Finding]:
    with collected_faults() as faults:
        try:
            return [*data.source_checks(), *as_findings(faults)]
        except DataError as error:
            return [*as_findings(faults), as_finding(error)]


def _pictures(
    data: GazeDataModule,
    table: ReadingTable,
    films: FilmFacts,
    gaze: GazeFacts,
    parts: Parts,
) -> list[Finding]:
    findings = sample_pages(data, table, films)
    if len(gaze.rows):
        unit = "samples" if (gaze.duration == np.round(gaze.duration)).all() and np.ptp(gaze.duration) else "s"
        picture = draw_histograms(gaze.counts.astype(np.float64), gaze.duration, unit)
        findings.append(Finding("note", "gaze", "points per reading and their durations", picture=picture))
        if gaze.mean.any():
            picture = draw_mean_gaze(gaze.mean, films.mean)
            findings.append(Finding("note", "gaze", "mean gaze over the mean film", picture=picture))
    labels = one_against_rest(table)
    if labels is not None and len(labels):
        shares = {part: positive_share(labels[here]) for part, here in parts_in_use(parts).items()}
        picture = draw_balance(shares, table.class_names)
        findings.append(Finding("note", "labels", "class balance of the parts", picture=picture))
    return findings
