"""How well maps agree with a sample's own gaze: predicted maps, and the references they must be read beside."""

import torch
from torch import Tensor

from gaze_lightning.batch import Batch
from gaze_lightning.gaze import cell_overlap, render_saliency_batch
from gaze_lightning.metrics.functional import auc_judd, correlation_coefficient, nss, saliency_kl, similarity

AGREEMENT_VALUES = ("cc", "kl", "sim", "nss", "auc_judd")
"""Names of the values that ``map_agreement`` returns."""

SALIENCY_VALUES = tuple(f"saliency_{name}" for name in AGREEMENT_VALUES)
"""Names of the values that ``saliency_agreement`` returns."""

REFERENCES = ("mean_map", "centre", "readers")
"""What ``gaze_references`` scores: the first two know nothing of the film, the third is other people."""

CENTRE_SPREAD = 0.25
"""Standard deviation of the centred Gaussian as a fraction of the film's height and of its width."""


def map_agreement(pred: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Score maps against the gaze of their samples.

    Correlation, KL(gaze || map), histogram intersection, NSS and AUC-Judd, as defined in
    :mod:`gaze_lightning.metrics.functional`.

    Args:
        pred: ``[B, h, w]`` on the grid of ``batch["saliency"]``, any scale.
        batch: ``saliency``; ``has_gaze``, ``fixations`` and ``fixation_mask`` (these with ``image``) where present.

    Returns:
        For each name in ``AGREEMENT_VALUES`` float64 ``[B]``; NaN where the sample has no gaze, where the batch has no
        ``saliency`` (NSS and AUC-Judd: no ``fixations``), and where the metric is undefined (CC and NSS of a constant
        map).

    Raises:
        ValueError: If the map has another grid or a value is not finite.
    """
    result = {
        name: torch.full((len(pred),), torch.nan, dtype=torch.float64, device=pred.device) for name in AGREEMENT_VALUES
    }
    if "saliency" not in batch:
        return result
    gaze = batch["saliency"][:, 0].double()
    height, width = gaze.shape[-2:]
    result |= {
        "cc": correlation_coefficient(pred, gaze),
        "kl": saliency_kl(pred, gaze),
        "sim": similarity(pred, gaze),
    }
    if "fixations" in batch:
        scale = gaze.new_tensor([width / batch["image"].shape[-1], height / batch["image"].shape[-2]])
        points, mask = batch["fixations"][..., :2].double() * scale, batch["fixation_mask"]
        result |= {"nss": nss(pred, points, mask), "auc_judd": auc_judd(pred, points, mask)}
    if "has_gaze" in batch:
        result = {name: value.masked_fill(~batch["has_gaze"], torch.nan) for name, value in result.items()}
    return result


def saliency_agreement(saliency: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Score predicted densities against the gaze of their samples, on the grid of ``batch["saliency"]``.

    A density on another grid is resampled by ``resample_density``, so that its mass stays where it is.

    Args:
        saliency: ``[B, 1, H, W]``, probabilities and not their logarithm; not negative.
        batch: as for ``map_agreement``.

    Returns:
        For each name in ``SALIENCY_VALUES`` float64 ``[B]``, NaN as in ``map_agreement``.

    Raises:
        ValueError: If the shape is another one or a value is negative or not finite.
    """
    if saliency.ndim != 4 or saliency.shape[1] != 1:
        raise ValueError(f"saliency must be [B, 1, H, W], got {tuple(saliency.shape)}")
    bad = ~(torch.isfinite(saliency) & (saliency >= 0)).flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"saliency of {int(bad.sum())} of {len(bad)} samples has negative or non-finite values: pass densities, not"
            " their logarithm"
        )
    density = saliency[:, 0].double()
    if "saliency" in batch:
        height, width = batch["saliency"].shape[-2:]
        density = resample_density(density, (height, width))
    return {f"saliency_{name}": value for name, value in map_agreement(density, batch).items()}


def gaze_references(batch: Batch) -> dict[str, Tensor]:
    """Score what needs no model against the gaze of the samples, as ``map_agreement`` scores a model's map.

    - ``mean_map_*``: the mean map of the training readings (``mean_saliency``), which knows where people look but not
      at what.
    - ``centre_*``: a Gaussian centred on the film (``film_box``; the whole image without one) with a standard deviation
      of a quarter of the film's height and width each. It goes on into the padding.
    - ``readers_*``: the mean map of the other readings of the same film (``other_saliency``): how well people predict
      each other. NaN for films with one reading. Only the mean of many readers comes near a ceiling. That of one or two
      is narrow, a broader map may score better, and KL is no ceiling at all: it charges up to 36 nats for gaze where
      the others' map is zero.

    Args:
        batch: ``image`` and ``saliency``, and what ``map_agreement`` uses; a reference whose key is absent is left out.

    Returns:
        For each reference that the batch allows and each name in ``AGREEMENT_VALUES`` float64 ``[B]`` under
        ``<reference>_<name>``; nothing without ``saliency``.

    Raises:
        ValueError: If a reference map has another grid than ``saliency``.
    """
    if "saliency" not in batch:
        return {}
    maps = {"centre": centre_map(batch)}
    if "mean_saliency" in batch:
        maps["mean_map"] = batch["mean_saliency"][:, 0].double()
    if "other_saliency" in batch:
        maps["readers"] = batch["other_saliency"][:, 0].double()
    result = {}
    for reference in REFERENCES:
        if reference in maps:
            empty = (maps[reference] == 0).flatten(1).all(1)
            for name, value in map_agreement(maps[reference], batch).items():
                result[f"{reference}_{name}"] = value.masked_fill(empty, torch.nan)
    return result


def centre_map(batch: Batch) -> Tensor:
    """The centred Gaussian of ``gaze_references``: float64 ``[B, h, w]`` on the grid of ``saliency``, sums to 1."""
    image, gaze = batch["image"], batch["saliency"]
    height, width = image.shape[-2:]
    if "film_box" in batch:
        x0, y0, x1, y1 = batch["film_box"].double().unbind(dim=1)
    else:
        x0 = y0 = torch.zeros(len(image), dtype=torch.float64, device=image.device)
        x1, y1 = x0 + width, y0 + height
    sigma_x, sigma_y = CENTRE_SPREAD * (x1 - x0), CENTRE_SPREAD * (y1 - y0)
    point = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, torch.ones_like(x0), sigma_x, sigma_y], dim=1)[:, None]
    there = torch.ones(len(image), 1, dtype=torch.bool, device=image.device)
    return render_saliency_batch(point, there, (gaze.shape[-2], gaze.shape[-1]), canvas=(height, width))[:, 0]


def resample_density(density: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample densities to another grid over the same area; each keeps its sum.

    A cell's mass is spread evenly over its area and goes to the cells of the new grid by overlap, exactly, also where
    sizes are no multiples of each other.

    Args:
        density: ``[B, H, W]``.
        size: height and width ``(h, w)`` of the new grid.

    Returns:
        float64 ``[B, h, w]``; the same values where the size is the same.
    """
    density = density.double()
    if density.shape[-2:] == size:
        return density
    rows, columns = (
        cell_overlap(source, target, density.device) for source, target in zip(density.shape[-2:], size, strict=True)
    )
    return rows @ density @ columns.T
