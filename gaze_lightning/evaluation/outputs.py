"""What a model said about each sample of a test or prediction set, every sample once."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gaze_lightning.evaluation.files import replacing


@dataclass(frozen=True)
class SampleRow:
    """One sample, small enough to be sent between processes.

    Attributes:
        sample_id: real id of the reading.
        subject: real id of the patient.
        probability: ``K`` values in [0, 1]; none for data without labels.
        label: class index, ``K`` values in {0, 1, NaN}, or None in prediction.
        values: further values by name, e.g. gaze agreement; NaN: undefined for this sample.
        extra: ``K`` probabilities each of further classifiers by name, e.g. ``knn``.
    """

    sample_id: str
    subject: str
    probability: tuple[float, ...]
    label: int | tuple[float, ...] | None
    values: dict[str, float]
    extra: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleOutputs:
    """The rows as arrays, every sample once.

    Attributes:
        sample_id: ``n`` real ids, no two alike.
        subject: ``n`` patients.
        probability: float64 ``[n, K]``, ``[n, 0]`` without classes.
        label: int64 ``[n]`` (single-label), float64 ``[n, K]`` in {0, 1, NaN} (multi-label), or None.
        values: float64 ``[n]`` by name; NaN: undefined.
        n_dropped: how many repeated rows were left out (distributed samplers repeat samples to fill up).
        extra: float64 ``[n, K]`` probabilities of further classifiers by name.
    """

    sample_id: list[str]
    subject: list[str]
    probability: npt.NDArray[np.float64]
    label: npt.NDArray[Any] | None
    values: dict[str, npt.NDArray[np.float64]]
    n_dropped: int = 0
    extra: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.sample_id)

    @classmethod
    def from_rows(cls, rows: Sequence[SampleRow]) -> "SampleOutputs":
        """Stack rows; of rows with the same sample id the first is kept.

        Args:
            rows: of all processes.

        Raises:
            ValueError: there are no rows, or a further classifier speaks of some samples only.
        """
        if not rows:
            raise ValueError("no sample was evaluated: the loader is empty, or the step returned no probabilities")
        unique: dict[str, SampleRow] = {}
        for row in rows:
            unique.setdefault(row.sample_id, row)
        kept = list(unique.values())
        names = list(dict.fromkeys(name for row in kept for name in row.values))
        classifiers = list(dict.fromkeys(name for row in kept for name in row.extra))
        for name in classifiers:
            silent = sum(name not in row.extra for row in kept)
            if silent:
                raise ValueError(f"{silent} of {len(kept)} samples lack the probabilities of {name!r}")
        first = kept[0].label
        label: npt.NDArray[Any] | None = None
        if first is not None:
            kind = np.int64 if isinstance(first, int) else np.float64
            label = np.asarray([row.label for row in kept], dtype=kind)
        return cls(
            sample_id=[row.sample_id for row in kept],
            subject=[row.subject for row in kept],
            probability=np.asarray([row.probability for row in kept], dtype=np.float64),
            label=label,
            values={
                name: np.asarray([row.values.get(name, np.nan) for row in kept], dtype=np.float64) for name in names
            },
            n_dropped=len(rows) - len(kept),
            extra={name: np.asarray([row.extra[name] for row in kept], dtype=np.float64) for name in classifiers},
        )

    def write_csv(self, path: Path, class_names: Sequence[str], label_type: Literal["single", "multi"]) -> None:
        """Write one row per sample, numbers with all their digits, undefined values empty.

        Columns: ``sample_id``, ``subject``; with labels ``label`` (the class's name) or ``label_<class>``; with
        predictions alone ``predicted`` (the class's name; multi-label: the names at probability 0.5 or more, joined
        by ``|``); ``prob_<class>``; then one column per further value; then, of each further classifier,
        ``<its name>_prob_<class>``. Without classes there are ``sample_id``,
        ``subject`` and the further values only.

        Args:
            path: the file; it appears complete or not at all.
            class_names: ``K`` names, or none.
            label_type: what ``label`` holds.
        """
        header = ["sample_id", "subject"]
        if class_names and self.label is None:
            header.append("predicted")
        elif class_names:
            header += ["label"] if label_type == "single" else [f"label_{name}" for name in class_names]
        header += [f"prob_{name}" for name in class_names] + list(self.values)
        header += [f"{classifier}_prob_{name}" for classifier in self.extra for name in class_names]
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for i in range(len(self)):
                numbers = [*self.probability[i], *(values[i] for values in self.values.values())]
                numbers += [number for probability in self.extra.values() for number in probability[i]]
                said = self._said(i, class_names, label_type)
                writer.writerow([self.sample_id[i], self.subject[i], *said, *(_exact(x) for x in numbers)])

    def _said(self, i: int, class_names: Sequence[str], label_type: Literal["single", "multi"]) -> list[str]:
        if not class_names:
            return []
        if self.label is None:
            return ["|".join(class_names[k] for k in predicted_classes(self.probability[i], label_type))]
        if label_type == "single":
            index = int(self.label[i])
            return [class_names[index] if index >= 0 else ""]
        return ["" if np.isnan(x) else str(int(x)) for x in self.label[i]]


def predicted_classes(probability: npt.NDArray[np.floating[Any]], label_type: Literal["single", "multi"]) -> list[int]:
    """Which classes a prediction names.

    Args:
        probability: ``[K]``.
        label_type: single-label: the most probable class; multi-label: all at 0.5 or more, the most probable first.

    Returns:
        Class indices; in multi-label possibly none.
    """
    order = [int(k) for k in np.argsort(-probability, kind="stable")]
    return order[:1] if label_type == "single" else [k for k in order if probability[k] >= 0.5]


def rows_of(outputs: dict[str, Any]) -> list[SampleRow]:
    """Take the small part of what ``test_step`` or ``predict_step`` returns to the CPU; CAMs are left out.

    Args:
        outputs: ``sample_id``, ``probability`` ``[B, K]`` and, where known, ``subject``, ``label``, ``values`` and
            ``extra_probabilities``: ``[B, K]`` of further classifiers by name.

    Returns:
        ``B`` rows. Without a subject each sample counts as its own.
    """
    ids = list(outputs["sample_id"])
    subjects = list(outputs.get("subject") or ids)
    probability = _array(outputs["probability"])
    given = outputs.get("label")
    label = None if given is None else _array(given)
    values = {name: _array(value) for name, value in (outputs.get("values") or {}).items()}
    extra = {name: _array(value) for name, value in (outputs.get("extra_probabilities") or {}).items()}
    return [
        SampleRow(
            sample_id=ids[i],
            subject=subjects[i],
            probability=tuple(float(p) for p in probability[i]),
            label=None if label is None else (int(label[i]) if label.ndim == 1 else tuple(float(x) for x in label[i])),
            values={name: float(value[i]) for name, value in values.items()},
            extra={name: tuple(float(p) for p in value[i]) for name, value in extra.items()},
        )
        for i in range(len(ids))
    ]


def _array(tensor: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(tensor.detach().double().cpu().numpy(), dtype=np.float64)


def _exact(number: float) -> str:
    return "" if np.isnan(number) else repr(float(number))
