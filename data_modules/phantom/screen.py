"""The screen of EGD-CXR and the rows of its eye tracker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from data_modules.phantom.gaze import FloatArray, ScanPath
from data_modules.phantom.tables import Cell

SCREEN = (1080, 1920)
"""Lines and columns."""

SAMPLE_RATE = 60.0
"""Hz."""

_DETECTOR_LINES = 3072  # the phantom's films stand for detector images of this height


@dataclass(frozen=True)
class Pads:
    """Where a film lies on the screen: pads in screen pixels, the film's size in film pixels."""

    top: int
    bottom: int
    left: int
    right: int
    rows: int
    columns: int

    @classmethod
    def fit(cls, rows: int, columns: int) -> Self:
        """Fit a film into the screen, aspect kept, centred."""
        scale = min(SCREEN[0] / rows, SCREEN[1] / columns)
        high, wide = round(rows * scale), round(columns * scale)
        top, left = (SCREEN[0] - high) // 2, (SCREEN[1] - wide) // 2
        return cls(top, SCREEN[0] - high - top, left, SCREEN[1] - wide - left, rows, columns)

    @property
    def scale_x(self) -> float:
        """Film pixels per screen pixel."""
        return self.columns / (SCREEN[1] - self.left - self.right)

    @property
    def scale_y(self) -> float:
        """Film pixels per screen pixel."""
        return self.rows / (SCREEN[0] - self.top - self.bottom)

    def to_screen(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Film pixels to fractions of the screen, rounded to the tracker's five decimals."""
        return (
            np.round((self.left + x / self.scale_x) / SCREEN[1], 5),
            np.round((self.top + y / self.scale_y) / SCREEN[0], 5),
        )

    def to_original(self, u: FloatArray, v: FloatArray) -> npt.NDArray[np.int64]:
        """Fractions of the screen to integer film pixels, ``[N, 2]``; negative where off the film.

        The mapping of the data set's authors: kept strictly inside the un-padded rectangle, truncated. Off-film points
        are set to -1 before the scaling to the detector's size, which leaves -1, -2 or -3.
        """
        eye_x, eye_y = u * SCREEN[1], v * SCREEN[0]
        on = (eye_x > self.left) & (eye_x < SCREEN[1] - self.right)
        on &= (eye_y > self.top) & (eye_y < SCREEN[0] - self.bottom)
        detector = max(1.0, _DETECTOR_LINES / self.rows)
        off_x, off_y = (min(-1, -int(detector * scale)) for scale in (self.scale_x, self.scale_y))
        x = np.where(on, np.trunc(self.scale_x * (eye_x - self.left)), off_x)
        y = np.where(on, np.trunc(self.scale_y * (eye_y - self.top)), off_y)
        return np.stack([x, y], axis=1).astype(np.int64)


def eye_rows(
    head: tuple[int, int, str], path: ScanPath, pads: Pads, rng: np.random.Generator, *, raw: bool = False
) -> list[Sequence[Cell]]:
    """Rows of ``fixations.csv`` (one per fixation) or ``eye_gaze.csv`` (one per 1/60 s).

    Args:
        head: session number, media number, contents of ``DICOM_ID``.
        path: the reading, in film pixels.
        pads: where the film was on the screen.
        rng: for pupils, jitter and lost eyes.
        raw: samples instead of fixations.

    Returns:
        Rows in the order of the 37 columns.
    """
    end = path.start + path.duration
    if raw:
        time = np.arange(0.0, path.total, 1.0 / SAMPLE_RATE)
        which = np.clip(np.searchsorted(path.start, time, side="right") - 1, 0, len(path) - 1)
        held = (time >= path.start[which]) & (time <= end[which])
    else:
        time, which, held = end, np.arange(len(path)), np.full(len(path), True)
    n = len(time)
    u, v = (value[which] for value in pads.to_screen(path.x, path.y))
    columns, rows = pads.to_original(u, v).T
    valid = held & (rng.random(n) > 0.02) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
    best_u, best_v = u + rng.normal(0, 0.002, n), v + rng.normal(0, 0.003, n)
    dx, dy = np.diff(u, prepend=u[:1]) * SCREEN[1], np.diff(v, prepend=v[:1]) * SCREEN[0]
    pupils = path.pupil[which][:, None] + rng.normal(0, [0.03, 0.05], (n, 2))
    camera = np.array([0.42, 0.5, 0.58, 0.5]) + rng.normal(0, 0.01, 4) + rng.normal(0, 0.001, (n, 4))
    apart = np.diff(np.concatenate([[0.0], path.start]))[which]
    blink = np.where(apart > 0.55, 0.2, 0.0)
    tick = int(rng.integers(10**11, 10**12))
    result: list[Sequence[Cell]] = []
    for i in range(n):
        k = int(which[i])
        held_for = min(float(time[i] - path.start[k]), float(path.duration[k])) if raw else float(path.duration[k])
        left, right = float(pupils[i, 0]), float(pupils[i, 1])
        result.append(
            (
                *head,
                round(time[i] * SAMPLE_RATE),
                f"{time[i]:.5f}",
                tick + round(time[i] * 1e7),
                f"{u[i]:.5f}",
                f"{v[i]:.5f}",
                f"{path.start[k]:.5f}",
                f"{max(held_for, 0.0):.5f}",
                k + 1,
                int(valid[i]),
                f"{best_u[i]:.5f}",
                f"{best_v[i]:.5f}",
                int(valid[i]),
                f"{camera[i, 0]:.5f}",
                f"{camera[i, 1]:.5f}",
                f"{5.1 * left:.5f}",
                "1.00000",
                int(valid[i]),
                f"{camera[i, 2]:.5f}",
                f"{camera[i, 3]:.5f}",
                f"{5.1 * right:.5f}",
                "1.00000",
                int(valid[i]),
                int(blink[i] > 0),
                f"{blink[i]:.5f}",
                14,
                f"{left:.5f}",
                int(valid[i]),
                f"{right:.5f}",
                int(valid[i]),
                f"{np.hypot(dx[i], dy[i]):.5f}",
                f"{np.degrees(np.arctan2(-dy[i], dx[i])) % 360.0:.5f}",
                round(time[i] * 30.0),
                int(columns[i]),
                int(rows[i]),
            )
        )
    return result
