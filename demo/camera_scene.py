"""A few boxes on a floor, as a camera sees them on its path: what a clip along a path looks like where nothing else moves."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..animation.camera_path import Cameras
from ..animation.camera_rays import fitted_intrinsics

_FINER = 3  # drawn this much larger, then made smaller, for smooth edges
_FLOOR, _NEAR = 1.0, 0.15
_SKY, _GROUND, _LINES = (203, 214, 222), (122, 132, 120), (148, 158, 144)
_BOXES = (  # middle, half the width, height, colour
    ((-1.5, 3.0), 0.4, 1.6, (208, 70, 58)), ((0.3, 3.8), 0.45, 1.0, (66, 112, 208)), ((2.1, 3.6), 0.4, 2.1, (236, 186, 58)),
    ((4.0, 5.2), 0.6, 1.5, (98, 178, 92)), ((-3.4, 5.4), 0.7, 2.6, (154, 88, 180)), ((1.5, 6.4), 0.6, 3.2, (226, 222, 210)),
)  # fmt: skip
_SHADES = (0.72, 1.0, 0.84, 0.6, 1.12)  # of a box's front, top, right, left and back


def render_scene(cameras: Cameras, side: int) -> Tensor:
    """Draw what each camera sees in a square picture: frames ``(f, 3, side, side)`` from 0 to 1."""
    lenses = fitted_intrinsics(cameras, side, side) * side * _FINER
    frames = [_frame(pose, lens, side) for pose, lens in zip(np.linalg.inv(cameras.poses), lenses, strict=True)]
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1).float() / 255


def _frame(to_camera: np.ndarray, lens: np.ndarray, side: int) -> np.ndarray:
    image = Image.new("RGB", (side * _FINER, side * _FINER), _SKY)
    draw = ImageDraw.Draw(image)
    far = np.array([(-60, _FLOOR, -60), (60, _FLOOR, -60), (60, _FLOOR, 60), (-60, _FLOOR, 60)], dtype=float)
    polygons = [(far, _GROUND)]
    for at in np.arange(-12.0, 13.0):
        polygons.append((_strip((at, -2.0), (at, 14.0)), _LINES))
        polygons.append((_strip((-12.0, at), (12.0, at)), _LINES))
    faces = [face for box in _BOXES for face in _faces(*box)]
    faces.sort(key=lambda face: -np.linalg.norm((_seen(face[0], to_camera)).mean(0)))
    for points, colour in polygons + faces:
        flat = _flat(_seen(points, to_camera), lens)
        if len(flat) > 2:
            draw.polygon([tuple(point) for point in flat], fill=colour)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _strip(start: tuple[float, float], end: tuple[float, float], width: float = 0.02) -> np.ndarray:
    (x, z), (u, w) = start, end
    dx, dz = (width, 0.0) if x == u else (0.0, width)
    return np.array([(x - dx, _FLOOR, z - dz), (u - dx, _FLOOR, w - dz), (u + dx, _FLOOR, w + dz), (x + dx, _FLOOR, z + dz)])


def _faces(
    middle: tuple[float, float], half: float, high: float, colour: tuple[int, int, int]
) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    x, z = middle
    left, right, front, back, top = x - half, x + half, z - half, z + half, _FLOOR - high
    corners = (
        [(left, _FLOOR, front), (right, _FLOOR, front), (right, top, front), (left, top, front)],
        [(left, top, front), (right, top, front), (right, top, back), (left, top, back)],
        [(right, _FLOOR, front), (right, _FLOOR, back), (right, top, back), (right, top, front)],
        [(left, _FLOOR, front), (left, _FLOOR, back), (left, top, back), (left, top, front)],
        [(left, _FLOOR, back), (right, _FLOOR, back), (right, top, back), (left, top, back)],
    )
    shaded = (tuple(min(255, round(part * shade)) for part in colour) for shade in _SHADES)
    return [(np.array(face, dtype=float), shade) for face, shade in zip(corners, shaded, strict=True)]


def _seen(points: np.ndarray, to_camera: np.ndarray) -> np.ndarray:
    return points @ to_camera[:3, :3].T + to_camera[:3, 3]


def _flat(points: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """The part of a polygon that lies before the camera, in pixels."""
    kept = []
    for one, other in zip(points, np.roll(points, -1, axis=0), strict=True):
        if one[2] > _NEAR:
            kept.append(one)
        if (one[2] > _NEAR) != (other[2] > _NEAR):
            kept.append(one + (other - one) * (_NEAR - one[2]) / (other[2] - one[2]))
    if not kept:
        return np.empty((0, 2))
    x, y, z = np.array(kept).T
    fx, fy, cx, cy = lens
    return np.stack([fx * x / z + cx, fy * y / z + cy], axis=-1).clip(-1e5, 1e5)
