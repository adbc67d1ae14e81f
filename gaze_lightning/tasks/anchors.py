"""The reference images of the global map: drawn from the training films, or what a control puts in their place."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models.anchor_images import noise_like, permute_pixels, principal_images, standardise
from gaze_lightning.protocols import OffersTrainingFilms

AnchorContent = Literal["films", "permuted", "noise", "mean_film", "mean_gaze"]

FEWEST = 8
"""Of fewer films a combination, such as the stored map, shows more of each than a checkpoint should."""

_BLOCK = 512  # films read at a time


@dataclass(frozen=True)
class Anchors:
    """Standardised reference images and what identifies them.

    Attributes:
        images: float32 ``[n, 1, H, W]``.
        digest: hash of the films' pixels and of how the images were made of them.
        note: one line for people, without ids.
    """

    images: Tensor
    digest: str
    note: str


def make_anchors(
    data: OffersTrainingFilms, content: AnchorContent, n_films: int | None, max_images: int, seed: int
) -> Anchors:
    """Draw reference films from the training part and make the images of them.

    Args:
        data: after its setup.
        content: ``films``; or a control: ``permuted`` (the same films, their pixels in one random order for all),
            ``noise`` (as many images of white noise), ``mean_film`` (their mean alone: an anatomical template) or
            ``mean_gaze`` (the mean map of the training readings alone).
        n_films: how many, balanced over the classes; None: all of the training part.
        max_images: above so many films their first ``max_images`` principal images take their place: bounded memory.
        seed: of the draw, the permutation and the noise.

    Raises:
        ConfigurationError: ``mean_gaze`` without gaze in the training part, or fewer than ``FEWEST`` films.
    """
    if content in ("mean_film", "mean_gaze"):
        statistics = data.film_statistics()
        mean = data.mean_training_gaze() if content == "mean_gaze" else statistics and statistics.mean
        if mean is None:
            raise ConfigurationError(
                f"anchors: {content} is made of the training part, and that has none: choose other data, or "
                "anchors: films"
            )
        images = standardise(mean[None, None])
        digest = hashlib.sha256(mean.contiguous().numpy().tobytes()).hexdigest()[:16]
        return Anchors(images, f"{content}:{digest}", f"the {content.replace('_', ' ')} of the training part")
    films = data.training_films(n_films, seed)
    if len(films) < FEWEST:
        raise ConfigurationError(
            f"{len(films)} anchors: the stored map, which is in every checkpoint, would show single films. Take at "
            f"least {FEWEST} (n_anchors, or more training films)"
        )
    compressed = len(films) > max_images
    if compressed:
        principal = principal_images(lambda: films.blocks(_BLOCK), max_images, seed)
        images = principal.images
        made = f"{max_images} principal images ({principal.explained:.1%} of the variation) of {len(films):,}"
    else:
        images = standardise(torch.cat(list(films.blocks(_BLOCK))))
        made = f"{len(films):,}"
    counts = ", ".join(f"{name} {n:,}" for name, n in films.class_counts.items())
    match content:
        case "permuted":
            images, made = permute_pixels(images, seed), f"{made} pixel-permuted"
        case "noise":
            images, made = noise_like(images, seed), f"noise in place of {made}"
    height, width = images.shape[-2:]
    size = f"{height} x {width}, {images.numel() * 4 / 1e6:.1f} MB in the memory of each process"
    what = f"{content}:{seed}:{max_images if compressed else 'all'}:{films.digest}"
    return Anchors(
        images,
        hashlib.sha256(what.encode()).hexdigest()[:16],
        f"{made} training films{f' ({counts})' if counts else ''}; {size}",
    )
