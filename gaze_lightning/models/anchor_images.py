"""The reference images of global attention."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

_EXTRA = 16  # directions beside the wanted ones: those converge faster
_NEGLIGIBLE = 1e-12  # share of the largest sum of squares that float32 cannot tell from none


class PrincipalImages(NamedTuple):
    """The images that say most about a set of films.

    Attributes:
        images: float32 ``[r, 1, H, W]``, orthogonal, each with root mean square 1, the largest absolute value positive;
            in order of falling share.
        explained: share of the films' sum of squares (after removal of each film's mean) in their span, 0 to 1.
    """

    images: Tensor
    explained: float


def standardise(films: Tensor) -> Tensor:
    """Remove each film's own mean; divide all by one standard deviation.

    Otherwise differences of exposure dominate the features of a pixel. Films keep their contrasts relative to each
    other.

    Args:
        films: ``[N, 1, H, W]``, uint8 or float.

    Returns:
        float32 ``[N, 1, H, W]``; mean of squares 1 over all films. A constant film is zero.

    Raises:
        ValueError: all films are constant.
    """
    centred = _centred(films)
    std = centred.square().mean(dtype=torch.float64).sqrt()
    if std == 0:
        raise ValueError("all films are constant: no pixel differs from another")
    return centred / std.float()


def principal_images(
    blocks: Callable[[], Iterable[Tensor]], n_images: int, seed: int, passes: int = 5
) -> PrincipalImages:
    """The first right singular vectors of the films, each film less its own mean.

    (The mean film is not removed: it is usually close to the first of them.) Block subspace iteration on the scatter
    matrix of the pixels (Halko, Martinsson, Tropp 2011, algorithm 4.4): the films pass by in blocks, so that memory is
    that of ``2 (n_images + 16)`` images and one block, however many films there are.

    Args:
        blocks: returns the films anew, each time the same: uint8 (or float) ``[b, 1, H, W]``.
        n_images: number ``r`` of images.
        seed: of the random start.
        passes: over the films, 2 at least; more: closer to the exact ones.

    Raises:
        ValueError: fewer than two passes, no films, or the films span fewer than ``n_images`` images.
    """
    if passes < 2:
        raise ValueError(f"{passes} passes: principal images need two at least")
    basis, shape = torch.empty(0), (0, 0)
    for step in range(passes):
        last, images, squares, scatter = step == passes - 1, torch.empty(0), 0.0, torch.empty(0)
        for block in blocks():
            x = _centred(block).flatten(1)
            if not len(basis):
                shape = (block.shape[-2], block.shape[-1])
                basis = _random_basis(x, n_images, seed)
            scores = x @ basis
            if last:
                squares += float(x.square().sum(dtype=torch.float64))
                share = scores.double().T @ scores.double()
                scatter = scatter + share if len(scatter) else share
            else:
                images = torch.addmm(images, x.T, scores) if len(images) else x.T @ scores
        if not len(basis):
            raise ValueError("there are no films")
        if not last:
            basis = torch.linalg.qr(images).Q
    values, vectors = torch.linalg.eigh(scatter)
    values, vectors = values.flip(0)[:n_images], vectors.flip(1)[:, :n_images]
    span = int((values > _NEGLIGIBLE * values[0]).sum())
    if len(values) < n_images or span < n_images:
        raise ValueError(f"the films span only {span} images: ask for at most as many, not {n_images}")
    found = (basis @ vectors.to(basis.dtype)).T * basis.shape[0] ** 0.5
    largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
    return PrincipalImages((found * largest.sign()).view(n_images, 1, *shape), float(values.sum() / squares))


def permute_pixels(anchors: Tensor, seed: int) -> Tensor:
    """Shuffle the places of the pixels, in all ``[n, 1, H, W]`` anchors alike: features lose their place."""
    order = torch.randperm(anchors[0].numel(), generator=torch.Generator().manual_seed(seed)).to(anchors.device)
    return anchors.flatten(1)[:, order].view_as(anchors)


def noise_like(anchors: Tensor, seed: int) -> Tensor:
    """Standardised white noise of the shape ``[n, 1, H, W]`` of the anchors: places keep no content."""
    noise = torch.randn(anchors.shape, generator=torch.Generator().manual_seed(seed))
    return standardise(noise).to(anchors.device)


def _centred(films: Tensor) -> Tensor:
    """float32; sums in float64, so that a constant film gives exactly zero."""
    return films.float() - films.mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64).float()


def _random_basis(x: Tensor, n_images: int, seed: int) -> Tensor:
    pixels = x.shape[1]
    start = torch.randn(pixels, min(n_images + _EXTRA, pixels), generator=torch.Generator().manual_seed(seed))
    basis: Tensor = torch.linalg.qr(start.to(x.device)).Q
    return basis
