"""Soft tissue: trunk, arms, lungs, heart, abdomen, breasts, trachea, gastric bubble."""

from dataclasses import dataclass

import numpy as np

from data_modules.phantom.canvas import Bytes, Plane, blob, blur, curve, depth, fill, line, noise, strip
from data_modules.phantom.chest import Chest


@dataclass(frozen=True)
class Anatomy:
    """Planes of a patient, all ``[H, W]``.

    Attributes:
        body: uint8 0..255, trunk and arms.
        lungs: uint8 0..255 per lung, index 0 the patient's right.
        heart: uint8 0..255.
        cardiac: uint8 0..255, heart, mediastinum and aortic knob.
        knob: uint8 0..255.
        inside: float32 0..1, soft-edged lungs.
        opaque: float32 0..1, how much the heart and mediastinum hide of the air.
    """

    body: Bytes
    lungs: tuple[Bytes, Bytes]
    heart: Bytes
    cardiac: Bytes
    knob: Bytes
    inside: Plane
    opaque: Plane


def draw_anatomy(chest: Chest, rng: np.random.Generator) -> Anatomy:
    """Fill the outlines of body, lungs and heart."""
    frame = chest.frame
    unit = frame.unit
    fat = 0.045 * chest.fat
    body = frame.layer()
    j = rng.normal(0, 0.008, 8)
    neck, slope = 0.155 + 0.5 * fat + j[0], -0.085 + j[1]
    outline = [
        (neck, -0.9),
        (neck, -0.34),
        (neck + 0.008, -0.23),
        (neck + 0.045, slope - 0.070),
        (0.27, slope - 0.035),
        (0.40, slope - 0.005),
        (0.55, slope + 0.045),
        (0.665 + fat, slope + 0.16),
        (0.650 + fat, 0.26),
        (0.575 + fat, 0.37),
        (0.558 + fat + j[2], 0.50),
        (0.555 + fat + j[3], 0.80),
        (0.560 + 1.2 * fat + j[4], 1.05),
        (0.555 + 1.7 * fat + j[5], 1.35),
        (0.560 + 1.9 * fat, 2.1),
    ]
    half = curve(outline)
    mirrored = half[::-1] * np.array([-1.0, 1.0])
    fill(body, frame.px(np.concatenate([half, mirrored])))
    arms = rng.normal(0.10 if chest.view == "PA" else 0.03, 0.06, 2)
    for sign, swing in zip((-1.0, 1.0), arms, strict=True):
        path = curve([(0.565, 0.10), (0.640 + fat, 0.18), (0.70 + fat + 0.4 * swing, 0.5), (0.72 + fat + swing, 1.9)])
        fill(body, frame.px(strip(path * np.array([sign, 1.0]), np.linspace(0.095, 0.085, len(path)))))

    lungs = (fill(frame.layer(), frame.px(chest.lungs[0])), fill(frame.layer(), frame.px(chest.lungs[1])))
    heart = fill(frame.layer(), frame.px(chest.heart))
    knob = fill(frame.layer(), frame.px(chest.knob))
    top = fill(frame.layer(), frame.px(chest.mediastinum))
    vessels = np.maximum(top, knob)
    cardiac = np.maximum(heart, vessels)
    both = np.maximum(*lungs)
    edge, veil = rng.uniform(1.6, 3.2) * unit / 310, np.float32(rng.uniform(0.90, 1.02))
    opaque = veil * np.maximum(
        blur(heart, edge) * (0.74 + 0.19 * depth(heart, 0.14 * unit)),
        blur(vessels, edge) * np.float32(0.80),
    )
    return Anatomy(
        body=body,
        lungs=lungs,
        heart=heart,
        cardiac=cardiac,
        knob=knob,
        inside=blur(both, 1.5 * unit / 310),
        opaque=opaque,
    )


def aerated(anatomy: Anatomy, fluid: Plane, unit: float) -> Plane:
    """How much air the rays cross, 0..1. ``fluid`` (0..1) is pleural effusion."""
    both: Bytes = np.maximum(*anatomy.lungs)
    air = anatomy.inside * (0.50 + 0.50 * depth(both, 0.17 * unit))
    air = air * (1 - anatomy.opaque)
    thinned: Plane = air * (1 - np.float32(0.85) * fluid)
    return thinned


def draw_soft(chest: Chest, anatomy: Anatomy, air: Plane, rng: np.random.Generator, extras: dict[str, float]) -> Plane:
    """Attenuation of the soft tissue, float32 ``[H, W]``; 0 outside the body."""
    frame = chest.frame
    unit, shape = frame.unit, (frame.height, frame.width)
    thick = 0.80 + 0.06 * chest.fat
    tissue = blur(anatomy.body, 1.6 * unit / 310) * (0.42 + 0.58 * depth(anatomy.body, 0.20 * unit))
    tissue *= np.float32(thick)
    tissue *= 1 + np.float32(0.020) * noise(rng, shape, 22 * unit / 310)
    v = (np.arange(frame.height, dtype=np.float32)[:, None] - np.float32(frame.y0)) / np.float32(unit)
    floor = 0.5 * (chest.domes[0][1] + chest.domes[1][1])
    belly = np.clip((v - np.float32(floor - 0.10)) / np.float32(0.16), 0, 1)
    tissue += np.float32(0.25 + 0.05 * chest.fat) * belly * (1 - anatomy.inside) * tissue / np.float32(thick)
    u = (np.arange(frame.width, dtype=np.float32)[None, :] - np.float32(frame.x0)) / np.float32(unit)
    tissue *= 1 + np.float32(0.05 * chest.turn) * np.clip(u, -0.6, 0.6)
    _breasts(chest, rng, tissue, extras)
    attenuation: Plane = tissue * (1 - np.float32(0.72) * air)
    chin = np.clip((v + np.float32(0.16)) / np.float32(0.46), 0.15, 1)
    attenuation += np.float32(0.22) * anatomy.opaque * (0.6 + 0.4 * anatomy.inside) * chin
    _airways(chest, rng, attenuation)
    _stomach(chest, anatomy, rng, attenuation, extras)
    return attenuation


def _breasts(chest: Chest, rng: np.random.Generator, tissue: Plane, extras: dict[str, float]) -> None:
    """Breast shadows: fade in from above, end with a sharp lower edge."""
    frame = chest.frame
    present = rng.random() < 0.45
    size, sag, density = rng.uniform(0.75, 1.15), rng.normal(0.0, 0.05), rng.uniform(0.06, 0.17)
    j = rng.normal(0, 0.01, 4)
    extras["breasts"] = float(present)
    if not present:
        return
    for side, sign in ((0, -1.0), (1, 1.0)):
        centre_u, centre_v = 0.30 + j[side], 0.61 + sag + j[2 + side]
        around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        lobe = np.stack(
            [
                centre_u + 0.205 * size * np.cos(around) + 0.03 * size * np.sin(around),
                centre_v + np.where(np.sin(around) > 0, 0.20, 0.30) * size * np.sin(around),
            ],
            axis=-1,
        )
        layer = fill(frame.layer(), frame.px(lobe * np.array([sign, 1.0])))
        v = (np.arange(frame.height, dtype=np.float32)[:, None] - np.float32(frame.y0)) / np.float32(frame.unit)
        ramp = np.clip((v - np.float32(centre_v - 0.30 * size)) / np.float32(0.42 * size), 0, 1) ** 1.3
        u = (np.arange(frame.width, dtype=np.float32)[None, :] - np.float32(frame.x0)) / np.float32(frame.unit)
        ramp = ramp * np.clip((np.abs(u) - np.float32(0.12)) / np.float32(0.24), 0, 1)
        tissue += np.float32(density) * ramp * blur(layer, 2.0 * frame.unit / 310)


def _airways(chest: Chest, rng: np.random.Generator, attenuation: Plane) -> None:
    """Trachea and main bronchi, darker than the mediastinum around them."""
    frame = chest.frame
    unit = frame.unit
    shift = 0.012 * chest.turn + 0.004 * rng.normal()
    carina = 0.345 + 0.012 * rng.normal()
    wide = 0.0205 * rng.uniform(0.85, 1.1)
    layer = frame.layer()
    trachea = curve([(shift, -0.30), (shift * 1.2, 0.0), (shift - 0.008, 0.2), (shift - 0.008, carina)])
    fill(layer, frame.px(strip(trachea, wide)), 230)
    right = curve([(shift - 0.012, carina - 0.02), (shift - 0.06, carina + 0.06), (-0.115, carina + 0.11)])
    left = curve([(shift - 0.002, carina - 0.02), (shift + 0.055, carina + 0.045), (0.125, carina + 0.075)])
    fill(layer, frame.px(strip(right, np.linspace(0.017, 0.011, len(right)))), 150)
    fill(layer, frame.px(strip(left, np.linspace(0.015, 0.010, len(left)))), 130)
    attenuation -= np.float32(0.115) * blur(layer, 2.3 * unit / 310)
    aorta = curve([(0.088 + shift, 0.27), (0.080 + shift, 0.5), (0.065 + shift, 0.75), (0.05, 0.98)])
    edge = line(frame.layer(), frame.px(aorta), 2.0 * unit / 310)
    attenuation += np.float32(0.035) * blur(edge, 1.4 * unit / 310)


def _stomach(
    chest: Chest, anatomy: Anatomy, rng: np.random.Generator, attenuation: Plane, extras: dict[str, float]
) -> None:
    """Gas under the left dome and in the bowel."""
    frame = chest.frame
    unit, shape = frame.unit, (frame.height, frame.width)
    below = 1 - anatomy.inside
    present = rng.random() < 0.7
    extras["gastric_bubble"] = float(present)
    wide, high = rng.uniform(0.04, 0.12), rng.uniform(0.018, 0.055)
    u, gap = 0.24 + 0.05 * rng.normal(), rng.uniform(0.012, 0.04)
    wobble = rng.normal(0, 0.12, 9)
    if present:
        around = np.linspace(0, 2 * np.pi, 9, endpoint=False)
        radius = 1 + wobble
        centre = chest.domes[1][1] + gap + high
        flat = np.minimum(np.sin(around) * radius, 0.75)
        ring = np.stack([u + wide * np.cos(around) * radius, centre + high * flat], axis=-1)
        gas = blur(fill(frame.layer(), frame.px(curve(ring, closed=True))), 2.2 * unit / 310)
        attenuation -= np.float32(rng.uniform(0.10, 0.26)) * gas * below
    for _ in range(int(rng.poisson(1.6))):
        spot = np.array([rng.normal(0.22, 0.16), rng.uniform(1.10, 1.5)])
        x, y = frame.px(spot)
        size = rng.uniform(0.012, 0.05, 2) * unit
        patch = blob(shape, (float(x), float(y)), (float(size[0]), float(size[1])), float(rng.uniform(0, 3)))
        gas_depth = np.float32(rng.uniform(0.05, 0.16))
        if patch is not None:
            place, values = patch
            attenuation[place] -= gas_depth * values * below[place]
