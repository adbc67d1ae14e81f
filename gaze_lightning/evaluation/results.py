"""From one row per sample to the table of results: values, patient-clustered intervals, counts, chance rates."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gaze_lightning.evaluation.classification import classification_results
from gaze_lightning.evaluation.files import replacing
from gaze_lightning.evaluation.measured import Array, Bootstrap, Measured, Reference
from gaze_lightning.evaluation.outputs import SampleOutputs
from gaze_lightning.metrics.saliency_agreement import AGREEMENT_VALUES, REFERENCES

DIFFERENCE = "_vs_mean_map"
"""Ends the names of paired differences: a model's value minus that of the mean training map, reading by reading."""


@dataclass(frozen=True)
class Results:
    """All numbers of one evaluation.

    Attributes:
        metrics: by name: ``auroc_macro``, ``auroc_micro``, ``auroc/<class>``, ``auroc_pair/<a>_vs_<b>``, ``auroc_ovo``,
            ``accuracy``, ``f1_macro``, ``nll`` (defined in :class:`gaze_lightning.metrics.ClassificationReport`; none
            of them without classes), then the mean of each per-sample value over the samples that have it, after each
            agreement with gaze its paired difference ``<name>_vs_mean_map``. Of each further classifier
            ``auroc_macro``, ``auroc/<class>``, ``accuracy`` and ``nll`` with its name before them, e.g.
            ``knn/auroc_macro``.
        n: samples.
        n_subjects: patients.
        class_names: in the order of the probability columns; empty for data without labels.
        label_type: ``single`` or ``multi``.
        data: one line that says what the samples are.
        level: coverage of the intervals.
        n_boot: resamples of patients behind each interval.
        seed: of the resampling.
        classifier: what the main classification is by, e.g. a linear probe; empty: by the model itself.
        notes: sentences without which the values would be misread.
    """

    metrics: dict[str, Measured]
    n: int
    n_subjects: int
    class_names: tuple[str, ...]
    label_type: Literal["single", "multi"]
    data: str = ""
    level: float = 0.95
    n_boot: int = 1000
    seed: int = 0
    classifier: str = ""
    notes: tuple[str, ...] = ()

    def values(self) -> dict[str, float]:
        """The bare values by name, and ``n``."""
        return {name: measured.value for name, measured in self.metrics.items()} | {"n": float(self.n)}

    def to_json(self) -> str:
        """Plain JSON with all digits; undefined numbers are ``null``."""
        content = {"format": 1, **asdict(self)}
        return json.dumps(_without_nan(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def save(self, path: Path) -> None:
        """Write :meth:`to_json`; the file appears complete or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what :meth:`save` wrote.

        Args:
            path: a ``results.json``.

        Raises:
            ValueError: the file is not one of ours; the message names it.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != 1:
                raise ValueError("another format")
            metrics = {name: Measured.from_json(given) for name, given in content.pop("metrics").items()}
            class_names, notes = tuple(content.pop("class_names")), tuple(content.pop("notes", ()))
            return cls(metrics=metrics, class_names=class_names, notes=notes, **content)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is not a results.json of this version ({error}); test the run again") from error


def compute_results(
    outputs: SampleOutputs,
    class_names: Sequence[str],
    label_type: Literal["single", "multi"],
    *,
    data: str = "",
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    classifier: str = "",
    notes: Sequence[str] = (),
) -> Results:
    """Compute every number with its interval.

    Args:
        outputs: samples, each once. A value called ``<name>_chance`` becomes the chance rate of ``<name>``. Values of
            :func:`gaze_lightning.metrics.gaze_references` become the references of ``saliency_*``, ``gaze_*`` and
            ``attention_*``; of the mean map's, the paired difference is measured as well: over the readings where both
            are defined.
        class_names: ``K`` names; without any, the outputs have no probabilities and need no labels.
        label_type: what ``outputs.label`` holds.
        data: one line that says what the samples are.
        n_boot: resamples of patients.
        seed: of the resampling.
        level: coverage of the intervals.
        classifier: what the probabilities come from; empty: from the model itself.
        notes: sentences without which the values would be misread.

    Raises:
        ValueError: no labels, probabilities that are NaN, outside [0, 1] or not one per class, or labels that do not
            fit.
    """
    if outputs.probability.shape[1] != len(class_names):
        raise ValueError(f"{outputs.probability.shape[1]} probabilities per sample for {len(class_names)} class names")
    for name, further in outputs.extra.items():
        if further.ndim != 2 or further.shape[1] != len(class_names):
            raise ValueError(f"probabilities of {name!r} are {further.shape} for {len(class_names)} class names")
    boot = Bootstrap(outputs.subject, n_boot, seed, level)
    metrics: dict[str, Measured] = {}
    if class_names:
        if outputs.label is None:
            raise ValueError("results need labels: these outputs are predictions")
        metrics |= classification_results(outputs.probability, outputs.label, class_names, label_type, boot)
        for name, further in outputs.extra.items():
            of_it = classification_results(further, outputs.label, class_names, label_type, boot)
            metrics |= {f"{name}/{metric}": measured for metric, measured in of_it.items() if _is_told(metric)}
    beside = {f"{reference}_{name}" for reference in REFERENCES for name in AGREEMENT_VALUES}
    for name, values in outputs.values.items():
        if name.endswith("_chance") or name in beside:
            continue
        metrics[name] = _mean(name, values, outputs.values, boot)
        mean_map = outputs.values.get(f"mean_map_{_agreement(name)}")
        if mean_map is not None:
            metrics[name + DIFFERENCE] = boot.mean(
                values - mean_map, "no sample has this value and that of the mean map"
            )
    return Results(
        metrics=metrics,
        n=len(outputs),
        n_subjects=len(set(outputs.subject)),
        class_names=tuple(class_names),
        label_type=label_type,
        data=data,
        level=level,
        n_boot=n_boot,
        seed=seed,
        classifier=classifier,
        notes=tuple(notes),
    )


def _is_told(metric: str) -> bool:
    """Whether a value of a further classifier stands in the table, which the others would make hard to read."""
    return metric in ("auroc_macro", "accuracy", "nll") or metric.startswith("auroc/")


def _mean(name: str, values: Array, others: Mapping[str, Array], boot: Bootstrap) -> Measured:
    """Mean of a per-sample value with its interval, and beside it chance and references on the same samples."""
    known = np.isfinite(values)
    measured = boot.mean(values, "no sample has this value")
    chance = others.get(f"{name}_chance")
    if chance is not None and known.any():
        measured = replace(measured, chance=float(np.nanmean(chance[known])))
    references = {}
    for reference in REFERENCES:
        other = others.get(f"{reference}_{_agreement(name)}")
        both = known if other is None else known & np.isfinite(other)
        if other is not None and both.any():
            references[reference] = Reference(float(other[both].mean()), int(both.sum()), float(values[both].mean()))
    return replace(measured, references=references)


def _agreement(name: str) -> str:
    """Which agreement of a map with gaze a value is, e.g. ``cc`` of ``saliency_cc``; empty: none."""
    of, _, agreement = name.partition("_")
    return agreement if of in ("saliency", "gaze", "attention") and agreement in AGREEMENT_VALUES else ""


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
