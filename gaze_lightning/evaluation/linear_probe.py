"""How much of the classes a linear function of frozen features tells."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, logit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from gaze_lightning.metrics.functional.label_targets import label_targets
from gaze_lightning.metrics.statistics import weighted_auroc
from gaze_lightning.protocols import LabelType

Array = npt.NDArray[np.float64]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""L2 penalties per film that are tried where there is a validation part: the same for few films and for many."""
FIXED_STRENGTH = 0.1
"""The penalty without a validation part: strong, since features outnumber films in small data."""
_MAX_ITER = 3000
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """L2-regularised logistic regression on features standardised by those of the training films.

    The penalised objective is ``mean of the films' losses + strength / 2 * |weights|^2``, the intercept free (that of
    scikit-learn's ``LogisticRegression`` with ``C = 1 / (strength n)``): a strength means the same for any number of
    films. Single-label: multinomial. Multi-label: one binary probe per class on the ``n`` films whose label of it is
    known. What cannot be learned is counted: a class of which the
    training films have one outcome (multi-label) has the smoothed rate ``(positives + 1) / (known + 2)`` everywhere, a
    class without a training film (single-label) ``1 / (n + K)``, the other classes sharing the rest.

    Attributes:
        mean: float64 ``[C]`` of the training features.
        scale: float64 ``[C]``, their standard deviation; 1 where it is 0.
        weight: float64 ``[K, C]``, of standardised features; 0 for classes that are counted.
        bias: float64 ``[K]``, of the logits; of a counted class in multi-label the logit of its rate.
        counted: float64 ``[K]``: probability of single-label classes that no training film has; 0 of all others.
        label_type: ``single`` (softmax) or ``multi`` (sigmoids).
        strength: the L2 penalty per film that was chosen.
        validation_auroc: macro AUROC of the validation part with it; NaN where nothing was chosen by it.
        converged: whether every fit that took part in the choice converged.
    """

    mean: Array
    scale: Array
    weight: Array
    bias: Array
    counted: Array
    label_type: LabelType
    strength: float
    validation_auroc: float = float("nan")
    converged: bool = True

    @classmethod
    def fit(
        cls,
        features: npt.NDArray[np.floating[Any]],
        label: npt.NDArray[Any],
        label_type: LabelType,
        num_classes: int,
        validation: tuple[npt.NDArray[np.floating[Any]], npt.NDArray[Any]] | None = None,
        strengths: Sequence[float] = STRENGTHS,
    ) -> Self:
        """Fit one probe per strength and keep the one with the highest macro AUROC on the validation part.

        Of equal ones the most strongly regularised is kept. Without a validation part, or where it defines no AUROC
        (each class has one outcome only), the strength is ``FIXED_STRENGTH``. The strongest is fitted first and each
        further one starts from the solution before it, so that few iterations are needed. Deterministic; the validation
        films are never trained on.

        Args:
            features: ``[n, C]``, of the training films.
            label: int ``[n]`` (single-label, negative: unknown, left out) or float ``[n, K]`` in {0, 1, NaN}
                (multi-label).
            label_type: which of the two.
            num_classes: ``K``.
            validation: features and labels of other films, or None.
            strengths: L2 penalties per film to choose from, positive.

        Raises:
            ValueError: shapes, features or labels that do not fit, or strengths that are not positive.

        Warns:
            UserWarning: a fit did not converge.
        """
        if not strengths or min(strengths) <= 0:
            raise ValueError(f"strengths are {list(strengths)}: one or more positive numbers are needed")
        features, label = _checked(features, label, label_type, num_classes, "training")
        if label_type == "single":
            features, label = features[label >= 0], label[label >= 0]
        if len(features) == 0:
            raise ValueError("no training film has a label: a linear probe needs some")
        mean, scale = features.mean(axis=0), features.std(axis=0)
        # equal values have a deviation of rounding errors, which must not be blown up
        scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(features).max(axis=0)] = 1.0
        standard = (features - mean) / scale
        tried: list[Self] = []
        held_out = None
        if validation is not None:
            held_out = _checked(*validation, label_type, num_classes, "validation")
            if held_out[0].shape[1] != features.shape[1]:
                raise ValueError(f"{held_out[0].shape[1]} validation features, but {features.shape[1]} for training")
        target = None if held_out is None else _targets(held_out[1], num_classes, label_type)
        if target is None or not ((target == 1).any(axis=0) & (target == 0).any(axis=0)).any():
            held_out, strengths = None, (FIXED_STRENGTH,)
        models: dict[int, LogisticRegression] = {}
        for strength in sorted(set(strengths), reverse=True):
            fitted = _fit(standard, label, label_type, num_classes, strength, models)
            probe = cls(mean, scale, fitted.weight, fitted.bias, fitted.counted, label_type, float(strength))
            if held_out is not None and target is not None:
                auroc = _macro_auroc(probe.probabilities(held_out[0]), target)
                probe = replace(probe, validation_auroc=auroc)
            tried.append(replace(probe, converged=fitted.converged))
        late = [f"{probe.strength:g}" for probe in tried if not probe.converged]
        if late:
            warnings.warn(
                f"the linear probe with L2 strength {', '.join(late)} did not converge in {_MAX_ITER} iterations: its"
                " values are a little off. Leave small strengths out, or look for outliers in the features.",
                UserWarning,
                stacklevel=2,
            )
        best = tried[0]
        for probe in tried[1:]:
            best = probe if probe.validation_auroc > best.validation_auroc else best
        return replace(best, converged=not late)

    def probabilities(self, features: npt.NDArray[np.floating[Any]]) -> Array:
        """Classify.

        Args:
            features: ``[n, C]``.

        Returns:
            float64 ``[n, K]`` in [0, 1]; in single-label each row sums to 1.

        Raises:
            ValueError: another number of features.
        """
        features = np.asarray(features, dtype=np.float64)
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features must be [n, {len(self.mean)}], got {features.shape}")
        logits = (features - self.mean) / self.scale @ self.weight.T + self.bias
        if self.label_type == "multi":
            return np.asarray(expit(logits))
        learned = softmax(np.where(self.counted > 0, -np.inf, logits), axis=1)
        return np.asarray(self.counted + (1 - self.counted.sum()) * learned)


@dataclass(frozen=True, eq=False)
class _Fitted:
    weight: Array
    bias: Array
    counted: Array
    converged: bool


def _fit(
    standard: Array,
    label: npt.NDArray[Any],
    label_type: LabelType,
    classes: int,
    strength: float,
    models: dict[int, LogisticRegression],
) -> _Fitted:
    """Fit all classes; ``models``, by class, are those of the strength before, and become those of this one."""
    weight, bias, counted = np.zeros((classes, standard.shape[1])), np.zeros(classes), np.zeros(classes)
    if label_type == "single":
        seen = np.unique(label)
        counted[np.setdiff1d(np.arange(classes), seen)] = 1 / (len(label) + classes)
        if len(seen) == 1:
            return _Fitted(weight, bias, counted, True)
        w, b, converged = _logistic_regression(models, 0, standard, label, strength)
        # of two classes scikit-learn returns the logit of the second one
        weight[seen], bias[seen] = (np.concatenate([0 * w, w]), np.append(0 * b, b)) if len(seen) == 2 else (w, b)
        return _Fitted(weight, bias, counted, converged)
    converged = True
    for k in range(classes):
        known = ~np.isnan(label[:, k])
        positive, n = float(label[known, k].sum()), float(known.sum())
        if 0 < positive < n:
            w, b, done = _logistic_regression(models, k, standard[known], label[known, k].astype(np.int64), strength)
            weight[k], bias[k], converged = w[0], b[0], converged and done
        else:
            bias[k] = logit((positive + 1) / (n + 2))
    return _Fitted(weight, bias, counted, converged)


def _logistic_regression(
    models: dict[int, LogisticRegression], which: int, standard: Array, label: npt.NDArray[Any], strength: float
) -> tuple[Array, Array, bool]:
    """Coefficients, intercepts and whether the fit converged; warnings of other kinds pass."""
    model = models.setdefault(which, LogisticRegression(tol=_TOLERANCE, max_iter=_MAX_ITER, warm_start=True))
    model.set_params(C=1 / (strength * len(standard)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(standard, label)
    late = [one for one in caught if issubclass(one.category, ConvergenceWarning)]
    for one in caught:
        if one not in late:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return model.coef_.copy(), model.intercept_.copy(), not late


def _checked(
    features: npt.NDArray[np.floating[Any]], label: npt.NDArray[Any], label_type: LabelType, classes: int, part: str
) -> tuple[Array, npt.NDArray[Any]]:
    values: Array = np.asarray(features, dtype=np.float64)
    label = np.asarray(label)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(
            f"{part} features must be a finite [n, C], got {values.shape}; NaN or infinite: "
            f"{int((~np.isfinite(values)).sum())}"
        )
    shape = (len(values),) if label_type == "single" else (len(values), classes)
    if label.shape != shape:
        raise ValueError(f"{part} labels must be {list(shape)}, got {list(label.shape)}")
    if label_type == "multi":
        if not (np.isnan(label) | (label == 0) | (label == 1)).all():
            raise ValueError(f"{part} labels must be 0, 1 or NaN")
    elif len(label) and label.max() >= classes:
        raise ValueError(f"a {part} label is {label.max()}, but there are {classes} classes")
    return values, label


def _targets(label: npt.NDArray[Any], classes: int, label_type: LabelType) -> Array:
    """``[n, K]`` in {0, 1, NaN}."""
    kind = np.int64 if label_type == "single" else np.float64
    target: Array = label_targets(torch.from_numpy(label.astype(kind)), classes, label_type).double().numpy()
    return target


def _macro_auroc(probability: Array, targets: Array) -> float:
    """Mean over the classes that have both outcomes; ``targets`` ``[n, K]`` in {0, 1, NaN}."""
    values = []
    for score, target in zip(probability.T, targets.T, strict=True):
        known = ~np.isnan(target)
        if 0 < target[known].sum() < known.sum():
            values.append(float(weighted_auroc(score[known], target[known], np.ones((1, int(known.sum()))))[0]))
    return float(np.mean(values))
