"""The batch: the one contract between data modules, tasks and callbacks."""

from typing import Required, TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """What a data module yields and every task, loss and callback reads.

    "Network pixels" are the pixels of ``image``: the film is fitted into ``[H, W]`` with its aspect kept and
    padded with zeros, and every coordinate goes through that same affine. Pixel ``k`` covers ``[k, k + 1)``, its
    centre lies at ``k + 0.5``.

    Keys that are not ``Required`` may be absent: prediction has no label, a source without gaze has no fixations.
    ``B`` samples, ``K`` classes, ``N`` fixations of the longest reading in the batch.
    """

    image: Required[Tensor]
    """float32 ``[B, 1, H, W]`` in [0, 1]; backbones normalise and repeat channels themselves."""

    sample_id: Required[list[str]]
    """One opaque string per reading. Real ids: they stay in the run folder and never reach a log."""

    second_view: Tensor
    """float32 ``[B, 1, H, W]`` in [0, 1]: the same films augmented once more, independently. Only in training batches
    of a data module that was asked for two views; everything with coordinates belongs to ``image``."""

    film: Tensor
    """int64 ``[B]``: number of the film within the data module; readings of one film share it."""

    subject: list[str]
    """The patient, as an opaque string: the unit of splitting and of the bootstrap."""

    label: Tensor
    """Single-label: int64 class index ``[B]``. Multi-label: float32 ``[B, K]`` in {0, 1, NaN = unknown}."""

    has_gaze: Tensor
    """bool ``[B]``: false where a sample has no usable fixation; losses and metrics leave it out."""

    fixations: Tensor
    """float32 ``[B, N, 5]``: x, y, weight, sigma_x, sigma_y; positions and sigmas in network pixels."""

    fixation_mask: Tensor
    """bool ``[B, N]``: true where ``fixations`` holds a point and not padding."""

    visible: Tensor
    """float32 ``[B, N, 4]``: x0, y0, x1, y1 of the film's part on screen during each fixation, network pixels."""

    saliency: Tensor
    """float32 ``[B, 1, h, w]`` at the data module's ``saliency_size``; sums to 1, all zero without gaze."""

    mean_saliency: Tensor
    """float32 ``[B, 1, h, w]`` at ``saliency_size``, sums to 1: the mean of the training readings' maps in fractions of
    the film (of the canvas where films are aligned), tails in the padding included, placed on this film. In test only;
    absent if no training reading has gaze."""

    other_saliency: Tensor
    """float32 ``[B, 1, h, w]`` at ``saliency_size``: the mean of the maps of the film's *other* readings (leave one
    out); sums to 1, all zero where there is none. In test only; absent if no film of the data has several
    readings with gaze."""

    warp: Tensor
    """float32 ``[B, 2, 3]``: the affine of the geometric augmentation, canvas pixels, canonical -> augmented. Only in
    training batches of a data module that leaves geometry to the task: ``image`` is then not moved yet, everything else
    (fixations, film_box, saliency) has moved already."""

    film_box: Tensor
    """float32 ``[B, 4]``: x0, y0, x1, y1 of the film inside the padded image, cut to it where films are aligned;
    network pixels."""

    lesion_mask: Tensor
    """bool ``[B, K, H, W]``: where each class's finding lies; all false where unknown or absent."""

    anatomy_mask: Tensor
    """bool ``[B, K, H, W]``: the anatomy in which each class's finding is expected (CHF: heart and mediastinum,
    pneumonia: lungs); all false where unknown or not defined for the class."""
