"""How well an attention map agrees with gaze: of each reading, and of all training readings together."""

import torch
from torch import Tensor

from gaze_lightning.batch import Batch
from gaze_lightning.metrics.functional import correlation_coefficient, saliency_kl
from gaze_lightning.metrics.saliency_agreement import map_agreement, resample_density


def attention_agreement(attention: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Score attention maps against the gaze of the samples, as ``map_agreement`` does.

    The map counts on the film only: what it weighs in the padding says nothing.

    Args:
        attention: ``[1 | B, 1, H, W]``, not negative, over the canvas; one map is that of all samples.
        batch: needs ``image`` and ``saliency``; ``film_box`` and what ``map_agreement`` uses where present.

    Returns:
        ``attention_<name>`` for each name in ``AGREEMENT_VALUES``, float64 ``[B]``; NaN as in ``map_agreement``.
    """
    height, width = batch["saliency"].shape[-2:]
    density = resample_density(attention[:, 0].double(), (height, width)) * on_film(batch, (height, width))
    return {f"attention_{name}": value for name, value in map_agreement(density, batch).items()}


def on_film(batch: Batch, size: tuple[int, int]) -> Tensor:
    """Mark the cells of a grid over the canvas whose centre lies on the film.

    Args:
        batch: ``image``, and ``film_box``; without it everything is film.
        size: (h, w) of the grid.

    Returns:
        float64 ``[B, h, w]``: 1 on the film, 0 in the padding.
    """
    image = batch["image"]
    if "film_box" not in batch:
        return torch.ones(len(image), *size, dtype=torch.float64, device=image.device)
    x0, y0, x1, y1 = batch["film_box"].double()[:, :, None].unbind(1)
    y = (torch.arange(size[0], device=image.device) + 0.5) * image.shape[-2] / size[0]
    x = (torch.arange(size[1], device=image.device) + 0.5) * image.shape[-1] / size[1]
    rows, columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    return (rows[:, :, None] & columns[:, None, :]).double()


def global_map_values(attention: Tensor, film: Tensor, coverage: Tensor, gaze: Tensor | None) -> dict[str, Tensor]:
    """Describe a map that all films share.

    Args:
        attention: ``[H, W]``, not negative.
        film: ``[H, W]``: the mean training film.
        coverage: ``[H, W]``: share of the training films that cover the pixel.
        gaze: ``[H, W]``: mean gaze of the training readings, not negative; None without gaze.

    Returns:
        float32 scalars: ``mean``, ``std``, ``min`` and ``max`` of the whole map; where at least half of the films cover
        the pixel ``film_cc``, its correlation with the mean film, ``gaze_cc`` and ``gaze_kl`` = KL(gaze || map).
    """
    inside = coverage.flatten() >= 0.5
    own, other = (values.double().flatten()[inside][None, None] for values in (attention, film))
    values = {
        "mean": attention.mean(),
        "std": attention.std(),
        "min": attention.min(),
        "max": attention.max(),
        "film_cc": correlation_coefficient(own, other)[0],
    }
    if gaze is not None:
        looked = gaze.double().flatten()[inside][None, None]
        values |= {"gaze_cc": correlation_coefficient(own, looked)[0], "gaze_kl": saliency_kl(own, looked)[0]}
    return {name: value.float() for name, value in values.items()}
