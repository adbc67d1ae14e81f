"""A folder of films without tables, for prediction."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_modules.errors import DataError
from data_modules.readings import ReadingTable
from data_modules.sources.gaze_points import log_summary
from data_modules.sources.locate import is_inside


def read_folder(root: Path, suffixes: Sequence[str] = (".png", ".jpg", ".jpeg")) -> ReadingTable:
    """List every image below a folder, sorted by path; hidden files and folders are skipped.

    Args:
        root: the folder.
        suffixes: endings of image files, compared without regard to case.

    Returns:
        A table without labels, gaze and sizes (0); ``sample_id``, ``image_id`` and ``subject`` are the path below
        ``root``, with forward slashes.

    Raises:
        DataError: if the folder does not exist, holds no image, or an image is a link to a place outside it.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Set DATA_ROOT (data.init_args.root) to the folder with the films.")
    endings = tuple(suffix.lower() for suffix in suffixes)
    names = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in endings and path.is_file() and not _hidden(path.relative_to(root))
    )
    if not names:
        raise DataError(f"{root}: no file ending in {', '.join(endings)} in this folder or below it.")
    outside = [not is_inside(root / name, root) for name in names]
    if any(outside):
        raise DataError(
            f"{root}: {sum(outside)} film(s) are links to places outside the folder. Copy them there.",
            [f"file {n + 1} of {len(names)} (sorted)" for n in np.flatnonzero(outside)],
        )
    ids = pd.Series([name.as_posix() for name in names], dtype="str")
    frame = pd.DataFrame(
        {
            "sample_id": ids,
            "image_id": ids,
            "subject": ids,
            "image_path": [str(root / name) for name in names],
            "height": np.zeros(len(names), dtype=np.int64),
            "width": np.zeros(len(names), dtype=np.int64),
            "split": "",
            "source_row": [f"file {n + 1}" for n in range(len(names))],
        }
    )
    log_summary("folder", frame, {}, Counter())
    return ReadingTable(frame, None, (), "multi", {})


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)
