"""Text of tables and bytes of pictures, written the same way every time."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from data_modules.phantom.film import BoolMask

Cell = str | int | float | bool | None


def csv_text(rows: Iterable[Sequence[Cell]], line_end: str = "\n") -> str:
    """Rows as CSV; None becomes an empty cell, cells with line breaks are quoted."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=line_end).writerows(rows)
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as it is (no translation of line ends), making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


def write_gz(path: Path, text: str) -> None:
    """Write gzipped UTF-8 text; without name and time in the header, so that equal text gives equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=6, mtime=0))


def write_mask(path: Path, mask: BoolMask) -> None:
    """Write a mask ``[H, W]`` as an 8-bit grey PNG with values 0 and 255."""
    _write_image(path, mask.astype(np.uint8) * np.uint8(255), ".png", [])


def write_jpg(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write a grey image ``[H, W]`` as JPEG, quality 95."""
    _write_image(path, image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95])


def _write_image(path: Path, image: npt.NDArray[np.uint8], kind: str, options: list[int]) -> None:
    done, data = cv2.imencode(kind, image, options)
    if not done:
        raise OSError(f"OpenCV could not encode {path.name} ({image.shape[1]} x {image.shape[0]} pixels)")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
