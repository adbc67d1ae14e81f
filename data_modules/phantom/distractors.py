"""Things that occur with every diagnosis: scars, nodules, a small effusion."""

import numpy as np

from data_modules.phantom.canvas import Plane, blob, blur, curve, line
from data_modules.phantom.chest import Chest
from data_modules.phantom.disease import Effusion
from data_modules.phantom.film import BoolMask, Finding
from data_modules.phantom.soft import Anatomy


def small_effusion(rng: np.random.Generator) -> Effusion | None:
    """A small one-sided effusion in 10 % of all patients."""
    present, side, height, slant = rng.random() < 0.10, int(rng.integers(2)), rng.uniform(0.06, 0.13), rng.random()
    return Effusion(side, float(height), 0.25 * float(slant)) if present else None


def draw_distractors(
    chest: Chest, anatomy: Anatomy, air: Plane, rng: np.random.Generator, attenuation: Plane, extras: dict[str, float]
) -> list[Finding]:
    """Add scars (35 % of films) and nodules (0.5 per film) in place; returns their findings."""
    frame = chest.frame
    unit, shape = frame.unit, (frame.height, frame.width)
    findings: list[Finding] = []
    lung = np.maximum(anatomy.lungs[0], anatomy.lungs[1]) > 127
    visible = np.clip(air * np.float32(1.8), 0.15, 1) * anatomy.inside
    free: BoolMask = lung & (anatomy.cardiac < 128)
    n_scars = int(rng.integers(1, 3)) if rng.random() < 0.35 else 0
    for _ in range(n_scars):
        side = int(rng.integers(2))
        sign = 1.0 if side else -1.0
        v = float(chest.domes[side][1]) - rng.uniform(0.02, 0.20)
        u, reach, fall = rng.uniform(0.20, 0.38), rng.uniform(0.04, 0.09), rng.normal(0, 0.025)
        points = [(u - reach, v), (u, v + fall + 0.006 * rng.normal()), (u + reach, v + 2 * fall)]
        path = frame.px(curve(points) * np.array([sign, 1.0]))
        wide, dense = rng.uniform(1.2, 3.0) * unit / 310, rng.uniform(0.06, 0.14)
        layer = line(frame.layer(), path, float(wide))
        attenuation += np.float32(dense) * blur(layer, 0.8 * unit / 310) * visible
        mask: BoolMask = (blur(line(frame.layer(), path, 5 * unit / 310), 1.0) > 0.3) & lung
        if mask.any():
            findings.append(Finding("Atelectasis", mask, float(0.2 + 3.0 * dense), False))
    n_nodules = int(rng.poisson(0.5))
    for _ in range(n_nodules):
        side = int(rng.integers(2))
        sign = 1.0 if side else -1.0
        centre = np.array([sign * rng.uniform(0.16, 0.42), rng.uniform(0.12, 0.80)])
        radius = rng.uniform(0.009, 0.021) * unit
        dense = rng.uniform(0.05, 0.15)
        x, y = (float(value) for value in frame.px(centre))
        patch = blob(shape, (x, y), (1.1 * radius, 1.1 * radius))
        if patch is None or not (0 <= y < shape[0] and 0 <= x < shape[1]) or not free[int(y), int(x)]:
            continue
        place, values = patch
        flat = np.minimum(values * np.float32(1.7), 1)
        attenuation[place] += np.float32(dense) * flat * visible[place]
        mask = np.zeros(shape, np.bool_)
        mask[place] = flat > 0.5
        mask[int(y), int(x)] = True
        findings.append(Finding("Lung nodule or mass", mask & lung, float(0.1 + 3.5 * dense), False))
    extras["n_scars"], extras["n_nodules"] = float(n_scars), float(n_nodules)
    return findings
