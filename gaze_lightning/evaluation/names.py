"""What metrics are called when people read them."""

from gaze_lightning.evaluation.results import DIFFERENCE

_NAMES = {
    "auroc_macro": "AUROC, mean of classes",
    "auroc_micro": "AUROC, all decisions pooled",
    "auroc_ovo": "AUROC, mean of pairs",
    "f1_macro": "F1, mean of classes",
    "nll": "negative log-likelihood",
    "pointing_lesion": "pointing game, lesion",
    "pointing_anatomy": "pointing game, heart/lungs",
    "pointing_anatomy_cells": "same, 3x3 cells (published)",
    "energy_lesion": "energy inside lesion",
    "iou_lesion": "IoU with lesion",
}
_AGREEMENT = {"cc": "CC", "kl": "KL divergence", "sim": "SIM", "nss": "NSS", "auc_judd": "AUC-Judd"}
_MAPS = {"saliency": "predicted gaze", "gaze": "CAM", "attention": "attention map"}
_CLASSIFIERS = {"knn": "k nearest neighbours"}
_LOWER_IS_BETTER = {"nll", "gaze_kl", "saliency_kl", "attention_kl"}


def readable_name(name: str, section: bool = False) -> str:
    """Write a metric's name for people.

    Args:
        name: as in ``results.json``.
        section: the name stands under a title that says which map it is about.

    Returns:
        For example ``AUROC Normal vs CHF`` or ``CC, predicted gaze`` (in its section ``CC``); of a further classifier
        ``accuracy, k nearest neighbours`` (in its section ``accuracy``); unknown names come back with spaces for
        underscores.
    """
    if name.endswith(DIFFERENCE):
        return f"{readable_name(name.removesuffix(DIFFERENCE), section)} minus mean map"
    classifier, metric = split_classifier(name)
    if classifier:
        readable = readable_name(metric, section)
        return readable if section else f"{readable}, {readable_classifier(classifier)}"
    match name.split("/", 1):
        case ["auroc", cls]:
            return f"AUROC {cls}"
        case ["auroc_pair", pair]:
            return f"AUROC {pair.replace('_vs_', ' vs ')}"
    of, _, agreement = name.partition("_")
    if of in _MAPS and agreement in _AGREEMENT:
        return _AGREEMENT[agreement] if section else f"{_AGREEMENT[agreement]}, {_MAPS[of]}"
    return _NAMES.get(name) or name.replace("_", " ")


def arrow(name: str) -> str:
    """Which way a metric is better: ``↓`` or ``↑``; of a difference, whether it is better below or above zero."""
    name = split_classifier(name)[1]
    return "↓" if name.removesuffix(DIFFERENCE) in _LOWER_IS_BETTER else "↑"


def split_classifier(name: str) -> tuple[str, str]:
    """Split ``knn/auroc/CHF`` into the further classifier and its metric; of the main one's metrics the first is empty.

    Args:
        name: as in ``results.json``.
    """
    head, _, metric = name.partition("/")
    return (head, metric) if metric and head not in ("auroc", "auroc_pair") else ("", name)


def readable_classifier(name: str) -> str:
    """Write the name of a further classifier for people, e.g. ``knn`` as ``k nearest neighbours``."""
    return _CLASSIFIERS.get(name, name.replace("_", " "))
