"""Ribs, spine, clavicles, scapulae and humeri."""

import numpy as np

from data_modules.phantom.canvas import Plane, Points, blur, curve, fill, line, strip
from data_modules.phantom.chest import Chest
from data_modules.phantom.soft import Anatomy


def _rib(
    chest: Chest, side: int, start: float, drop: float, lift: float, reach: float, front: float, limit: float
) -> list[Points]:
    """Back and front part of a rib's centre line in chest coordinates."""
    sign = 1.0 if side else -1.0
    edge = min(abs(float(chest.wall(side, start + drop))) + 0.012, limit)
    s = np.linspace(0, 1, 17)
    bow = np.sin(s * np.pi / 2)
    u = 0.035 + (edge - 0.035) * (0.25 * s + 0.75 * bow)
    v = start + drop * (0.25 * s**1.3 + 0.75 * s**3.2) - lift * np.sin(np.pi * s**0.7)
    back = np.stack([sign * u, v], axis=-1)
    t = np.linspace(0, 1, 13)
    inner = edge - reach
    u = edge - (edge - inner) * (0.15 * t + 0.85 * t**1.6)
    v = start + drop + front * (1 - (1 - t) ** 1.5) * 0.9
    return [back, np.stack([sign * u, v], axis=-1)]


def _ribs(chest: Chest, rng: np.random.Generator, attenuation: Plane, veil: Plane) -> None:
    frame = chest.frame
    back, front, rims = frame.layer(), frame.layer(), frame.layer()
    step = 0.086 * (1 + 0.03 * rng.normal())
    first = -0.035 + 0.012 * rng.normal()
    steep = 1 + 0.16 * rng.normal()
    calcium = float(np.clip(rng.normal(1.0, 0.25), 0.4, 1.6))
    for side in (0, 1):
        for k in range(11):
            start = first + step * k + 0.004 * rng.normal()
            drop = (0.11 + 0.125 * min(k, 6) / 6 + 0.008 * max(0, k - 6)) * steep
            lift = (0.024 + 0.006 * rng.normal()) * min(1.0, 0.2 + k / 3)
            fall = (0.10 + 0.05 * min(k, 5) / 5) * steep
            reach = 0.13 + 0.19 * min(k, 5) / 5 + 0.01 * rng.normal()
            limit = (0.225, 0.335)[k] if k < 2 else 1.0
            rear, fore = _rib(chest, side, start, drop, lift, reach, fall, limit)
            rear, fore = frame.px(rear), frame.px(fore)
            if k > 7:  # floating ribs end early and are thin
                rear = rear[:14]
            half = (
                frame.unit
                * (0.0155 + 0.002 * rng.normal())
                * np.interp(np.arange(len(rear)), [0, 11, len(rear) - 1], [0.85, 1, 0.55 if k < 8 else 0.2])
            )
            outline = strip(rear, half)
            fill(back, outline, 255 if k < 8 else 170)
            n = len(rear)
            line(rims, outline[:n], 1.0, 255 if k < 8 else 130)
            line(rims, outline[n:], 1.0, 170 if k < 8 else 90)
            if k < 8:
                half = frame.unit * (0.017 + 0.002 * rng.normal()) * np.linspace(0.75, 1.15, len(fore))
                outline = strip(fore, half)
                parts = 4  # fades into cartilage
                for i in range(parts):
                    a, b = i * 3, i * 3 + 4
                    piece = np.concatenate([outline[a:b], outline[2 * len(fore) - b : 2 * len(fore) - a]])
                    fill(front, piece, (255, 235, 200, 150)[i])
                line(rims, outline[: len(fore) - 3], 0.8, 130)
                line(rims, outline[len(fore) + 3 :], 0.8, 130)
    size = frame.unit / 310
    bone = blur(back, 1.3 * size) * np.float32(0.064 * calcium)
    bone += blur(front, 1.6 * size) * np.float32(0.042 * calcium)
    bone += blur(rims, 0.6 * size) * np.float32(0.050 * calcium)
    attenuation += bone * veil


def _spine(chest: Chest, rng: np.random.Generator, attenuation: Plane) -> None:
    frame = chest.frame
    body, rims = frame.layer(), frame.layer()
    v, pitch = -frame.y0 / frame.unit - 0.15, 0.058
    while v < (frame.height - frame.y0) / frame.unit + 0.05:
        half_u = 0.040 + 0.012 * np.clip(v, 0, 1.2)
        centre = float(chest.spine(v))
        box = curve(
            [
                (centre - half_u, v + 0.007),
                (centre - half_u * 0.9, v + pitch * 0.45),
                (centre - half_u, v + pitch * 0.86),
                (centre + half_u, v + pitch * 0.86),
                (centre + half_u * 0.9, v + pitch * 0.45),
                (centre + half_u, v + 0.007),
            ],
            closed=True,
            steps=4,
        )
        outline = frame.px(box)
        dense = float(np.clip(0.75 + 1.2 * v, 0.5, 1.0))  # the neck's vertebrae are small
        fill(body, outline, 190 * dense)
        line(rims, np.concatenate([outline, outline[:1]]), 1.0, 150 * dense)
        for sign in (-1.0, 1.0):
            spot = np.array([[centre + sign * half_u * 0.55, v + pitch * 0.35]])
            ring = spot + 0.009 * np.stack([np.cos(np.arange(8) * 0.785), 1.3 * np.sin(np.arange(8) * 0.785)], -1)
            fill(body, frame.px(ring), 255)
        tip = float(rng.normal(0, 0.002)) + centre + 0.010 * chest.turn
        fill(
            rims, frame.px(np.array([[tip, v + 0.6 * pitch], [tip - 0.008, v + pitch], [tip + 0.008, v + pitch]])), 200
        )
        v += pitch
        pitch = 0.058 + 0.016 * float(np.clip(v, 0, 1.2))
    size = frame.unit / 310
    attenuation += blur(body, 1.8 * size) * np.float32(0.075) + blur(rims, 0.9 * size) * np.float32(0.028)


def _shoulders(chest: Chest, rng: np.random.Generator, attenuation: Plane, anatomy: Anatomy) -> None:
    frame = chest.frame
    bone, rims = frame.layer(), frame.layer()
    portable = chest.view == "AP"
    rise = np.clip(rng.normal(0.015 if portable else 0.0, 0.02), -0.05, 0.03)
    slope = rng.normal(0.10, 0.035)
    blade = rng.normal(0.045 if portable else -0.055, 0.025)  # AP: the scapulae lie over the lungs
    for side in (0, 1):
        sign = 1.0 if side else -1.0
        offset = 0.022 * chest.turn
        j = rng.normal(0, 0.006, 6)
        low = 0.135 - rise + j[0]
        medial = 0.045 + sign * offset + j[1]
        clavicle = [
            (medial, low),
            (0.13 + 0.5 * sign * offset, low - 0.25 * slope + 0.008),
            (0.25, low - 0.72 * slope + j[2]),
            (0.37, low - 1.08 * slope + j[3]),
            (0.47, low - 1.12 * slope),
            (0.535, low - 0.85 * slope),
        ]
        path = frame.px(curve(clavicle) * np.array([sign, 1.0]))
        swell = np.interp(np.linspace(0, 1, len(path)), [0, 0.12, 0.5, 0.85, 1], [1.35, 1.0, 0.78, 0.95, 1.25])
        outline = strip(path, swell * 0.0185 * frame.unit)
        fill(bone, outline, 190)
        line(rims, np.concatenate([outline, outline[:1]]), 1.1, 200)
        tip = low - 0.85 * slope
        edge = [
            (0.56, tip + 0.035),
            (0.505 - 0.5 * blade, tip + 0.075),
            (0.455 - blade, 0.19 + j[4]),
            (0.43 - blade, 0.33),
            (0.455 - 0.8 * blade, 0.47 + j[5]),
            (0.485 - 0.7 * blade, 0.49),
            (0.535 - 0.5 * blade, 0.34),
            (0.565 - 0.3 * blade, 0.21),
            (0.585, 0.14 + 0.5 * tip),
        ]
        outline = frame.px(curve(edge, closed=True) * np.array([sign, 1.0]))
        fill(bone, outline, 60)
        line(rims, outline[12:52], 1.2, 150)
        line(rims, outline[52:], 1.5, 235)
        ridge = np.array([(0.44 - blade, 0.17), (0.50 - 0.5 * blade, tip + 0.055), (0.60, tip + 0.01)])
        line(rims, frame.px(curve(ridge) * np.array([sign, 1.0])), 3.0 * frame.unit / 310, 110)
        head = 0.645 + 0.01 * rng.normal()
        swing = rng.normal(0.10, 0.05)
        humerus = [
            (head - 0.055, tip + 0.06),
            (head - 0.02, tip + 0.025),
            (head + 0.04, tip + 0.05),
            (head + 0.055, tip + 0.12),
            (head + 0.04 + 0.2 * swing, tip + 0.22),
            (head + 0.05 + swing, tip + 0.8),
            (head - 0.01 + swing, tip + 0.8),
            (head - 0.02 + 0.2 * swing, tip + 0.24),
            (head - 0.055, tip + 0.13),
        ]
        outline = frame.px(curve(humerus, closed=True) * np.array([sign, 1.0]))
        fill(bone, outline, 230)
        line(rims, outline, 1.6, 255)
    size = frame.unit / 310
    bone[anatomy.body < 128] = 0
    rims[anatomy.body < 128] = 0
    attenuation += blur(bone, 1.2 * size) * np.float32(0.15) + blur(rims, 0.7 * size) * np.float32(0.07)


def draw_bones(chest: Chest, rng: np.random.Generator, attenuation: Plane, anatomy: Anatomy) -> None:
    """Add the attenuation of the skeleton to a film in place; ribs fade where the heart is opaque."""
    _ribs(chest, rng, attenuation, 1 - np.float32(0.65) * anatomy.opaque)
    _spine(chest, rng, attenuation)
    _shoulders(chest, rng, attenuation, anatomy)
