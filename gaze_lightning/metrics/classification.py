"""Classification results with NaN where a value is undefined, from probabilities only."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

_SMALLEST = torch.finfo(torch.float64).eps


class ClassificationReport(Metric):
    """AUROCs, accuracy, F1 and negative log-likelihood of one stage, over all samples at once.

    Keeps probabilities and labels until ``compute`` (``dist_reduce_fx='cat'``), so the values are exact and do not
    depend on batches or ranks.

    ``compute`` returns flat float64 scalars:

    - ``auroc/<class>``: one class against the rest, over entries with a known label; NaN where positives or negatives
      are missing. ``auroc_macro``: mean over the defined ones, ``n_classes_defined`` their number.
    - ``auroc_micro``: all decisions pooled: every known entry of every class is one sample, scored by its probability.
      Knowing nothing but the classes' frequencies gives more than 0.5 where they differ.
    - ``auroc_pair/<a>_vs_<b>`` (single-label, a before b in ``class_names``): samples of the two classes only, scored
      by ``p_b / (p_a + p_b)`` (one half where both are zero), b positive.
    - ``auroc_ovo`` (single-label): mean over defined pairs of Hand and Till's A(a, b) (Machine Learning 45, 2001),
      which scores a pair by p_a and by p_b alone; equals scikit-learn's ``multi_class="ovo"``.
    - ``accuracy``: single-label by arg-max; multi-label the mean over known entries of ``(p >= 0.5) == label``.
    - ``f1_macro``: mean of ``2 TP / (2 TP + FP + FN)`` over the classes with a known positive, decided by arg-max
      (single-label) or ``p >= 0.5`` over known entries (multi-label). A class with positives that is never predicted
      has F1 0; one without positives is left out even where it is predicted (scikit-learn counts it as 0 by default).
    - ``nll``: nats; single-label ``-log p_label``, multi-label binary cross-entropy over known entries; probabilities
      are clipped at 2.2e-16.
    - ``n``: samples.

    Args:
        class_names: One name per column, unique.
        label_type: ``single``: an index per sample; ``multi``: 0, 1 or NaN (unknown) per sample and class.
        kwargs: Passed to :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If class names repeat or are missing, or the label type is unknown.
    """

    full_state_update = False
    is_differentiable = False
    probability: list[Tensor]
    label: list[Tensor]

    def __init__(self, class_names: Sequence[str], label_type: Literal["single", "multi"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not class_names or len(set(class_names)) != len(class_names):
            raise ValueError(f"class_names must be present and unique, got {list(class_names)}")
        if label_type not in ("single", "multi"):
            raise ValueError(f"label_type must be 'single' or 'multi', got {label_type!r}")
        self.class_names = list(class_names)
        self.label_type = label_type
        self.add_state("probability", default=[], dist_reduce_fx="cat")
        self.add_state("label", default=[], dist_reduce_fx="cat")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values that ``compute`` returns."""
        names = ["auroc_macro", "auroc_micro", *(f"auroc/{name}" for name in self.class_names)]
        if self.label_type == "single":
            names += [f"auroc_pair/{a}_vs_{b}" for a, b in combinations(self.class_names, 2)] + ["auroc_ovo"]
        return (*names, "accuracy", "f1_macro", "nll", "n", "n_classes_defined")

    def update(self, probability: Tensor, label: Tensor) -> None:
        """Add probabilities ``[B, K]`` in [0, 1], not logits, and labels: ``[B]`` indices or ``[B, K]`` in {0, 1, NaN}.

        Raises:
            ValueError: If shapes differ, a probability is NaN or outside [0, 1], or a label is not one of those values.
        """
        n_classes = len(self.class_names)
        if probability.ndim != 2 or probability.shape[1] != n_classes:
            raise ValueError(f"probability must be [B, {n_classes}], got {tuple(probability.shape)}")
        expected = probability.shape[:1] if self.label_type == "single" else probability.shape
        if label.shape != expected:
            raise ValueError(f"{self.label_type}-label must be {tuple(expected)}, got {tuple(label.shape)}")
        probability = probability.detach().double()
        bad = ~((probability >= 0) & (probability <= 1)).all(1)
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} of {len(bad)} samples have NaN scores or scores outside [0, 1]: pass probabilities"
            )
        if self.label_type == "single":
            if label.is_floating_point() or bool(((label < 0) | (label >= n_classes)).any()):
                raise ValueError(f"labels must be class indices from 0 to {n_classes - 1}")
            label = label.long()
        else:
            label = label.double()
            if not bool(((label == 0) | (label == 1) | torch.isnan(label)).all()):
                raise ValueError("labels must be 0, 1 or NaN")
        self.probability.append(probability)
        self.label.append(label)

    def compute(self) -> dict[str, Tensor]:
        """Return the values listed in the class docstring."""
        if len(self.probability) == 0:  # a list, or one tensor after synchronisation
            probability = torch.zeros((0, len(self.class_names)), dtype=torch.float64, device=self.device)
            label = probability[:, 0].long() if self.label_type == "single" else probability
        else:
            probability, label = dim_zero_cat(self.probability), dim_zero_cat(self.label)
        single = self.label_type == "single"
        target = torch.nn.functional.one_hot(label, len(self.class_names)).double() if single else label
        per_class = torch.stack([_auroc(p, t) for p, t in zip(probability.T, target.T, strict=True)])
        result = {"auroc_macro": per_class.nanmean(), "auroc_micro": _auroc(probability.flatten(), target.flatten())}
        result |= {f"auroc/{name}": value for name, value in zip(self.class_names, per_class, strict=True)}
        result |= self._pairs(probability, label) if single else {}
        if single:
            first = probability.argmax(1)
            decided = torch.nn.functional.one_hot(first, len(self.class_names)).bool()
            right = (first == label).double()
            nll = -probability.gather(1, label[:, None]).clamp(min=_SMALLEST).log()
        else:
            decided = probability >= 0.5
            known = ~torch.isnan(target)
            p, t = probability[known], target[known]
            right = ((p >= 0.5) == t.bool()).double()
            nll = -torch.where(t.bool(), p, 1 - p).clamp(min=_SMALLEST).log()
        result |= {
            "accuracy": right.mean(),
            "f1_macro": _f1_macro(decided, target),
            "nll": nll.mean(),
            "n": per_class.new_tensor(len(probability)),
            "n_classes_defined": (~torch.isnan(per_class)).sum().double(),
        }
        return result

    def _pairs(self, probability: Tensor, label: Tensor) -> dict[str, Tensor]:
        result, hand_till = {}, [probability.new_tensor(torch.nan)]
        for a, b in combinations(range(len(self.class_names)), 2):
            rows = (label == a) | (label == b)
            p_a, p_b, is_b = probability[rows, a], probability[rows, b], (label[rows] == b).double()
            both = p_a + p_b
            share = torch.where(both > 0, p_b / torch.where(both > 0, both, 1.0), 0.5)
            result[f"auroc_pair/{self.class_names[a]}_vs_{self.class_names[b]}"] = _auroc(share, is_b)
            hand_till.append((_auroc(p_a, 1 - is_b) + _auroc(p_b, is_b)) / 2)
        return result | {"auroc_ovo": torch.stack(hand_till).nanmean()}


def _f1_macro(decided: Tensor, target: Tensor) -> Tensor:
    """Mean F1 of the classes with a positive, float64; NaN without one; unknown entries (NaN) do not count."""
    positive = target == 1
    hits = (decided & positive).sum(0).double()
    wrong = (decided & (target == 0)).sum(0) + (~decided & positive).sum(0)
    supported = positive.any(0)
    return (2 * hits / (2 * hits + wrong))[supported].mean()


def _auroc(score: Tensor, target: Tensor) -> Tensor:
    """Area under the ROC curve over known targets, float64; NaN without a positive or without a negative."""
    known = ~torch.isnan(target)
    score, positive = score[known], target[known] == 1
    if not positive.any() or positive.all():
        return score.new_tensor(torch.nan)
    return binary_auroc(score, positive.long()).double()
