"""Signs of heart failure and of pneumonia."""

from dataclasses import dataclass

import numpy as np

from data_modules.phantom.canvas import Bytes, Plane, blob, blur, curve, fill, line, noise, sigmoid
from data_modules.phantom.chest import Chest
from data_modules.phantom.film import BoolMask, Finding
from data_modules.phantom.soft import Anatomy

SEVERITY = (0.55, 1.25)
"""A patient's strength is the contrast knob times a number from this range."""


@dataclass(frozen=True)
class Effusion:
    """Pleural fluid on one side: its height above the costophrenic angle in chest units."""

    side: int
    height: float
    slant: float


def effusion_plane(chest: Chest, anatomy: Anatomy, effusion: Effusion) -> Plane:
    """Fluid 0..1 with a meniscus that rises to the lateral wall, float32 ``[H, W]``."""
    frame = chest.frame
    sign = 1.0 if effusion.side else -1.0
    tip = float(chest.angles[effusion.side][1])
    t = np.linspace(0, 1, 16)
    u = sign * (0.06 + 0.50 * t)
    level = tip - effusion.height * (0.45 + effusion.slant * t + 0.85 * t**5)
    level += 0.10 * (1 - t)  # medially the dome is higher than the fluid
    area = np.concatenate([np.stack([u, level], axis=-1), [[sign * 0.58, tip + 0.2], [sign * 0.05, tip + 0.2]]])
    fluid = blur(fill(frame.layer(), frame.px(area)), 2.4 * frame.unit / 310)
    return fluid * blur(anatomy.lungs[effusion.side], 0.8)


def effusion_mask(fluid: Plane, anatomy: Anatomy) -> BoolMask:
    """Where the fluid hides visible lung."""
    mask: BoolMask = (fluid > 0.5) & (anatomy.cardiac < 128)
    return mask


def failure_effusions(strength: float, rng: np.random.Generator) -> list[Effusion]:
    """Effusions of heart failure: per side in 65 %; the same draws for every strength."""
    draws = rng.random((2, 3))
    return [
        Effusion(side, (0.14 + 0.30 * float(draws[side, 1])) * strength, 0.25 * float(draws[side, 2]))
        for side in (0, 1)
        if draws[side, 0] < 0.65 and strength > 0
    ]


def draw_failure(
    chest: Chest, anatomy: Anatomy, air: Plane, strength: float, severity: float, rng: np.random.Generator
) -> tuple[Plane, list[Finding]]:
    """Attenuation of hilar congestion, perihilar haze and Kerley lines; findings without the effusions."""
    frame = chest.frame
    unit, shape = frame.unit, (frame.height, frame.width)
    haze, kerley = np.zeros(shape, np.float32), frame.layer()
    envelope = np.zeros(shape, np.float32)
    lines = rng.random() < 0.7
    for side, sign in ((0, -1.0), (1, 1.0)):
        hilum = chest.hila[side]
        x, y = frame.px(hilum + np.array([sign * 0.085, 0.04 + 0.03 * rng.random()]))
        size = rng.uniform(0.085, 0.125) * unit
        patch = blob(shape, (float(x), float(y)), (size, 1.5 * size), sign * 0.25)
        if patch is not None:
            envelope[patch[0]] = np.maximum(envelope[patch[0]], patch[1])
        for _ in range(3):
            spot = hilum + np.array([sign * rng.uniform(0.0, 0.035), rng.uniform(-0.05, 0.08)])
            x, y = frame.px(spot)
            size = rng.uniform(0.016, 0.030) * unit
            weight = np.float32(rng.uniform(0.07, 0.12))
            patch = blob(shape, (float(x), float(y)), (size, 1.3 * size), float(rng.uniform(0, 3)))
            if patch is not None:
                haze[patch[0]] += weight * patch[1]
        for _ in range(int(rng.integers(4, 8))):
            v = float(chest.angles[side][1]) - rng.uniform(0.06, 0.24)
            start, reach, fall = rng.uniform(0.004, 0.02), rng.uniform(0.03, 0.055), rng.normal(0, 0.004)
            wall = float(chest.wall(side, v))
            piece = np.array([[wall - sign * start, v], [wall - sign * (start + reach), v + fall]])
            if lines:
                line(kerley, frame.px(piece), 1.2 * unit / 310)
    texture = 1 + np.float32(0.45) * noise(rng, shape, 6 * unit / 310)
    free = np.clip(air * np.float32(1.6), 0, 1) * (1 - np.float32(0.5) * anatomy.opaque)
    plane = (haze + np.float32(0.11) * envelope * texture) * free
    plane += np.float32(0.10) * blur(kerley, 0.7 * unit / 310) * free
    edema: BoolMask = (envelope > 0.45) & (both_lungs(anatomy) > 127) & (anatomy.cardiac < 128)
    low = chest.domes[1] + np.array([[-0.9, 0.03], [0.9, 0.03], [0.9, -1.4], [-0.9, -1.4]])
    heart: BoolMask = (anatomy.heart > 127) & (fill(frame.layer(), frame.px(low)) > 127)
    findings = [
        Finding("Enlarged cardiac silhouette", heart, severity, True),
        Finding("Pulmonary edema", edema, severity, True),
    ]
    return np.asarray(plane * np.float32(strength), np.float32), findings


def both_lungs(anatomy: Anatomy) -> Bytes:
    """Both lungs in one layer, 0..255."""
    return np.maximum(anatomy.lungs[0], anatomy.lungs[1])


_LOBES = (  # side, u, v (fraction of the way from apex to dome), share, lower border drawn by a fissure
    (0, 0.27, 0.30, 0.15, True),
    (0, 0.20, 0.76, 0.17, False),
    (0, 0.30, 0.86, 0.22, False),
    (1, 0.26, 0.32, 0.12, False),
    (1, 0.29, 0.68, 0.12, False),
    (1, 0.31, 0.85, 0.22, False),
)


def draw_pneumonia(
    chest: Chest, anatomy: Anatomy, air: Plane, strength: float, severity: float, rng: np.random.Generator
) -> tuple[Plane, list[Finding]]:
    """Attenuation of a ragged focal consolidation in one lobe, and its finding."""
    frame = chest.frame
    unit, shape = frame.unit, (frame.height, frame.width)
    side, u, part, _, fissure = _LOBES[int(rng.choice(len(_LOBES), p=[lobe[3] for lobe in _LOBES]))]
    sign = 1.0 if side else -1.0
    centre = np.array([sign * (u + rng.normal(0, 0.035)), float(chest.domes[side][1]) * (part + rng.normal(0, 0.04))])
    size = rng.uniform(0.078, 0.145)
    stretch, angle = rng.uniform(0.75, 1.25), rng.uniform(0, np.pi)
    bounded = fissure and rng.random() < 0.5
    x, y = np.clip(frame.px(centre), 6, np.array([frame.width, frame.height]) - 6)
    radius = (float(size * stretch * unit), float(size / stretch * unit))
    patch = blob(shape, (float(x), float(y)), radius, float(angle))
    ragged = noise(rng, shape, 13 * unit / 310) + np.float32(0.5) * noise(rng, shape, 5 * unit / 310)
    texture = noise(rng, shape, 3.0 * unit / 310)
    core = np.zeros(shape, np.float32)
    if patch is not None:
        place, envelope = patch
        core[place] = envelope * (1 + np.float32(0.22) * ragged[place])
    soft = sigmoid((core - np.float32(0.5)) * np.float32(6))
    soft[core == 0] = 0
    if bounded:
        border = curve([(sign * 0.08, 0.50), (sign * 0.25, 0.50), (sign * 0.6, 0.53)])
        above = np.concatenate([border, [[sign * 0.6, -0.5], [sign * 0.08, -0.5]]])
        keep = blur(fill(frame.layer(), frame.px(above)), 1.5 * unit / 310)
        soft *= 0.25 + 0.75 * keep
    visible = anatomy.inside * np.clip(air * np.float32(2.2), 0.25, 1) * (1 - np.float32(0.35) * anatomy.opaque)
    plane = np.float32(0.118 * strength) * soft * (1 + np.float32(0.13) * texture) * visible
    lung = anatomy.lungs[side] > 127
    mask: BoolMask = (soft > 0.5) & lung
    if not mask.any():
        mask = (core >= 0.9 * float((core * lung).max())) & lung
    label = "Consolidation" if severity > 0.57 or rng.random() < 0.4 else "Groundglass opacity"
    return np.asarray(plane, np.float32), [Finding(label, mask, severity, True)]
