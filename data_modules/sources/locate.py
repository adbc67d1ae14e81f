"""Finding the folders of the sources below one data root."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from data_modules.errors import DataError

PointSource = Literal["raw_samples", "fixations"]
GAZE_TABLES: dict[str, str] = {"raw_samples": "eye_gaze.csv", "fixations": "fixations.csv"}
METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"


def locate_egd_cxr(root: Path | None, explicit: Path | None = None, point_source: PointSource = "fixations") -> Path:
    """Find the folder of EGD-CXR 1.0.0.

    Args:
        root: the data root; see `locate`.
        explicit: the folder itself.
        point_source: the gaze table that will be needed.

    Raises:
        DataError: if it is not there; see `locate`.
    """
    files = ["master_sheet.csv", GAZE_TABLES[point_source]]
    return locate("EGD-CXR", ["egd-cxr/1.0.0"], files, root, explicit, "data.init_args.root")


def locate_reflacx(root: Path | None, explicit: Path | None = None, phases: Sequence[int] = (1, 2, 3)) -> Path:
    """Find the folder of REFLACX 1.0.0 (arguments and errors as `locate_egd_cxr`)."""
    files = [f"main_data/metadata_phase_{phase}.csv" for phase in phases]
    return locate("REFLACX", ["reflacx-xray-localization/1.0.0"], files, root, explicit, "data.init_args.root")


def locate_mimic_cxr_jpg(root: Path | None, explicit: Path | None = None) -> Path:
    """Find the folder of MIMIC-CXR-JPG, version 2.1.0 or 2.0.0 (arguments and errors as `locate_egd_cxr`)."""
    slugs = ["mimic-cxr-jpg/2.1.0", "mimic-cxr-jpg/2.0.0"]
    return locate("MIMIC-CXR-JPG", slugs, ["files", METADATA, SPLIT], root, explicit, "data.init_args.films_root")


def locate(
    name: str,
    slugs: Sequence[str],
    files: Sequence[str],
    root: Path | None,
    explicit: Path | None = None,
    argument: str = "data.init_args.root",
) -> Path:
    """Find the folder that holds a source.

    Looked for in this order: ``root/physionet.org/files/<slug>``, ``root/<slug>``, ``root`` itself; with ``explicit``
    only there.

    Args:
        name: the source's name for messages.
        slugs: ``<project>/<version>`` as PhysioNet names the folders, best first.
        files: what must lie in the folder (``x.csv`` may also be ``x.csv.gz``).
        root: the data root, or None if none was given.
        explicit: the source's own folder.
        argument: the configuration key that sets ``explicit``, for the message.

    Raises:
        DataError: naming what is missing, every place looked at, and what to set.
    """
    remedy = "Set DATA_ROOT=<folder that holds physionet.org/files, or the files themselves> (data.init_args.root)"
    remedy += "." if argument == "data.init_args.root" else f", or {argument}=<folder of {name}>."
    if explicit is None and root is None:
        raise DataError(f"{name}: no folder was given. {remedy}")
    if explicit is not None:
        candidates = [explicit.expanduser()]
    else:
        base = (root or Path()).expanduser()
        candidates = [base / prefix / slug for slug in slugs for prefix in ("physionet.org/files", "")] + [base]
    report = []
    for folder in candidates:
        absent = [file for file in files if find_table(folder, file) is None]
        if not absent:
            return folder
        report.append(f"{folder}: {'lacks ' + ', '.join(absent) if folder.is_dir() else 'no such folder'}")
    raise DataError(f"{name}: not found. {remedy} Looked for {', '.join(files)} in:", report)


def find_table(folder: Path, name: str) -> Path | None:
    """Return ``folder/name`` or its gzip-compressed twin, or None if neither exists."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    return None


def is_inside(path: Path, root: Path) -> bool:
    """Say whether a path, with ``..`` and symbolic links followed, lies below ``root`` (its links followed, too)."""
    real, base = os.path.realpath(path), os.path.realpath(root)
    return real == base or real.startswith(base.rstrip(os.sep) + os.sep)
