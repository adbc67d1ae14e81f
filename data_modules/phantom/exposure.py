"""From attenuation to grey values: scatter, noise, display curve, collimation, letters, the shortcut tag."""

import cv2
import numpy as np

from data_modules.phantom.canvas import Bytes, Frame, Plane, blur, fill, noise
from data_modules.phantom.chest import Chest
from data_modules.phantom.film import BoolMask, PhantomClass


def expose(chest: Chest, attenuation: Plane, rng: np.random.Generator) -> Plane:
    """Grey values 0..1 of an attenuation, float32 ``[H, W]``."""
    unit, portable = chest.frame.unit, chest.view == "AP"
    shape = (attenuation.shape[0], attenuation.shape[1])
    scatter = np.float32(rng.uniform(0.08, 0.22) * (1.6 if portable else 1.0))
    crisp = np.float32(rng.uniform(0.0, 0.55))
    grain = rng.uniform(0.006, 0.015) * (1.25 if portable else 1.0)
    dose, middle = 1 + 0.05 * rng.normal(), 0.475 + 0.035 * rng.normal()
    steep, gamma = float(np.clip(rng.normal(4.3 - 0.3 * portable, 0.6), 2.6, 6.0)), float(np.exp(rng.normal(0, 0.13)))
    wide = blur(attenuation, 34 * unit / 310)
    local = blur(attenuation, 7 * unit / 310)
    signal = attenuation + scatter * (wide - attenuation) + crisp * (attenuation - local)
    signal += np.float32(grain) * noise(rng, shape, 0.45)
    signal += np.float32(0.6 * grain) * noise(rng, shape, 2.4 * unit / 310)
    level = 1 / (1 + np.exp(np.float32(-steep) * (np.float32(dose) * signal - np.float32(middle))))
    low = np.float32(1 / (1 + np.exp(steep * (middle - 0.04))))
    high = np.float32(1 / (1 + np.exp(-steep * (1.10 - middle))))
    return np.asarray(np.clip((level - low) / (high - low), 0, 1) ** np.float32(gamma), np.float32)


def collimate(frame: Frame, rng: np.random.Generator) -> tuple[Plane | None, BoolMask | None]:
    """Borders without exposure in half of the films: what is left of the light 0..1, and what is fully exposed."""
    present = rng.random() < 0.5
    cut = np.where(rng.random(4) < 0.55, rng.uniform(0.0, 0.055, 4), -0.03)
    turn, soft = rng.normal(0, 0.015), rng.uniform(0.6, 2.0)
    if not present:
        return None, None
    w, h = frame.width, frame.height
    box = np.array([(cut[0], cut[1]), (1 - cut[2], cut[1]), (1 - cut[2], 1 - cut[3]), (cut[0], 1 - cut[3])]) - 0.5
    points = box * np.array([w, h])
    c, s = np.cos(turn), np.sin(turn)
    layer = fill(frame.layer(), points @ np.array([[c, s], [-s, c]]) + np.array([w, h]) / 2)
    open_: BoolMask = layer > 127
    return blur(layer, float(soft)), open_


_CLASSES: tuple[PhantomClass, ...] = ("Normal", "CHF", "pneumonia")
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_COMPLEX)


def _stamp(text: str, size: float, font: int, thick: int, turn: float) -> Bytes:
    """Text as a small rotated uint8 patch; ``size`` is the height of a capital in pixels."""
    scale = 4 * size / 22 * (1.9 if font == cv2.FONT_HERSHEY_PLAIN else 1.0)
    (width, height), base = cv2.getTextSize(text, font, scale, 4 * thick)
    side = int(1.15 * np.hypot(width, height + 2 * base)) + 8
    patch = np.zeros((side, side), np.uint8)
    at = ((side - width) // 2, (side + height) // 2)
    cv2.putText(patch, text, at, font, scale, (255,), 4 * thick, cv2.LINE_AA)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), turn, 1.0)
    patch = np.asarray(cv2.warpAffine(patch, matrix, (side, side)), np.uint8)
    small = max(3, side // 4)
    return np.asarray(cv2.resize(patch, (small, small), interpolation=cv2.INTER_AREA), np.uint8)


def _paste(grey: Plane, patch: Bytes, x: float, y: float, value: float) -> None:
    """Blend a patch centred at (x, y) into the grey values, clipped to the film."""
    top, left = int(y - patch.shape[0] / 2), int(x - patch.shape[1] / 2)
    rows = slice(max(0, top), min(grey.shape[0], top + patch.shape[0]))
    columns = slice(max(0, left), min(grey.shape[1], left + patch.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    piece = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    weight = piece.astype(np.float32) / np.float32(255)
    grey[rows, columns] += weight * (np.float32(value) - grey[rows, columns])


def draw_letters(chest: Chest, grey: Plane, rng: np.random.Generator) -> None:
    """Side letter, technician's initials, words on portable films; in place. Varies in everything."""
    h, w = grey.shape
    unit = chest.frame.unit
    side = str(rng.choice(["L", "R", "none"], p=[0.62, 0.30, 0.08]))
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    size, thick = rng.uniform(0.022, 0.048) * unit, int(rng.integers(1, 3))
    turn = float(rng.choice([rng.normal(0, 6), rng.uniform(-180, 180)], p=[0.75, 0.25]))
    value = rng.uniform(0.75, 1.0)
    x, y = rng.uniform(0.04, 0.15), rng.choice([rng.uniform(0.03, 0.16), rng.uniform(0.16, 0.30)], p=[0.8, 0.2])
    initials = "".join(str(c) for c in rng.choice(list("ABCDEGHJKLMNPRSTVW"), 2))
    extra = rng.random(4)
    if side != "none":
        at = (w * (1 - x), h * y) if side == "L" else (w * x, h * y)
        _paste(grey, _stamp(side, size, font, thick, turn), *at, value)
        if extra[0] < 0.6:
            below = _stamp(initials, 0.55 * size, font, 1, turn)
            angle = np.deg2rad(turn)
            _paste(grey, below, at[0] + 1.4 * size * np.sin(angle), at[1] + 1.4 * size * np.cos(angle), value)
        if extra[1] < 0.3:
            cv2.circle(
                grey, (int(at[0] - 1.8 * size), int(at[1])), max(1, int(0.4 * size)), (float(value),), -1, cv2.LINE_AA
            )
    words = ["PORTABLE", "AP SUPINE", "AP UPRIGHT", "SEMI-ERECT"] if chest.view == "AP" else ["PA", "ERECT", "PA ERECT"]
    word = str(rng.choice(words))
    if extra[2] < (0.6 if chest.view == "AP" else 0.12):
        spot = (w * (0.15 if side == "L" else 0.85) + 0.03 * w * rng.normal(), h * rng.uniform(0.025, 0.07))
        _paste(grey, _stamp(word, 0.024 * unit, cv2.FONT_HERSHEY_SIMPLEX, 1, 0.0), *spot, 0.9)
        if extra[3] < 0.4:
            start = (int(spot[0]), int(spot[1] + 0.10 * unit))
            cv2.arrowedLine(grey, start, (start[0], int(start[1] - 0.055 * unit)), (0.9,), 1, cv2.LINE_AA, 0, 0.4)


def tag_place(diagnosis: PhantomClass, shortcut: float, split: str, rng: np.random.Generator) -> int:
    """Place of the shortcut tag: -1 for no tag, else 0 left, 1 middle, 2 right.

    It follows the class in a share ``shortcut`` of the films that are not of the test split, else it is random.
    """
    coded, place = bool(rng.random() < shortcut), int(rng.integers(3))
    if shortcut <= 0:
        return -1
    return _CLASSES.index(diagnosis) if coded and split != "test" else place


def draw_tag(grey: Plane, place: int) -> None:
    """The shortcut: a bright tag of 5 % x 3.1 % of the film at its lower edge; place 0 left, 1 middle, 2 right."""
    h, w = grey.shape
    high, wide = max(2, round(0.031 * h)), max(2, round(0.05 * w))
    left = (round(0.03 * w), (w - wide) // 2, w - round(0.03 * w) - wide)[place]
    bottom = h - max(1, round(0.01 * h))
    grey[bottom - high : bottom, left : left + wide] = 1.0
