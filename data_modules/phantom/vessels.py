"""Pulmonary vessels: trees that grow from both hila into the lungs."""

import cv2
import numpy as np

from data_modules.phantom.canvas import Bytes, Plane, Points, blur, corners, curve, fill, line, strip
from data_modules.phantom.chest import Chest

_GENERATIONS = 5


def draw_vessels(chest: Chest, rng: np.random.Generator, inside: Plane, diversion: float = 0.0) -> Plane:
    """Vessels as a plane 0..1, float32 ``[H, W]``.

    Args:
        chest: the patient.
        rng: source of all variation; what it gives does not depend on ``diversion``.
        inside: 0..1 plane of the lungs; branches that leave it end.
        diversion: strength of heart failure: vessels of the upper lobes become wider by 0.75 per unit.
    """
    frame = chest.frame
    starts, angles, lengths, widths = [], [], [], []
    for side in (0, 1):
        sign = 1.0 if side else -1.0
        count = int(rng.integers(9, 13))
        fan = np.deg2rad(np.linspace(-82, 84, count) + rng.normal(0, 11, count))  # from upwards to downwards
        below = np.clip((fan + 1.2) / 2.2, 0, 1)
        at = chest.hila[side] + np.stack(
            [sign * (0.045 * rng.random(count) - 0.01), 0.075 * np.sin(fan) + 0.02 * rng.normal(size=count)], axis=-1
        )
        starts.append(at)
        angles.append(np.where(sign > 0, fan, np.pi - fan))
        lengths.append((0.105 + 0.05 * np.abs(np.sin(fan))) * rng.uniform(0.75, 1.15, count))
        upper = 1 + 0.75 * diversion * (fan < -0.15)
        widths.append(0.0125 * (0.62 + 0.38 * below) * rng.uniform(0.55, 1.25, count) * upper)
    start, angle = np.concatenate(starts), np.concatenate(angles)
    length, width = np.concatenate(lengths), np.concatenate(widths)
    drawn: list[tuple[Points, Points]] = []
    s = np.linspace(0, 1, 6)
    for generation in range(_GENERATIONS):
        bent = angle[:, None] + np.cumsum(rng.normal(0, 0.13, (len(angle), len(s) - 1)), axis=1)
        steps = (length[:, None] / (len(s) - 1))[..., None] * np.stack([np.cos(bent), np.sin(bent)], axis=-1)
        path = np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, axis=1)], axis=1)
        drawn.append((path, width))
        shrink = np.where(rng.random((len(angle), 2)) < 0.5, 0.80, 0.62)
        shrink[:, 1] = 1.40 - shrink[:, 0]
        spread = rng.uniform(0.18, 0.62, (len(angle), 2)) * np.array([1.0, -1.0])
        factor = rng.uniform(0.62, 0.95, (len(angle), 2))
        start = np.repeat(path[:, -1], 2, axis=0)
        angle = (bent[:, -1:] + spread * (1.1 - shrink) * 2).ravel()
        length, width = (length[:, None] * factor).ravel(), (width[:, None] * shrink).ravel()
        place = frame.px(start).astype(int)
        ok = (place >= 0).all(axis=1) & (place[:, 0] < frame.width) & (place[:, 1] < frame.height)
        ok[ok] &= inside[place[ok, 1], place[ok, 0]] > 0.5
        keep = ok & (width > 0.0008 * (1 + 0.2 * generation))
        start, angle, length, width = start[keep], angle[keep], length[keep], width[keep]
    layer = frame.layer()
    for path, wide in reversed(drawn):
        half = wide[:, None] * np.linspace(0.5, 0.42, path.shape[1]) * frame.unit
        polygons = corners(strip(frame.px(path), np.maximum(half, 0.35)))
        values = 255 * np.clip(wide * 310 / 4.0, 0.05, 1.0)
        for polygon, value in zip(polygons, values.tolist(), strict=True):
            cv2.fillPoly(layer, [polygon], (value,), cv2.LINE_AA, 4)
    _trunks(chest, rng, layer)
    return blur(layer, 0.9 * frame.unit / 310)


def _trunks(chest: Chest, rng: np.random.Generator, layer: Bytes) -> None:
    """The large arteries of both hila, and a bronchus seen end on."""
    frame = chest.frame
    u, v = chest.hila[0]
    down = curve([(u + 0.03, v - 0.045), (u - 0.006, v), (u - 0.022, v + 0.07), (u - 0.034, v + 0.17)])
    taper = np.linspace(0.026, 0.008, len(down)) * rng.uniform(0.85, 1.15) * frame.unit
    fill(layer, strip(frame.px(down), taper), 225)
    u, v = chest.hila[1]
    arch = curve([(u - 0.05, v - 0.02), (u - 0.01, v - 0.028), (u + 0.016, v + 0.02), (u + 0.022, v + 0.11)])
    taper = np.linspace(0.027, 0.008, len(arch)) * rng.uniform(0.85, 1.15) * frame.unit
    fill(layer, strip(frame.px(arch), taper), 225)
    turn = np.linspace(0, 2 * np.pi, 13)
    side = int(rng.integers(2))
    centre = chest.hila[side] + np.array([0.03 if side else -0.03, -0.05])
    ring = centre + 0.009 * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    line(layer, frame.px(ring), 1.0, 200)
