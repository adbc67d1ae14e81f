"""Reading one film from a JPEG, PNG or DICOM file."""

import errno
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from data_modules.errors import DataError
from data_modules.films.access import FilmAccessError
from data_modules.films.dicom import dicom_facts, dicom_pixels, dicom_size, is_dicom, open_dicom
from data_modules.films.intensity import Intensity, to_grey
from data_modules.geometry import FilmFit, area_resample

MISSING = "The image is missing."
"""What is said of a file that is not there."""

_WRONG_PATH = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)  # will never be a file

_TAIL = 4096  # bytes at the end of a file in which its end marker must lie


@dataclass(frozen=True)
class FittedFilm:
    """One film on the network's canvas.

    Attributes:
        pixels: uint8 ``[H, W]``, zero outside the film.
        height: of the original film, pixels.
        width: of the original film, pixels.
        constant: true when every pixel of the film has the same value: there is nothing to see.
        kind: format of the file: "JPEG", "PNG", "DICOM", ...
        channels: samples per pixel in the file.
        bits: stored bits per sample.
        low: smallest grey value of the film as stored (of the reduced film where a JPEG was decoded smaller).
        high: largest.
    """

    pixels: npt.NDArray[np.uint8]
    height: int
    width: int
    constant: bool
    kind: str = ""
    channels: int = 1
    bits: int = 8
    low: float = 0.0
    high: float = 0.0


def read_film(
    path: Path,
    canvas: tuple[int, int],
    stated: tuple[int, int] = (0, 0),
    intensity: Intensity = "stored",
    fit: FilmFit | None = None,
) -> FittedFilm:
    """Read a film as grey values and fit it into the canvas.

    Rules for JPEG, PNG and the like: colour becomes luma, an alpha channel is ignored, 16-bit films are stretched from
    their minimum and maximum to 0..255 (the recipe of MIMIC-CXR-JPG; the used bit depth is not stored in the file),
    8-bit films keep their values. An orientation tag is ignored, because gaze refers to the stored pixel matrix. JPEGs
    that are shrunk a lot are decoded at a half or a quarter of their size. DICOM films go through one of the policies
    of `data_modules.films.intensity`. What a file is tells its content, not its name.

    Args:
        path: the file.
        canvas: ``(H, W)`` of the network's image, pixels.
        stated: ``(height, width)`` according to the source's table, pixels; 0 = not stated.
        intensity: how stored values become grey; "stored" for all but DICOM films, another one for those.
        fit: where it lies on the canvas, which cuts what lies outside; None: the whole film. Its grey values do not
            depend on it: minimum and maximum are the film's.

    Raises:
        FilmAccessError: if it cannot be read now, whatever its content: the network, a right, a decoder is missing.
        DataError: if the file is missing, empty, not an image, truncated, of another size than stated, of a kind that
            the intensity policy is not for, or holds values that are no numbers. The message does not name the file,
            whose path may hold a patient's id: the caller says which film it is.
    """
    data = _read_bytes(path)
    if is_dicom(data):
        return _read_dicom(data, canvas, stated, intensity, fit)
    height, width, kind, channels, bits = _header(data)
    if intensity != "stored":
        raise DataError(
            f"The image is a {kind} file, whose grey values are final; the intensity policy {intensity!r} is for DICOM "
            "films. Set data.init_args.intensity to stored."
        )
    _check_size((height, width), stated)
    fit = fit or FilmFit.of((height, width), canvas)
    step = _reduction(fit.scale) if kind == "JPEG" else 1
    flags = {1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
    flag = flags.get(step, cv2.IMREAD_REDUCED_GRAYSCALE_4) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise DataError(f"The image cannot be decoded ({error.err}); replace the file.") from error
    if image is None:
        raise DataError("The image cannot be decoded; replace the file.")
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():  # a minimum is NaN where any value is
        raise DataError("The image holds values that are infinite or no numbers (NaN); replace the file.")
    fitted = area_resample(image, fit, canvas, step)
    if image.dtype != np.uint8:
        inside = area_resample(np.ones_like(image, dtype=np.float32), fit, canvas, step)
        fitted = (fitted - low * inside) * np.float32(255.0 / ((high - low) or 1.0))
    bits = bits or 8 * image.dtype.itemsize
    return FittedFilm(_rounded(fitted), height, width, low == high, kind, channels, bits, low, high)


def _read_dicom(
    data: bytes, canvas: tuple[int, int], stated: tuple[int, int], intensity: Intensity, fit: FilmFit | None
) -> FittedFilm:
    dataset = open_dicom(data)
    height, width = int(dataset.Rows), int(dataset.Columns)
    _check_size((height, width), stated)
    pixels, facts = dicom_pixels(dataset), dicom_facts(dataset)
    del dataset  # holds the file and the pixels once more
    grey = to_grey(pixels, facts, intensity)
    low, high = float(pixels.min()), float(pixels.max())
    del pixels
    fitted = area_resample(grey, fit or FilmFit.of((height, width), canvas), canvas)
    constant = bool(grey.min() == grey.max())
    return FittedFilm(_rounded(fitted), height, width, constant, "DICOM", 1, facts.bits, low, high)


def _check_size(size: tuple[int, int], stated: tuple[int, int]) -> None:
    if all(stated) and stated != size:
        raise DataError(
            f"The image has {size[0]} x {size[1]} pixels (height x width), its table states {stated[0]} x "
            f"{stated[1]}; its gaze would be shifted. Use the image that the gaze was recorded on."
        )


def _rounded(fitted: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(fitted), 0, 255).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int] | str:
    """Return (height, width) in pixels from the file's header, or what is wrong.

    Raises:
        FilmAccessError: if it is a DICOM file and pydicom is not installed.
    """
    try:
        with path.open("rb") as file:
            dicom = is_dicom(file.read(132))
        if dicom:
            return dicom_size(path)
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        return "no such file"
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return "not a readable image"


@contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collect what image decoders print: their only word about damage in the middle of a file.

    They write to file descriptor 2 of the process, past Python; it is led into a file meanwhile.

    Yields:
        A list that holds the text after the block.
    """
    texts: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield texts
            finally:
                os.dup2(kept, 2)
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
    finally:
        os.close(kept)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(MISSING) from error
    except OSError as error:
        kind = DataError if error.errno in _WRONG_PATH else FilmAccessError
        raise kind(f"The image cannot be read ({error.strerror or type(error).__name__}).") from error
    if not data:
        raise DataError("The image is empty (0 bytes); replace the file.")
    return data


def _header(data: bytes) -> tuple[int, int, str, int, int]:
    """Height, width, format, channels and bits per sample (0: unknown); refuses files without their end."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
            kind = str(header.format)
            channels = 3 if header.mode == "P" else len(header.getbands())  # a palette holds colours
    except UnidentifiedImageError as error:
        raise DataError("The image is not an image that can be read; convert it to PNG, JPEG or DICOM.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"The image has a damaged header ({error}); replace the file.") from error
    # A truncated JPEG decodes without an error: its lower part is grey. Only the end marker tells.
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(kind)
    if end is not None and end not in data[-_TAIL:]:
        raise DataError("The image is truncated (no end marker); copy or download it again.")
    bits = data[24] if kind == "PNG" else 8 if kind == "JPEG" else 0  # Pillow shows 16-bit colour as 8 bits
    return height, width, kind, channels, bits


def _reduction(scale: float) -> int:
    """Factor at which a JPEG may be decoded smaller and still be shrunk afterwards."""
    for factor in (4, 2):
        if scale * factor <= 0.75:
            return factor
    return 1
