"""EyeGaze and REFLACX as one table: the same patient is one patient, the same film one film."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.errors import DataError, refuse
from data_modules.readings import ReadingTable, Region
from data_modules.sources.joint_labels import CHEXPERT_OUTLINES, LabelSpace, joint_labels
from data_modules.sources.joint_regions import regions_in_space
from data_modules.sources.joint_targets import report_labels, sheet_findings
from data_modules.sources.mimic_cxr import FilmIndex
from data_modules.sources.mimic_labels import (
    MIMIC_LABELS,
    Blank,
    Labeller,
    Uncertain,
    labeller_table,
    read_study_labels,
)

SOURCES = ("EyeGaze", "REFLACX")
_PREFIX = ("egd-", "reflacx-")
_Value = TypeVar("_Value")


def read_joint(
    egd: ReadingTable,
    reflacx: ReadingTable,
    *,
    label_space: LabelSpace,
    egd_root: Path,
    films: FilmIndex,
    labels: Sequence[str] | None = None,
    labeller: Labeller = "chexpert",
    uncertain: Uncertain = "ignore",
    blank: Blank = "ignore",
) -> ReadingTable:
    """Join the readings of both sources; what the label spaces are: see `joint_labels`.

    Readings stay separate: a film that was read in both is two samples of one ``image_id`` and one patient, so that no
    split parts them. ``sample_id`` is prefixed with ``egd-`` or ``reflacx-``. What was left out of a source stays
    counted under the source's name.

    Args:
        egd: as `read_egd_cxr` gives it.
        reflacx: as `read_reflacx` gives it, or after `mean_readers`; for ``findings`` with the classes wanted.
        label_space: ``findings``, ``chexpert`` or ``egd``.
        egd_root: the folder with ``master_sheet.csv``; its finding columns are read for ``findings``.
        films: the index of the films, and the label tables beside it for ``chexpert``.
        labels: the classes, out of those of the space; None for all of them.
        labeller: whose labels of the reports (``chexpert``).
        uncertain: what -1 becomes (``chexpert``).
        blank: what a label becomes that the report does not mention (``chexpert``).

    Returns:
        Multi-label table, float32 in {0, 1, NaN}, with ``sources``. Outlines are kept where the space has their class.

    Raises:
        DataError: if the sources contradict each other about a film (patient, file, size, official split), the sheet
            lacks a finding column or has something else than 0, 1 and blank in one, or the label table is missing or
            contradicts the films' patients; all rows at once.
        ValueError: if the label space or a label is unknown.
    """
    classes = joint_labels(label_space, labels)
    lost: Counter[str] = Counter()
    rows_read = {f"{name} {table}": n for name, one in _named(egd, reflacx) for table, n in one.rows_read.items()}
    notes = [f"{name}: {note}" for name, one in _named(egd, reflacx) for note in one.notes]
    if label_space == "findings":
        values, contradicting = sheet_findings(egd_root, egd, classes)
        at = [reflacx.class_names.index(name) for name in classes]
        target = np.concatenate([values, np.asarray(reflacx.labels, dtype=np.float32)[:, at]])
        if contradicting:
            notes.append(f"EyeGaze: {contradicting} finding(s) stated of films of class Normal are taken as unknown")
    elif label_space == "egd":
        assert egd.labels is not None
        one_hot = np.equal(egd.labels[:, None], [egd.class_names.index(name) for name in classes])
        shared = pd.Index(egd.frame["image_id"]).get_indexer(pd.Index(reflacx.frame["image_id"]))
        of_film = np.full((len(shared), len(classes)), np.nan)
        of_film[shared >= 0] = one_hot[shared[shared >= 0]]
        target = np.concatenate([one_hot, of_film]).astype(np.float32)
        notes.append(f"REFLACX: the class of {int((shared >= 0).sum())} reading(s) is that of EyeGaze for the film")
    else:
        table = labeller_table(labeller)
        studies, rows_read[table] = read_study_labels(films.table_folder, table)
        everything = pd.concat([egd.frame, reflacx.frame], ignore_index=True)
        target, unlabelled, contradicting = report_labels(everything, films, studies, table, uncertain, blank)
        target = target[:, [MIMIC_LABELS.index(name) for name in classes]]
        if unlabelled:
            notes.append(f"{unlabelled} reading(s) of studies without {labeller} labels: all labels unknown")
        if contradicting:
            notes.append(
                f"No Finding contradicts a stated finding in the reports of {contradicting} reading(s): the finding "
                "stands, No Finding is unknown there"
            )
    frames = [
        one.frame.assign(sample_id=prefix + one.frame["sample_id"])
        for prefix, one in zip(_PREFIX, (egd, reflacx), strict=True)
    ]
    frame = pd.concat(frames, ignore_index=True)
    sources = np.repeat(np.array(SOURCES), [len(one) for one in frames])
    notes.append(_shared(frame, sources))
    sound = ~_contradicting(frame)
    meaning = {
        "findings": ({}, {name: name for name in reflacx.class_names}),
        "chexpert": ({}, CHEXPERT_OUTLINES),
        "egd": ({name: name for name in egd.class_names}, {}),
    }[label_space]
    regions: dict[str, Sequence[Region]] = {}
    for (name, one), prefix, mapping in zip(_named(egd, reflacx), _PREFIX, meaning, strict=True):
        inside, outside = regions_in_space(one, mapping, classes)
        regions |= _prefixed(inside, prefix)
        if outside:
            lost[f"{name}: outlines of classes that this label space lacks"] += outside
    return ReadingTable(
        frame[sound].reset_index(drop=True),
        target[sound],
        classes,
        "multi",
        _prefixed(egd.fixations, _PREFIX[0]) | _prefixed(reflacx.fixations, _PREFIX[1]),
        regions,
        {f"{name}: {reason}": n for name, one in _named(egd, reflacx) for reason, n in one.excluded.items()},
        {f"{name}: {reason}": n for name, one in _named(egd, reflacx) for reason, n in one.excluded_points.items()}
        | dict(lost),
        tuple(notes),
        _prefixed(egd.chest_boxes, _PREFIX[0]) | _prefixed(reflacx.chest_boxes, _PREFIX[1]),
        rows_read,
        sources[sound],
        scan_paths=egd.scan_paths and reflacx.scan_paths,
    )


def _named(egd: ReadingTable, reflacx: ReadingTable) -> list[tuple[str, ReadingTable]]:
    return list(zip(SOURCES, (egd, reflacx), strict=True))


def _prefixed(values: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    return {prefix + name: value for name, value in values.items()}


def _shared(frame: pd.DataFrame, sources: npt.NDArray[np.str_]) -> str:
    """One line: patients and films of each source and of both."""
    parts = []
    for column, what in (("subject", "patients"), ("image_id", "films")):
        one, other = (set(frame.loc[sources == name, column]) for name in SOURCES)
        parts.append(f"{len(one & other)} of {len(one)} + {len(other)} {what}")
    return f"in both EyeGaze and REFLACX: {', '.join(parts)}"


def _contradicting(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Refuse films of which the readings contradict each other; return the readings concerned."""
    checked = frame.assign(split=frame["split"].where(frame["split"] != ""))  # not stated is no contradiction
    what = {"subject": "patient", "image_path": "file", "height": "height", "width": "width", "split": "official split"}
    differing = pd.DataFrame({name: checked.groupby("image_id")[name].transform("nunique") > 1 for name in what})
    bad: npt.NDArray[np.bool_] = differing.any(axis=1).to_numpy(dtype=np.bool_)
    if bad.any():
        order = frame[bad].sort_values(["image_id"], kind="stable").index
        rows = [
            f"{frame['source_row'].iloc[n]}: {', '.join(what[c] for c in differing.columns[differing.iloc[n]])}"
            for n in order
        ]
        refuse(DataError("EyeGaze and REFLACX contradict each other about a film. Restore their tables:", rows))
    return bad
