"""The geometry of one patient's chest: lungs, heart, mediastinum, diaphragm."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_modules.phantom.canvas import Frame, Points, curve
from data_modules.phantom.knobs import PhantomKnobs


@dataclass(frozen=True)
class Chest:
    """Outlines in chest coordinates (see ``Frame``), float64 ``[N, 2]``. Index 0 is the patient's right (film left).

    Attributes:
        frame: how chest coordinates map to the film.
        view: PA or AP.
        landscape: the film is wider than high.
        lungs: outlines of both lungs; the heart lies over their medial parts.
        walls: the outer edge of each lung from apex to costophrenic angle.
        angles: the costophrenic angles.
        domes: the highest points of the diaphragm.
        heart: heart with both cardiac borders.
        mediastinum: great vessels above the heart.
        knob: the aortic knob.
        hila: centres of the hila.
        bend: sideways course of the spine, u at given v as ``[N, 2]`` points.
        turn: rotation of the patient about the long axis, -1..1; positive turns to the patient's left.
        fat: -1..1, thickness of the soft tissue.
    """

    frame: Frame
    view: Literal["PA", "AP"]
    landscape: bool
    lungs: tuple[Points, Points]
    walls: tuple[Points, Points]
    angles: tuple[Points, Points]
    domes: tuple[Points, Points]
    heart: Points
    mediastinum: Points
    knob: Points
    hila: tuple[Points, Points]
    bend: Points
    turn: float
    fat: float

    def wall(self, side: int, v: float | Points) -> Points:
        """Signed u of the lung's outer edge at height(s) v."""
        points = self.walls[side]
        return np.asarray(np.interp(v, points[:, 1], points[:, 0]), np.float64)

    def spine(self, v: float | Points) -> Points:
        """U of the spine at height(s) v."""
        return np.asarray(np.interp(v, self.bend[:, 1], self.bend[:, 0]), np.float64)


def _lung(
    side: int, half: float, apex: float, dome: float, angle: float, round_: float, rng: np.random.Generator
) -> tuple[Points, Points, Points, Points]:
    """Outline, outer edge, costophrenic angle and dome of one lung."""
    j = rng.normal(0, 0.006, 8)
    reach = half + 0.004
    outer = [
        (0.165 + j[0], apex),
        (0.262 + j[1], apex + 0.030),
        (0.338 + j[2] + 0.015 * round_, apex + 0.100),
        (half * 0.825 + j[3] + 0.018 * round_, apex + 0.215),
        (half * 0.91 + 0.01 * round_, apex + 0.36),
        (half * 0.962, apex + 0.53),
        (half * 0.99, apex + 0.68),
        (reach, apex + 0.68 + 0.6 * (angle - apex - 0.68)),
        (reach - 0.012, angle),
    ]
    lower = [
        (half * 0.94, angle - 0.36 * (angle - dome)),
        (half * 0.82, dome + 0.26 * (angle - dome)),
        (half * 0.66, dome + 0.05 * (angle - dome)),
        (half * 0.50 + j[4], dome),
        (half * 0.33, dome + 0.06 * (angle - dome)),
        (0.10, dome + 0.20 * (angle - dome)),
    ]
    inner = [
        (0.048, dome - 0.08),
        (0.050 + 0.5 * j[5], 0.62),
        (0.052, 0.48),
        (0.050 + 0.5 * j[6], 0.34),
        (0.058, 0.19),
        (0.078 + j[7], apex + 0.07),
        (0.115, apex + 0.012),
    ]
    sign = np.array([1.0 if side else -1.0, 1.0])
    edge = curve(outer)
    under = curve([*lower, *inner, outer[0]])
    outline = np.concatenate([edge, curve([outer[-1], lower[0]], steps=3)[1:-1], under]) * sign
    return outline, edge * sign, np.array([reach - 0.012, angle]) * sign, np.array([half * 0.50 + j[4], dome]) * sign


def _silhouette(
    ratio: float, plump: float, floor: float, wide: float, shift: float, rng: np.random.Generator
) -> tuple[Points, Points, Points]:
    """Heart, mediastinum and aortic knob. ``ratio`` is heart width over chest width, ``floor`` v of its lower edge."""
    j = rng.normal(0, 0.006, 8)
    right = ratio * (0.325 + 0.02 * rng.normal())
    left = ratio - right
    drop = floor - 0.84
    age = float(rng.random())  # the aorta unfolds with age
    knob = (0.086 + 0.026 * age) * wide + 0.5 * j[0]
    arch_v, arch_r = 0.247 + 0.010 * rng.normal(), 0.032 + 0.010 * age
    bulge = 0.012 * rng.normal()  # pulmonary trunk
    heart = [
        (-0.055, 0.33),
        (-0.072 * wide, 0.42),
        (-right * 0.80, 0.51 + 0.4 * drop),
        (-right, 0.64 + 0.7 * drop),
        (-right * 0.95, 0.76 + drop),
        (-right * 0.72, 0.845 + drop),
        (-0.02, 0.90 + drop),
        (left * 0.50, 0.925 + drop),
        (left * 0.84, 0.905 + drop),
        (left * 1.0, 0.845 + drop - 0.03 * plump),
        (left * (0.965 + 0.02 * plump), 0.765 + drop - 0.02 * plump),
        (left * (0.83 + 0.04 * plump) + j[1], 0.66 + 0.7 * drop),
        (left * (0.60 + 0.05 * plump) + j[2], 0.545 + 0.5 * drop),
        (0.096 * wide + bulge + j[3], 0.445),
        (0.086 * wide + bulge, 0.385),
        (0.05, 0.34),
    ]
    top = [
        (-0.066 * wide, -0.60),
        (-0.060 * wide + j[4], 0.03),
        (-0.066 * wide + j[5], 0.16),
        (-0.070 * wide + 0.5 * j[6], 0.30),
        (-0.080 * wide, 0.44),
        (0.0, 0.50),
        (0.09 * wide, 0.44),
        (0.080 * wide + bulge, 0.37),
        (0.074 * wide, 0.325),
        (knob * 0.96, arch_v + 0.038),
        (knob, arch_v),
        (knob * 0.82, arch_v - 0.040),
        (0.062 * wide, 0.165),
        (0.060 * wide, 0.03),
        (0.068 * wide, -0.60),
    ]
    across = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    arch = np.stack([knob + 0.002 + arch_r * (np.cos(across) - 1), arch_v + 1.1 * arch_r * np.sin(across)], axis=-1)
    offset = np.array([shift, 0.0])
    return curve(heart, closed=True) + offset, curve(top, closed=True) + 0.6 * offset, arch + 0.6 * offset


def sample_chest(knobs: PhantomKnobs, rng: np.random.Generator, growth: float = 0.0) -> Chest:
    """Draw a patient and a film size.

    Args:
        knobs: typical film size.
        rng: source of all variation; what it gives does not depend on ``growth``.
        growth: strength of heart failure, 0 for none: widens the heart (0.085 of the chest's width per unit) and the
            mediastinum.
    """
    height = max(48, round(knobs.height * rng.uniform(0.97, 1.03)))
    width = max(40, round(knobs.width * rng.uniform(0.97, 1.03)))
    landscape = bool(rng.random() < 0.08)
    if landscape:
        height, width = min(height, width), max(height, width)
    view: Literal["PA", "AP"] = "AP" if rng.random() < 0.38 else "PA"
    portable = float(view == "AP")
    fat = float(np.clip(rng.normal(0.1 * portable, 0.5), -1, 1))
    breath = float(np.clip(rng.normal(-0.06 * portable, 0.04), -0.17, 0.07))  # depth of inspiration
    turn = float(np.clip(rng.normal(0, 0.35 + 0.15 * portable), -1, 1))
    unit = min(0.775 * width, 0.83 * height) * float(np.clip(rng.normal(1.0, 0.05), 0.86, 1.08))
    tilt = float(np.clip(rng.normal(0, 0.022 + 0.018 * portable), -0.08, 0.08))

    halves = 0.487 + 0.012 * rng.normal(size=2) + np.array([-0.018, 0.018]) * turn
    high = float(np.clip(rng.normal(0.875 + breath, 0.03), 0.68, 0.97))
    domes = [high, high + 0.028 + 0.014 * rng.normal()]
    apexes = rng.normal(0, 0.010, 2)
    angles = [dome + float(np.clip(rng.normal(0.135, 0.022), 0.08, 0.19)) for dome in domes]
    angles[1] = max(angles[1], domes[1] + 0.10)
    round_ = float(rng.normal(0, 0.7))
    sides = [_lung(i, halves[i], apexes[i], domes[i], angles[i], round_, rng) for i in (0, 1)]

    ratio = float(np.clip(rng.normal(0.45 + 0.03 * portable - 0.25 * breath, 0.03), 0.36, 0.58))
    ratio = (ratio + 0.085 * growth) * float(halves.sum()) / 0.98
    wide = float(np.clip(rng.normal(1.0 + 0.10 * portable, 0.09), 0.8, 1.35)) * (1 + 0.12 * growth)
    plump = float(rng.normal(0, 0.7)) + 0.5 * growth
    heart, top, knob = _silhouette(ratio, plump, domes[1] - 0.035, wide, 0.022 * turn, rng)
    hila = (
        np.array([-0.120 + 0.010 * turn - 0.02 * growth, 0.455 + 0.012 * rng.normal()]),
        np.array([0.122 + 0.010 * turn + 0.02 * growth, 0.425 + 0.012 * rng.normal()]),
    )
    v = np.linspace(-0.8, 2.0, 29)
    sway = 0.012 * rng.normal() * np.sin(3.0 * v + rng.uniform(0, 6)) + 0.004 * rng.normal()
    middle = 0.5 * (max(angles) + min(0.0, float(apexes.min())))
    y0 = height * float(np.clip(rng.normal(0.475, 0.022), 0.42, 0.53)) - unit * middle
    y0 = max(y0, 0.055 * height)
    x0 = width * (0.5 + float(np.clip(rng.normal(0, 0.018), -0.05, 0.05)))
    return Chest(
        frame=Frame(height, width, unit, x0, y0, tilt),
        view=view,
        landscape=landscape,
        lungs=(sides[0][0], sides[1][0]),
        walls=(sides[0][1], sides[1][1]),
        angles=(sides[0][2], sides[1][2]),
        domes=(sides[0][3], sides[1][3]),
        heart=heart,
        mediastinum=top,
        knob=knob,
        hila=hila,
        bend=np.stack([np.broadcast_to(sway, v.shape), v], axis=-1),
        turn=turn,
        fat=fat,
    )
