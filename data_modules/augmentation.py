"""How far a training film may be changed, and the named choices."""

from dataclasses import dataclass
from typing import Literal

from data_modules.errors import DataError


@dataclass(frozen=True)
class Augmentation:
    """How far a training film may be changed. Every change is uniform in its range.

    Attributes:
        rotate: largest rotation, degrees.
        scale: largest relative change of size, e.g. 0.1 for 0.9..1.1.
        translate: largest shift, as a fraction of the image's width and height.
        brightness: largest change of brightness, as a fraction of 255.
        contrast: largest relative change of contrast.
        flip: probability of a left-right flip. Zero by default: a flip moves the heart to the other side.
        blur: probability of a Gaussian blur of the film.
        blur_sigma: smallest and largest standard deviation of the blur, as fractions of the image's height; the default
            is SimCLR's 0.1 to 2 pixels of 224 (Chen et al. 2020, appendix A).
        gamma: grey values in [0, 1] are raised to a power between 1 / (1 + gamma) and 1 + gamma, uniform in its
            logarithm.
        crop: smallest share of the canvas's area that a random crop keeps; the crop has the canvas's shape and is
            enlarged to it. 1: no crop.
        crop_keeps_gaze: smallest share of the weight of a reading's gaze that stays inside a crop. A crop that keeps
            less is drawn again, up to ten times; then there is none.

    Raises:
        DataError: if a probability, a share or the range of sigmas is impossible.
    """

    rotate: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    flip: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.0005, 0.009)
    gamma: float = 0.0
    crop: float = 1.0
    crop_keeps_gaze: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, low, allowed in (
            ("flip", "from 0", 0 <= self.flip <= 1),
            ("blur", "from 0", 0 <= self.blur <= 1),
            ("crop", "above 0", 0 < self.crop <= 1),
            ("crop_keeps_gaze", "from 0", 0 <= self.crop_keeps_gaze <= 1),
        ):
            if not allowed:
                raise DataError(f"augmentation: {name} must be {low} up to 1, got {getattr(self, name)}.")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise DataError(
                "augmentation: blur_sigma must be two positive fractions of the image's height, the smaller one first, "
                f"got {list(self.blur_sigma)}."
            )
        if not self.gamma >= 0:
            raise DataError(f"augmentation: gamma must be at least 0, got {self.gamma}.")

    @property
    def varies(self) -> bool:
        """Whether two views of one film can differ."""
        ranges = (self.rotate, self.scale, self.translate, self.brightness, self.contrast, self.gamma, self.blur)
        return any(ranges) or 0 < self.flip < 1 or self.crop < 1


AugmentationName = Literal["none", "light", "strong", "contrastive"]
"""``contrastive`` is for two views in pre-training: brightness, contrast and blur vary much, places little. It neither
flips nor crops, so that gaze and sides stay valid (spec/mcgip.md section 5)."""

PRESETS: dict[str, Augmentation | None] = {
    "none": None,
    "light": Augmentation(rotate=5, scale=0.05, translate=0.03, brightness=0.1, contrast=0.1),
    "strong": Augmentation(rotate=10, scale=0.15, translate=0.08, brightness=0.2, contrast=0.2),
    "contrastive": Augmentation(
        rotate=5, scale=0.05, translate=0.03, brightness=0.3, contrast=0.4, gamma=0.5, blur=0.5
    ),
}
