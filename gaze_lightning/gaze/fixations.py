"""Fixations of one reading, kept as points until the very last step."""

from dataclasses import dataclass, fields
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fixations:
    """The fixations of one reading, in continuous pixels of some image.

    Pixel ``k`` covers ``[k, k + 1)`` and its centre lies at ``k + 0.5``; readers turn integer coordinates ``k`` into
    ``k + 0.5`` once. Every array is converted to float64 on construction. Positions may lie outside the image.

    Args:
        x: Horizontal positions ``[N]``, pixels, growing to the right.
        y: Vertical positions ``[N]``, pixels, growing downwards.
        duration: Durations ``[N]``, seconds, not negative.
        sigma_x: Horizontal standard deviations of the Gaussians ``[N]``, pixels, positive.
        sigma_y: Vertical standard deviations of the Gaussians ``[N]``, pixels, positive.
        start: Start times ``[N]``, seconds from the start of the reading.
        visible: ``[N, 4]``, the part of the image on screen during each fixation as x0, y0, x1, y1 in pixels
            (``x0 <= x1``, ``y0 <= y1``; a rectangle without area shows nothing), or None where all was shown.

    Raises:
        ValueError: If the lengths differ, a value is not finite, a sigma is not positive, a duration is negative, or
            a rectangle is inverted. The message gives the number of bad rows and the first ones.
    """

    x: Array
    y: Array
    duration: Array
    sigma_x: Array
    sigma_y: Array
    start: Array
    visible: Array | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, np.asarray(value, dtype=np.float64))
        n = len(np.atleast_1d(self.x))
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            expected = (n, 4) if field.name == "visible" else (n,)
            if value.shape != expected:
                raise ValueError(f"Fixations.{field.name} has shape {value.shape}, expected {expected}")
            finite = np.isfinite(value)
            _refuse(~(finite.all(axis=1) if finite.ndim == 2 else finite), f"{field.name} is not finite")
        _refuse(self.duration < 0, "duration is negative")
        _refuse((self.sigma_x <= 0) | (self.sigma_y <= 0), "sigma is not positive")
        if self.visible is not None:
            x0, y0, x1, y1 = self.visible.T
            _refuse((x1 < x0) | (y1 < y0), "visible rectangle is inverted (x1 < x0 or y1 < y0)")

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def empty(cls) -> Self:
        """Return a reading without fixations."""
        none = np.zeros(0)
        return cls(none, none, none, none, none, none)

    def select(self, keep: npt.NDArray[np.bool_]) -> Self:
        """Return the fixations where ``keep`` (bool ``[N]``) is true, in their order.

        Raises:
            ValueError: If ``keep`` is not a boolean array of length N.
        """
        keep = np.asarray(keep)
        if keep.shape != (len(self),) or keep.dtype != np.bool_:
            raise ValueError(f"select needs a bool array of shape ({len(self)},), got {keep.dtype} {keep.shape}")
        return type(self)(
            x=self.x[keep],
            y=self.y[keep],
            duration=self.duration[keep],
            sigma_x=self.sigma_x[keep],
            sigma_y=self.sigma_y[keep],
            start=self.start[keep],
            visible=None if self.visible is None else self.visible[keep],
        )

    def affine(self, scale_x: float, scale_y: float, offset_x: float, offset_y: float) -> Self:
        """Map every point with ``x' = scale_x * x + offset_x`` (y alike); sigmas and rectangles follow.

        A negative scale mirrors: a horizontal flip of an image of width ``W`` is ``affine(-1, 1, W, 0)``.

        Raises:
            ValueError: If a scale is zero or a number is not finite.
        """
        if not np.isfinite([scale_x, scale_y, offset_x, offset_y]).all() or scale_x == 0 or scale_y == 0:
            raise ValueError(
                f"affine needs finite, non-zero scales and finite offsets, got {(scale_x, scale_y, offset_x, offset_y)}"
            )
        visible = None
        if self.visible is not None:
            mapped_x = self.visible[:, 0::2] * scale_x + offset_x
            mapped_y = self.visible[:, 1::2] * scale_y + offset_y
            visible = np.stack([mapped_x.min(1), mapped_y.min(1), mapped_x.max(1), mapped_y.max(1)], axis=1)
        return type(self)(
            x=self.x * scale_x + offset_x,
            y=self.y * scale_y + offset_y,
            duration=self.duration,
            sigma_x=self.sigma_x * abs(scale_x),
            sigma_y=self.sigma_y * abs(scale_y),
            start=self.start,
            visible=visible,
        )

    def weights(self, kind: Literal["duration", "count", "density"]) -> Array:
        """Return the weight ``[N]`` of each fixation's Gaussian of height one.

        Args:
            kind: ``duration``: seconds; ``count``: one; ``density``: seconds / (sigma_x sigma_y), with which the
                Gaussians are normal densities times seconds, up to a factor common to all, as REFLACX's authors
                publish them: a fixation on a zoomed part of the film is narrower and higher.

        Raises:
            ValueError: If ``kind`` is none of these.
        """
        if kind == "duration":
            return self.duration.copy()
        if kind == "count":
            return np.ones(len(self))
        if kind == "density":
            return self.duration / (self.sigma_x * self.sigma_y)
        raise ValueError(f"unknown weight {kind!r}: choose 'duration', 'count' or 'density'")


def _refuse(bad: npt.NDArray[np.bool_], reason: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        raise ValueError(f"Fixations: {reason} in {len(rows)} of {len(bad)} rows: {rows[:10].tolist()}")
