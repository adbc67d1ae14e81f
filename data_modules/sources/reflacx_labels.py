"""The labels of REFLACX and how those of phase 1 are brought into line with phases 2 and 3.

| phase 1 | phases 2 and 3 |
| --- | --- |
| Emphysema | High lung volume / emphysema |
| Fibrosis | Interstitial lung disease |
| Fracture | Acute fracture |
| Mass, Nodule (the higher certainty) | Lung nodule or mass |
| Pleural effusion, Pleural thickening (the higher certainty) | Pleural abnormality |
| Wide mediastinum | Abnormal mediastinal contour |
| Airway wall thickening | none: not used |
| not asked for: unknown (NaN) | Enlarged hilum, Hiatal hernia |

The six labels that share a name are taken as they are. This is the project's choice: most of the newer terms are wider
than the older ones, so a phase 1 negative is a slightly weaker statement. Read ``phases=[2, 3]`` to do without it.
"""

_SHARED = (
    "Atelectasis",
    "Consolidation",
    "Enlarged cardiac silhouette",
    "Groundglass opacity",
    "Pneumothorax",
    "Pulmonary edema",
)

REFLACX_LABELS = (
    "Abnormal mediastinal contour",
    "Acute fracture",
    "Atelectasis",
    "Consolidation",
    "Enlarged cardiac silhouette",
    "Enlarged hilum",
    "Groundglass opacity",
    "Hiatal hernia",
    "High lung volume / emphysema",
    "Interstitial lung disease",
    "Lung nodule or mass",
    "Pleural abnormality",
    "Pneumothorax",
    "Pulmonary edema",
)
"""The abnormalities of phases 2 and 3, the default classes."""

_FROM_PHASE_1: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in _SHARED},
    "Abnormal mediastinal contour": ("Wide mediastinum",),
    "Acute fracture": ("Fracture",),
    "Enlarged hilum": (),
    "Hiatal hernia": (),
    "High lung volume / emphysema": ("Emphysema",),
    "Interstitial lung disease": ("Fibrosis",),
    "Lung nodule or mass": ("Mass", "Nodule"),
    "Pleural abnormality": ("Pleural effusion", "Pleural thickening"),
}

PHASE_LABELS: dict[int, tuple[str, ...]] = {
    1: tuple(sorted(name for names in _FROM_PHASE_1.values() for name in names)),
    2: REFLACX_LABELS,
    3: REFLACX_LABELS,
}
"""The columns of each phase that are used."""


def label_columns(phase: int, name: str) -> list[str]:
    """Return the columns of a phase's tables that a class is read from; none if the phase did not ask for it."""
    if name == "Support devices" or phase != 1:
        return [name]
    return list(_FROM_PHASE_1[name])
