"""One short name for everything that a run learns from and is tested on."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_modules.geometry import FilmFit
from data_modules.readings import ReadingTable


def fingerprint_of(
    readings: pd.DataFrame,
    table: ReadingTable,
    sizes: npt.NDArray[np.int32],
    films: str,
    fits: Sequence[FilmFit | None] | None = None,
) -> str:
    """Hash of readings, films, labels, parts, gaze and outlines; where the files lie does not matter.

    Args:
        readings: those in use: ``sample_id, subject, image_id, split``.
        table: all readings.
        sizes: (height, width) of the original films ``[n, 2]``, in the cache's order, pixels.
        films: hash of the films' pixels as the network sees them.
        fits: where each film lies on the canvas, None for a whole film; None: all films whole.

    Returns:
        16 hexadecimal digits. Of outlines only class and kind count: mask files are not read for it.
    """
    digest = hashlib.sha256()

    def add(name: str, *values: bytes) -> None:
        for value in (name.encode(), *values):  # with lengths: nothing can slip into its neighbour
            digest.update(len(value).to_bytes(8, "big"))
            digest.update(value)

    add("readings", readings[["sample_id", "subject", "image_id", "split"]].to_csv(index=False).encode())
    add("films", films.encode(), np.ascontiguousarray(sizes, dtype=np.int32).tobytes())
    if fits is not None:
        add("placed", "\n".join(str(fit) for fit in fits).encode())
    add("classes", "\n".join(table.class_names).encode(), table.label_type.encode())
    if table.labels is not None:
        add("labels", str((table.labels.dtype, table.labels.shape)).encode(), table.labels.tobytes())
        add("order of labels", table.frame["sample_id"].str.cat(sep="\n").encode())
    for sample_id in readings["sample_id"]:
        gaze = table.fixations.get(sample_id)
        if gaze is not None:
            arrays: Sequence[npt.NDArray[np.float64]] = (
                gaze.x, gaze.y, gaze.duration, gaze.sigma_x, gaze.sigma_y, gaze.start,
            )  # fmt: skip
            add("gaze", sample_id.encode(), *(array.tobytes() for array in arrays))
            add("visible", b"" if gaze.visible is None else gaze.visible.tobytes())
        regions = table.regions.get(sample_id, ())
        if regions:
            kinds = sorted((region.class_index, region.kind) for region in regions)
            add("outlines", sample_id.encode(), str(kinds).encode())
    return digest.hexdigest()[:16]
