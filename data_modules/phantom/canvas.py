"""Drawing helpers of the phantom: coordinate frame, smooth curves, anti-aliased polygons, noise, windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

_SHIFT = 4  # fractional bits of polygon corners


@dataclass(frozen=True)
class Frame:
    """Maps chest coordinates to film pixels.

    Chest coordinates (u, v): u = 0 is the spine, positive to the right of the film (the patient's left), the lungs
    reach from about -0.5 to 0.5; v = 0 is the top of the lungs and grows downwards, in the same unit.

    Attributes:
        height: film height in pixels.
        width: film width in pixels.
        unit: pixels per unit of u and v.
        x0: film x of (u, v) = (0, 0) in pixels, before the tilt.
        y0: the same for y.
        tilt: rotation of the patient about the film's centre, radians, positive clockwise.
    """

    height: int
    width: int
    unit: float
    x0: float
    y0: float
    tilt: float

    def px(self, points: Points) -> Points:
        """Chest coordinates ``[N, 2]`` to continuous film pixels ``[N, 2]``."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        x, y = self.x0 - self.width / 2, self.y0 - self.height / 2
        u, v = points[..., 0] * self.unit, points[..., 1] * self.unit
        out = np.empty(points.shape)
        out[..., 0] = c * u - s * v + (self.width / 2 + c * x - s * y)
        out[..., 1] = s * u + c * v + (self.height / 2 + s * x + c * y)
        return out

    def layer(self) -> Bytes:
        """An empty uint8 layer of the film's size."""
        return np.zeros((self.height, self.width), np.uint8)


def curve(points: Sequence[tuple[float, float]] | Points, *, closed: bool = False, steps: int = 8) -> Points:
    """Catmull-Rom curve through the points, ``steps`` samples per segment, float64 ``[N, 2]``."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    out = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    out = out.reshape(-1, 2)
    return out if closed else np.concatenate([out, p[-1:]])


def corners(points: Points) -> npt.NDArray[np.int32]:
    """Continuous film pixels (pixel k covers [k, k+1)) to the fixed-point corners that OpenCV draws."""
    scaled: npt.NDArray[np.int32] = np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return scaled


def fill(layer: Bytes, points: Points, value: float = 255) -> Bytes:
    """Fill a polygon (film pixels) into a layer, anti-aliased, in place; returns the layer."""
    cv2.fillPoly(layer, [corners(points)], (float(value),), cv2.LINE_AA, _SHIFT)
    return layer


def strip(points: Points, half_width: float | Points) -> Points:
    """Outline ``[..., 2N, 2]`` of a band of the given half width around the line(s) ``[..., N, 2]``."""
    tangent = np.empty(points.shape)
    tangent[..., 1:-1, :] = points[..., 2:, :] - points[..., :-2, :]
    tangent[..., 0, :] = points[..., 1, :] - points[..., 0, :]
    tangent[..., -1, :] = points[..., -1, :] - points[..., -2, :]
    scale = half_width / np.maximum(np.hypot(tangent[..., 0], tangent[..., 1]), 1e-9)
    normal = tangent[..., ::-1] * scale[..., None] * np.array([-1.0, 1.0])
    return np.concatenate([points + normal, (points - normal)[..., ::-1, :]], axis=-2)


def line(layer: Bytes, points: Points, width: float, value: float = 255) -> Bytes:
    """Draw an anti-aliased line of ``width`` pixels in place; below one pixel the value shrinks instead."""
    value *= min(1.0, max(width, 0.05))
    if width < 2.5:
        cv2.polylines(layer, [corners(points)], False, (float(value),), max(1, round(width)), cv2.LINE_AA, _SHIFT)
        return layer
    return fill(layer, strip(points, max(width, 1.0) / 2), value)


def blur(image: Bytes | Plane, sigma: float) -> Plane:
    """Gaussian blur, float32; uint8 layers come back in 0..1. Large sigmas are computed at a quarter of the size."""
    plane = np.multiply(image, np.float32(1 / 255), dtype=np.float32) if image.dtype == np.uint8 else image
    if sigma < 0.3:
        return np.asarray(plane, np.float32)
    if sigma < 6:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
    height, width = plane.shape
    small = cv2.resize(plane, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def depth(layer: Bytes, reach: float) -> Plane:
    """How thick a rounded body with this outline is: 0 at its edge, 1 from a few ``reach`` pixels inside."""
    height, width = layer.shape
    size = (max(1, width // 4), max(1, height // 4))
    small = (cv2.resize(layer, size, interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
    distance = cv2.distanceTransform(small, cv2.DIST_L2, 3)
    thick = 1 - np.exp(distance * np.float32(-4 / reach))
    thick = cv2.GaussianBlur(thick, (0, 0), max(0.6, reach / 12), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(thick, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Plane:
    """Smooth Gaussian noise of standard deviation about 1 and correlation length ``sigma`` pixels."""
    height, width = shape
    shrink = 4 if sigma >= 4 else 2 if sigma >= 2 else 1
    small = rng.standard_normal((-(-height // shrink) + 1, -(-width // shrink) + 1), dtype=np.float32)
    if sigma >= 0.4:
        local = sigma / shrink
        small = np.asarray(cv2.GaussianBlur(small, (0, 0), local), np.float32)
        small *= np.float32(max(1.0, 2 * np.sqrt(np.pi) * local))
    if shrink > 1:
        small = np.asarray(cv2.resize(small, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_LINEAR), np.float32)
    return small[:height, :width]


def sigmoid(values: Plane) -> Plane:
    """Logistic function, float32."""
    return np.asarray(1 / (1 + np.exp(-values)), np.float32)


def window(shape: tuple[int, int], centre: tuple[float, float], reach: float) -> tuple[slice, slice] | None:
    """Rows and columns within ``reach`` pixels of a centre (x, y), or None where that lies outside the film."""
    x, y = centre
    rows = slice(max(0, int(y - reach)), min(shape[0], int(y + reach) + 2))
    columns = slice(max(0, int(x - reach)), min(shape[1], int(x + reach) + 2))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def blob(
    shape: tuple[int, int], centre: tuple[float, float], sigma: tuple[float, float], angle: float = 0.0
) -> tuple[tuple[slice, slice], Plane] | None:
    """Gaussian of peak 1 in a window: the window and its values; None where it lies outside the film."""
    place = window(shape, centre, 3.2 * max(sigma))
    if place is None:
        return None
    y = np.arange(place[0].start, place[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - centre[1])
    x = np.arange(place[1].start, place[1].stop, dtype=np.float32)[None, :] + np.float32(0.5 - centre[0])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    power = ((c * x + s * y) / np.float32(sigma[0])) ** 2 + ((c * y - s * x) / np.float32(sigma[1])) ** 2
    return place, np.exp(np.float32(-0.5) * power)
