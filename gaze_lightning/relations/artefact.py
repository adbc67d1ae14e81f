"""A relation matrix in a folder of its own: ``positives.npz`` and ``meta.json``."""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaze_lightning import __version__
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.evaluation.files import replacing
from gaze_lightning.gaze.similarity import RelationMatrix
from gaze_lightning.relations.statistics import RelationStatistics
from gaze_lightning.relations.thresholds import Threshold

FORMAT = 2
_POSITIVES, _META = "positives.npz", "meta.json"


@dataclass(frozen=True)
class Artefact:
    """Relations and where they come from.

    Attributes:
        relations: rows sorted by id.
        measure: name of the measure's class.
        parameters: its arguments.
        version: of its definition, see `GazeSimilarity`.
        asked: the threshold that was asked for.
        gaze: digest of the readings, see `gaze_digest`.
        statistics: of when it was built.
        folder: where it lies.
        code: version of this package that built it.
    """

    relations: RelationMatrix
    measure: str
    parameters: dict[str, object]
    version: int
    asked: Threshold
    gaze: str
    statistics: RelationStatistics
    folder: Path
    code: str = __version__

    @property
    def description(self) -> str:
        """The measure with its arguments: ``MapCC(size=32)``."""
        values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in self.parameters.items()}
        return f"{self.measure}({', '.join(f'{name}={value}' for name, value in values.items())})"


def save_artefact(artefact: Artefact) -> None:
    """Write the files into the artefact's folder; each appears complete, ``meta.json`` last."""
    relations = artefact.relations
    with replacing(artefact.folder / _POSITIVES) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            ids=np.array(relations.ids, dtype=np.str_),
            valid=relations.valid,
            indptr=relations.indptr,
            indices=relations.indices,
            scores=relations.scores,
            threshold=np.float64(relations.threshold),
            digest=np.str_(relations.digest),
        )
    meta = {
        "format": FORMAT,
        "measure": artefact.measure,
        "parameters": artefact.parameters,
        "version": artefact.version,
        "tau": artefact.asked.tau,
        "positive_rate": artefact.asked.positive_rate,
        "threshold": relations.threshold,
        "gaze": artefact.gaze,
        "digest": relations.digest,
        "readings": len(relations),
        "code": artefact.code,
        "statistics": artefact.statistics.to_json(),
    }
    with replacing(artefact.folder / _META) as temporary:
        temporary.write_text(json.dumps(meta, indent=2) + "\n")


def is_artefact(folder: Path) -> bool:
    """Whether a folder holds a finished artefact."""
    return (folder / _META).is_file()


def load_artefact(path: Path, gaze: str | None = None) -> Artefact:
    """Read relations that were built before.

    Args:
        path: the folder, or one of the files in it.
        gaze: digest of the readings that the relations must have been made from; None: any.

    Raises:
        ConfigurationError: there are none, they cannot be read, have another format, or are of other gaze.
    """
    folder = path.parent if path.name in (_POSITIVES, _META) else path
    if not is_artefact(folder):
        raise ConfigurationError(
            f"{folder} holds no relations ({_META} is missing): give the folder that gaze-lightning relations prints"
        )
    meta = _read_meta(folder / _META)
    try:
        relations = _read_positives(folder / _POSITIVES)
        statistics = RelationStatistics.from_json(meta["statistics"])
        asked = Threshold(meta["tau"], meta["positive_rate"])
        artefact = Artefact(
            relations=relations,
            measure=meta["measure"],
            parameters=meta["parameters"],
            version=int(meta["version"]),
            asked=asked,
            gaze=meta["gaze"],
            statistics=statistics,
            folder=folder,
            code=meta["code"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigurationError(
            f"The relations in {folder} cannot be read ({type(error).__name__}: {error}): delete the folder and build "
            "them again"
        ) from error
    if relations.digest != meta["digest"] or len(relations) != meta["readings"]:
        raise ConfigurationError(
            f"{_POSITIVES} ({len(relations)} readings, {relations.digest}) and {_META} ({meta['readings']} readings, "
            f"{meta['digest']}) in {folder} are not of one matrix: delete the folder and build it again"
        )
    if gaze is not None and artefact.gaze != gaze:
        raise ConfigurationError(
            f"The relations in {folder} were made from other gaze (digest {artefact.gaze}, that of these training "
            f"readings is {gaze}): fixations, frame or films have changed. Build them from these data (gaze-lightning "
            "relations, or leave file out), or use the data that they were made from."
        )
    return artefact


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text())
        found = meta.get("format") if isinstance(meta, dict) else None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON ({error}): delete the folder and build it again") from error
    if found != FORMAT:
        raise ConfigurationError(
            f"{path} has format {found!r}, this version reads {FORMAT}: build the relations again (gaze-lightning "
            "relations)"
        )
    return dict(meta)


def _read_positives(path: Path) -> RelationMatrix:
    with np.load(path, allow_pickle=False) as arrays:
        return RelationMatrix(
            ids=tuple(arrays["ids"].tolist()),
            valid=arrays["valid"],
            indptr=arrays["indptr"],
            indices=arrays["indices"],
            scores=arrays["scores"],
            threshold=float(arrays["threshold"]),
            digest=str(arrays["digest"]),
        )
