"""Patients, the parts that training would make of them, and who is in two of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_modules.base import GazeDataModule
from data_modules.doctor.finding import Finding
from data_modules.doctor.reading import as_finding
from data_modules.doctor.report import FactTable
from data_modules.doctor.words import count
from data_modules.errors import DataError, collected_faults
from data_modules.readings import ReadingTable
from data_modules.splits import BY_IMAGE, SPLITS, Parts, assert_disjoint, assert_filled, hold_out, leak_summary


def split_readings(data: GazeDataModule, table: ReadingTable, unreadable: set[str]) -> tuple[Parts, list[Finding]]:
    """Split as training would, and report what it would refuse.

    Data without labels can be predicted without any split: what training would refuse is a warning there. Data with
    neither labels nor gaze are not split.

    Args:
        data: says how to split.
        table: all readings.
        unreadable: paths of films that cannot be read; where training drops them, their readings are in no part.

    Returns:
        Part of each reading, empty where it has none (all of them if the split cannot be made).
    """
    nowhere = np.full(len(table.frame), "", dtype="<U8")
    gaze_only = table.labels is None
    if (gaze_only and not any(len(own) for own in table.fixations.values())) or not len(table.frame):
        return nowhere, []
    removed = dict(table.excluded)
    parts, leak = nowhere, ""
    with collected_faults() as faults:
        try:
            parts = data.assign_parts(table)
            if data.held_out:
                parts, taken = hold_out(table.frame, parts, [Path(file) for file in data.held_out])
                removed["readings of patients whom another run tests"] = taken
            if data.missing == "drop":  # otherwise training waits until the films are restored
                usable = ~table.frame["image_path"].isin(unreadable).to_numpy(dtype=np.bool_)
                parts = np.where(usable, parts, "").astype(nowhere.dtype)
            if data.split in BY_IMAGE:
                leak = leak_summary(table.frame, parts)
            else:
                assert_disjoint(table.frame, parts)
            assert_filled(parts, SPLITS, removed)
        except DataError as error:
            faults.append(error)
    findings = [as_finding(fault, "patients") for fault in faults]
    if gaze_only:
        detail = "Without labels these data can be predicted all the same."
        findings = [replace(finding, level="warning", detail=detail) for finding in findings]
    if leak:
        remedy = "Use it to reproduce a paper only."
        findings.append(Finding("warning", "patients", f"split {data.split}, by film: {leak}", remedy=remedy))
    return parts, findings


def check_patients(
    data: GazeDataModule, table: ReadingTable, parts: Parts, troubled: bool
) -> tuple[list[Finding], list[FactTable]]:
    """Report patients, films and readings per part, several readings of a film, and missing patient ids.

    Args:
        data: says how it is split.
        table: all readings.
        parts: part of each reading, or empty.
        troubled: true if the split was refused.
    """
    frame = table.frame
    findings = []
    films, readings, patients = frame["image_id"].nunique(), len(frame), frame["subject"].nunique()
    if readings > films:
        several = int((frame.groupby("image_id").size() > 1).sum())
        title = f"{count(several, 'film', 'has')} several readings ({readings:,} readings of {films:,} films)"
        findings.append(Finding("note", "patients", title, "They stay in one part of the split."))
    anonymous = films > 1 and bool((frame["subject"] == frame["image_id"]).all())
    split = bool((parts != "").any())
    said = any("leakage between parts cannot be checked" in note for note in table.notes)
    if anonymous and (split or not said):
        title = "no patient ids: every film counts as a patient, leakage between parts cannot be checked"
        remedy = "Name the column with the patient if the source has one (subject_column)."
        findings.append(Finding("warning", "patients", title, remedy=remedy))
    if not split:
        return findings, []
    rows = [_row(table, part, parts == part) for part in SPLITS]
    if (parts == "").any():
        rows.append(_row(table, "in no part", parts == ""))
    header = ("", "patients", "films", "readings", "with gaze")
    if not troubled and not anonymous:
        title = f"split {data.split}: {count(patients, 'patient', 'is')} in one part each"
        findings.append(Finding("ok", "patients", title))
    return findings, [FactTable("patients", f"Split {data.split}", header, tuple(rows))]


def _row(table: ReadingTable, name: str, here: np.ndarray) -> tuple[str, ...]:
    frame = table.frame[here]
    gaze = sum(len(table.fixations.get(sample, ())) > 0 for sample in frame["sample_id"])
    numbers: Sequence[int] = (frame["subject"].nunique(), frame["image_id"].nunique(), len(frame), gaze)
    return (name, *(f"{number:,}" for number in numbers))
