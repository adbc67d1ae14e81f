"""What relations were made from, as short names that do not depend on the order of files."""

import hashlib
import json
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from gaze_lightning.gaze import Fixations
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.protocols import TrainingGaze


def in_order_of_ids(gaze: TrainingGaze) -> TrainingGaze:
    """Return the same readings, sorted by id.

    Raises:
        ValueError: an id occurs twice, or there are not as many ids as readings.
    """
    n = len(gaze.sample_ids)
    if len(gaze.gaze) != n or len(gaze.films) != n or (gaze.labels is not None and len(gaze.labels) != n):
        raise ValueError(f"TrainingGaze has {n} ids, {len(gaze.gaze)} readings and {len(gaze.films)} films")
    if len(set(gaze.sample_ids)) != n:
        raise ValueError(f"{n - len(set(gaze.sample_ids))} of {n} training readings have the id of another one")
    order = sorted(range(n), key=gaze.sample_ids.__getitem__)
    return gaze._replace(
        sample_ids=tuple(gaze.sample_ids[i] for i in order),
        gaze=tuple(gaze.gaze[i] for i in order),
        films=gaze.films[order],
        labels=None if gaze.labels is None else gaze.labels[order],
    )


def gaze_digest(gaze: TrainingGaze) -> str:
    """Hash of ids, frame, all fixations and which readings share a film, the same in whatever order the readings come.

    Returns:
        16 hexadecimal digits.
    """
    hashed = hashlib.sha256(json.dumps([int(side) for side in gaze.frame]).encode())
    order = sorted(range(len(gaze.sample_ids)), key=gaze.sample_ids.__getitem__)
    hashed.update(_partition(gaze.films[order]))
    for i in order:
        reading = gaze.gaze[i]
        hashed.update(json.dumps([gaze.sample_ids[i], len(reading)]).encode())
        for field in fields(Fixations):
            values = getattr(reading, field.name)
            hashed.update(b"-" if values is None else np.ascontiguousarray(values, dtype="<f8").tobytes())
    return hashed.hexdigest()[:16]


_COUNTED = b"by class"
"""What the last version of the statistics added: statistics of older versions are counted again."""


def basis_digest(films: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None) -> str:
    """Hash of what statistics take from the data besides gaze: which readings share a film, and their labels.

    Statistics that an older version counted, and which lack something, have another one.

    Args:
        films: int64 ``[N]``; only which are equal counts.
        labels: as `TrainingGaze.labels`.

    Returns:
        16 hexadecimal digits.
    """
    hashed = hashlib.sha256(_COUNTED + _partition(films))
    if labels is not None:
        kind = "<i8" if labels.ndim == 1 else "<f4"
        known = labels if labels.ndim == 1 else np.where(np.isnan(labels), -1, labels)  # NaN has several bit patterns
        hashed.update(repr(labels.shape).encode() + known.astype(kind).tobytes())
    return hashed.hexdigest()[:16]


def _partition(films: npt.NDArray[np.int64]) -> bytes:
    """Which readings share a film, whatever the films' numbers."""
    _, first, which = np.unique(films, return_index=True, return_inverse=True)
    return first[which].astype("<i8").tobytes()


def measure_digest(measure: GazeSimilarity) -> str:
    """Hash of a measure's class, arguments and version (its own, not the package's): 8 hexadecimal digits."""
    return measure_digest_of(type(measure).__name__, measure.parameters, measure.version)


def measure_digest_of(name: str, parameters: dict[str, object], version: int) -> str:
    """`measure_digest` from the class's name, the arguments and the version."""
    content = [name, parameters, version]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def relation_digest(gaze: str, measure: str, threshold: float) -> str:
    """Hash that names a relation matrix: 16 hexadecimal digits.

    Args:
        gaze: of the readings, see `gaze_digest`.
        measure: see `measure_digest`.
        threshold: of the matrix.
    """
    return hashlib.sha256(json.dumps([gaze, measure, threshold]).encode()).hexdigest()[:16]
