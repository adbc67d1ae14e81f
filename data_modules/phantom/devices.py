"""Tubes, catheters, pacemakers, wires and electrodes."""

import numpy as np

from data_modules.phantom.canvas import Bytes, Frame, Plane, Points, blur, curve, fill, line
from data_modules.phantom.chest import Chest
from data_modules.phantom.film import BoolMask, Finding


def _wobbly(points: list[tuple[float, float]], rng: np.random.Generator, amount: float) -> Points:
    """A smooth path near the points, bent irregularly."""
    p = np.asarray(points, np.float64)
    p[1:-1] += rng.normal(0, amount, (len(p) - 2, 2))
    return curve(p, steps=10)


def _loop(
    start: tuple[float, float], end: tuple[float, float], rng: np.random.Generator, sag: float
) -> list[tuple[float, float]]:
    """Way points of a wire that hangs loosely from start to end."""
    t = np.linspace(0, 1, 7)[1:-1]
    u = start[0] + (end[0] - start[0]) * t + rng.normal(0, 0.035, 5)
    v = start[1] + (end[1] - start[1]) * t + sag * np.sin(np.pi * t) + rng.normal(0, 0.03, 5)
    return [start, *zip(u.tolist(), v.tolist(), strict=True), end]


class _Tray:
    """Collects what is drawn: layers of thin metal, tubes and solid metal, and the mask of a named device."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.size = frame.unit / 310
        self.wires, self.tubes, self.solid, self.mask = (frame.layer() for _ in range(4))

    def wire(self, path: Points, width: float, value: float, named: bool) -> None:
        """A wire of ``width`` (pixels of a film whose chest is 310 px wide)."""
        points = self.frame.px(path)
        line(self.wires, points, width * self.size, value)
        if named:
            line(self.mask, points, max(3.0, 6 * self.size))

    def tube(self, path: Points, half: float, value: float) -> None:
        """A tube with faint walls and an opaque stripe."""
        points = self.frame.px(path)
        line(self.tubes, points, 2 * half * self.frame.unit, 110)
        line(self.wires, points + np.array([0.6 * half * self.frame.unit, 0]), 1.3 * self.size, value)
        line(self.mask, points, max(3.0, 6 * self.size))


def _pacemaker(tray: _Tray, chest: Chest, rng: np.random.Generator) -> None:
    frame = chest.frame
    sign = 1.0 if rng.random() < 0.85 else -1.0
    centre = np.array([sign * (0.36 + 0.03 * rng.normal()), 0.19 + 0.03 * rng.normal()])
    turn = rng.uniform(0, np.pi)
    around = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    super_ = [np.sign(f(around)) * np.abs(f(around)) ** 0.6 for f in (np.cos, np.sin)]
    box = np.stack([0.062 * super_[0], 0.047 * super_[1]], axis=-1) * rng.uniform(0.9, 1.15)
    c, s = np.cos(turn), np.sin(turn)
    box = box @ np.array([[c, s], [-s, c]]) + centre
    fill(tray.solid, frame.px(box), 190)
    fill(tray.solid, frame.px((box - centre) * 0.6 + centre), 255)
    fill(tray.mask, frame.px(box))
    floor = float(chest.domes[1][1])
    u, v = centre.tolist()
    for tip in ((-0.075, floor - 0.30), (0.13, floor - 0.09))[: int(rng.integers(1, 3))]:
        way = [
            (u, v + 0.02),
            (u + sign * 0.06, v + 0.07),
            (u - sign * 0.02, v - 0.10),
            (sign * 0.20, 0.03),
            (sign * 0.08, 0.12),
            (-0.045, 0.24),
            (-0.060, 0.42),
            (-0.072, floor - 0.24),
            (-0.02, floor - 0.12) if tip[0] > 0 else (-0.085, floor - 0.25),
            tip,
        ]
        path = _wobbly(way, rng, 0.011)
        tray.wire(path, 1.3, 150, True)
        tray.wire(path[-4:], 2.4, 220, True)


def _lines(tray: _Tray, chest: Chest, rng: np.random.Generator, extras: dict[str, float]) -> None:
    """Tracheal tube, feeding tube, central line; more often on AP films."""
    portable = chest.view == "AP"
    shift = 0.012 * chest.turn
    dice = rng.random(4)
    extras["tube"] = float(dice[0] < (0.28 if portable else 0.02))
    if extras["tube"]:
        tip = 0.345 - rng.uniform(0.03, 0.14)
        way = [(shift + rng.normal(0, 0.03), -0.45), (shift + rng.normal(0, 0.012), -0.2), (shift, 0.0), (shift, tip)]
        tray.tube(_wobbly(way, rng, 0.005), 0.012, 190)
    extras["feeding_tube"] = float(dice[1] < (0.22 if portable else 0.02))
    if extras["feeding_tube"]:
        floor = float(chest.domes[1][1])
        way = [(shift, -0.45), (0.006, -0.1), (0.012, 0.2), (0.018, 0.45), (0.012, 0.7), (0.035, floor)]
        end = (0.20 + rng.normal(0, 0.05), floor + 0.20 + rng.normal(0, 0.05))
        tray.tube(_wobbly([*way, (0.11, floor + 0.09), end], rng, 0.008), 0.008, 150)
    extras["central_line"] = float(dice[2] < (0.25 if portable else 0.03))
    if extras["central_line"]:
        end = (-0.064 + shift, rng.uniform(0.36, 0.52))
        if dice[3] < 0.5:  # jugular
            way = [(-0.13, -0.35), (-0.115, -0.16), (-0.085, 0.02), (-0.062, 0.2), end]
        else:  # from the arm
            way = [(-0.62, 0.45), (-0.55, 0.22), (-0.40, 0.10), (-0.22, 0.06), (-0.09, 0.10), (-0.060, 0.22), end]
        tray.wire(_wobbly(way, rng, 0.008), 1.5, 150, True)


def _electrodes(tray: _Tray, chest: Chest, rng: np.random.Generator, extras: dict[str, float]) -> None:
    """ECG leads: electrodes on the skin and loose wires; readers do not name them."""
    n_leads = int(rng.poisson(1.1 if chest.view == "AP" else 0.25))
    extras["n_leads"] = float(n_leads)
    frame = chest.frame
    around = np.linspace(0, 2 * np.pi, 13)[:, None]
    circle = np.concatenate([np.cos(around), np.sin(around)], axis=1)
    for _ in range(n_leads):
        spot = (rng.uniform(-0.46, 0.46), rng.choice([rng.uniform(0.02, 0.2), rng.uniform(0.55, 0.95)]))
        away = (rng.choice([-0.75, 0.75]), rng.uniform(0.3, 1.3))
        fill(tray.tubes, frame.px(np.array(spot) + 0.022 * circle), 90)
        fill(tray.solid, frame.px(np.array(spot) + 0.008 * circle), 200)
        tray.wire(curve(_loop(spot, away, rng, rng.uniform(-0.05, 0.2)), steps=10), 1.4, 130, False)


def draw_devices(
    chest: Chest, rng: np.random.Generator, body: Bytes, attenuation: Plane, extras: dict[str, float]
) -> list[Finding]:
    """Add devices in place; at most one finding, "Support devices", for tubes, lines and pacemakers."""
    tray = _Tray(chest.frame)
    _lines(tray, chest, rng, extras)
    extras["pacemaker"] = float(rng.random() < 0.07)
    if extras["pacemaker"]:
        _pacemaker(tray, chest, rng)
    extras["sternal_wires"] = float(rng.random() < 0.06)
    if extras["sternal_wires"]:
        for v in np.arange(0.16, 0.72, 0.095):
            ring = np.array([0.018 * chest.turn + 0.01, v + rng.normal(0, 0.006)]) + rng.uniform(0.6, 1.1) * np.array(
                [(-0.02, 0.0), (-0.012, -0.014), (0.012, -0.012), (0.02, 0.004), (0.008, 0.012), (-0.016, 0.008)]
            )
            tray.wire(curve(ring), 1.3, 220, False)
    _electrodes(tray, chest, rng, extras)
    if tray.wires.any() or tray.tubes.any() or tray.solid.any():
        attenuation += np.float32(0.30) * blur(tray.wires, 0.6 * tray.size)
        attenuation += np.float32(0.11) * blur(tray.tubes, 0.8 * tray.size)
        attenuation += np.float32(0.75) * blur(tray.solid, 0.6 * tray.size)
    mask: BoolMask = (tray.mask > 127) & (body > 127)
    return [Finding("Support devices", mask, 0.85, False)] if mask.any() else []
