"""Augmentation: the one adapter to albumentations (2.0.8, the last release under a free licence)."""

import os
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer version on import otherwise

import albumentations as A

from data_modules.appearance import blurred, covered, with_gamma
from data_modules.augmentation import PRESETS, Augmentation, AugmentationName
from data_modules.crops import draw_crop
from data_modules.gaze_sources import GazeWeight
from data_modules.samplers import sample_generator, seed_of
from gaze_lightning.gaze import Fixations

__all__ = [
    "PRESETS",
    "Augmentation",
    "AugmentationName",
    "Augmented",
    "Augmenter",
    "affine_from_probes",
    "move_fixations",
]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Augmented:
    """One sample after augmentation; coordinates in network pixels.

    Attributes:
        image: uint8 ``[H, W]``.
        fixations: moved like the image.
        film_box: x0, y0, x1, y1: bounding box of the moved film, cut to the image.
        matrix: float64 ``[2, 3]``: the affine that moved them.
    """

    image: npt.NDArray[np.uint8]
    fixations: Fixations
    film_box: Box
    matrix: npt.NDArray[np.float64]


class Augmenter:
    """Changes image and points together; the same (seed, epoch, index) gives the same result in every process.

    Only the image passes through albumentations. Three probe points go with it; the affine that they reveal is then
    applied to the fixations in float64, so points, sigmas and rectangles follow exactly what the pixels did. The
    saliency map is rendered afterwards. A crop becomes part of this affine, by which the film is then moved at once.

    Grey values change before the film moves: brightness and contrast, then gamma, then blur.

    Args:
        options: the ranges.
        image_size: ``(H, W)``, pixels.
        seed: of all augmentation.
        moves_pixels: whether the image moves too; False leaves that to whoever gets the matrix, which is the same, as
            are fixations and boxes.
        weight: what a fixation counts for, where a crop must keep them.
    """

    def __init__(
        self,
        options: Augmentation,
        image_size: tuple[int, int],
        seed: int,
        moves_pixels: bool = True,
        weight: GazeWeight = "duration",
    ) -> None:
        height, width = image_size
        self.options = options
        self.weight: GazeWeight = weight
        self.seed = seed
        self.moves_pixels = moves_pixels
        self._probes = np.array([[0.0, 0.0], [width, 0.0], [0.0, height]])
        self._photometric = A.Compose(
            [A.RandomBrightnessContrast(options.brightness, options.contrast, brightness_by_max=True, p=1.0)]
            if options.brightness or options.contrast
            else []
        )
        shift = (-options.translate, options.translate)
        self._geometric = A.Compose(
            [
                A.HorizontalFlip(p=options.flip),
                A.Affine(
                    rotate=(-options.rotate, options.rotate),
                    scale=(1 - options.scale, 1 + options.scale),
                    translate_percent={"x": shift, "y": shift},
                    keep_ratio=True,
                    interpolation=cv2.INTER_LINEAR,
                    border_mode=cv2.BORDER_CONSTANT,
                    fill=0,
                    p=1.0,
                ),
            ],
            keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
        )

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        fixations: Fixations,
        film_box: Box,
        epoch: int,
        index: int,
        view: int = 0,
    ) -> Augmented:
        """Augment one sample.

        Args:
            image: uint8 ``[H, W]``, zero outside the film.
            fixations: in network pixels.
            film_box: x0, y0, x1, y1 of the film, network pixels.
            epoch: number of the epoch.
            index: of the sample in the training set.
            view: which of several views of the sample in this epoch; they are independent of each other.
        """
        generator = sample_generator(self.seed, epoch, index, view)
        # Each transform gets its own seed: Compose would give all of them the same stream of numbers.
        for transform in (*self._photometric.transforms, *self._geometric.transforms):
            transform.set_random_seed(seed_of(generator))
        if self._photometric.transforms:
            # The padding stays black: brightness belongs to the film.
            image = np.where(image_inside(film_box, image.shape), self._photometric(image=image)["image"], 0)
        image = self._change_tones(image.astype(np.uint8), film_box, generator)
        # albumentations counts pixel centres as whole numbers, we count their edges: shift by half a pixel.
        moved = self._geometric(image=image, keypoints=self._probes - 0.5)
        matrix = affine_from_probes(self._probes, np.asarray(moved["keypoints"], dtype=np.float64)[:, :2] + 0.5)
        cropped = self._crop(matrix, fixations, film_box, generator) if self.options.crop < 1 else None
        matrix = matrix if cropped is None else cropped
        height, width = image.shape
        x0, y0, x1, y1 = move_box(np.array([film_box]), matrix)[0]
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if self.moves_pixels:
            image = moved["image"] if cropped is None else move_image(image, matrix)
        return Augmented(image, move_fixations(fixations, matrix), box, matrix)

    def _change_tones(
        self, image: npt.NDArray[np.uint8], film_box: Box, generator: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """Gamma and blur, where they are asked for; draws nothing otherwise."""
        if self.options.gamma:
            largest = float(np.log1p(self.options.gamma))
            image = with_gamma(image, float(np.exp(generator.uniform(-largest, largest))))
        if self.options.blur:
            chance, sigma = generator.random(), generator.uniform(*self.options.blur_sigma) * image.shape[0]
            image = blurred(image, film_box, sigma) if chance < self.options.blur else image
        return image

    def _crop(
        self,
        matrix: npt.NDArray[np.float64],
        fixations: Fixations,
        film_box: Box,
        generator: np.random.Generator,
    ) -> npt.NDArray[np.float64] | None:
        """The affine with a crop, see `draw_crop`."""
        x0, y0, x1, y1 = film_box
        return draw_crop(
            generator,
            self.options.crop,
            (int(self._probes[2, 1]), int(self._probes[1, 0])),
            matrix,
            np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]),
            np.column_stack([fixations.x, fixations.y]),
            fixations.weights(self.weight),
            self.options.crop_keeps_gaze,
        )


def image_inside(box: Box, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Bool ``[H, W]``: pixels that the box x0, y0, x1, y1 touches."""
    inside = np.zeros(shape, dtype=bool)
    inside[covered(box)] = True
    return inside


def move_image(image: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Apply an affine ``[2, 3]`` to an image, uint8 ``[H, W]``; bilinear, black beyond its edges."""
    centres = matrix.copy()  # OpenCV counts pixel centres as whole numbers
    centres[:, 2] += centres[:, :2] @ [0.5, 0.5] - 0.5
    moved = cv2.warpAffine(
        image, centres, image.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return moved.astype(np.uint8)


def affine_from_probes(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The affine ``[2, 3]`` that moved three points ``before [3, 2]`` to ``after [3, 2]``."""
    lifted = np.column_stack([before, np.ones(3)])
    return np.asarray(np.linalg.solve(lifted, after).T, dtype=np.float64)


def move_fixations(fixations: Fixations, matrix: npt.NDArray[np.float64]) -> Fixations:
    """Apply an affine ``[2, 3]`` to fixations.

    Positions are exact. A sigma becomes the standard deviation of the moved Gaussian along that axis: exact for flips,
    shifts and scalings, and for round Gaussians under rotation; the tilt of an oval one is lost. A visible rectangle
    becomes the bounding box of its moved corners: exact unless rotated, slightly too large then.

    Args:
        fixations: in network pixels.
        matrix: the affine, network pixels.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    x, y = linear @ np.stack([fixations.x, fixations.y]) + shift[:, None]
    variance_x, variance_y = linear**2 @ np.stack([fixations.sigma_x**2, fixations.sigma_y**2])
    visible = None if fixations.visible is None else move_box(fixations.visible, matrix)
    return Fixations(x, y, fixations.duration, np.sqrt(variance_x), np.sqrt(variance_y), fixations.start, visible)


def move_box(boxes: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bounding boxes ``[N, 4]`` (x0, y0, x1, y1) of boxes whose corners went through an affine ``[2, 3]``."""
    corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
