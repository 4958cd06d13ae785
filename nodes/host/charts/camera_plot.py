"""A camera's path as a picture: where it goes, and what that does to what it sees."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from torch import Tensor

from ....animation.camera_path import Cameras
from .drawing import BLUE, ORANGE, QUIET, TEXT, Canvas

_WIDTH, _HEIGHT = 640, 330
_TOP, _BOTTOM = 48, 276
_CAMERAS, _STEPS = 12, 48  # that are drawn, at the most
_DEPTH = 3.0  # of the points that are followed


def draw_path(cameras: Cameras) -> Tensor:
    """Draw the cameras of a clip, from the first in blue to the last in orange; an IMAGE, ``(1, 330, 640, 3)``."""
    cameras = cameras._replace(poses=np.linalg.inv(cameras.poses[0]) @ cameras.poses)
    picture = Canvas(_WIDTH, _HEIGHT)
    picture.card(14, 14, 314, _HEIGHT - 14, "Camera")
    picture.card(326, 14, 626, _HEIGHT - 14, "In the picture")
    _draw_cameras(picture, cameras)
    _draw_scene(picture, cameras)
    picture.text(28, _HEIGHT - 34, _in_words(cameras), size=12, colour=TEXT)
    _draw_legend(picture, len(cameras.poses))
    return picture.to_image()


def _chosen(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _colour(share: float) -> str:
    ends = ([int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in (BLUE, ORANGE))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))


# --- where it goes ------------------------------------------------------------------------------------------------------


def _draw_cameras(picture: Canvas, cameras: Cameras) -> None:
    """The cameras as pyramids on a floor, seen from behind, above and a little aside."""
    numbers, way = _chosen(len(cameras.poses), _CAMERAS), cameras.poses[:, :3, 3]
    size = max(0.7, np.ptp(way, axis=0).max())
    corners = _pyramids(cameras, 0.5 * size)[numbers]
    floor = _floor((way.min(0) + way.max(0)) / 2, size, way[:, 1].max() + 0.45 * size)
    everything = np.concatenate([corners.reshape(-1, 3), floor.reshape(-1, 3)])
    flat = _aside(everything)
    low, high = flat.min(0), flat.max(0)
    scale = min(272 / (high - low)[0], (_BOTTOM - _TOP) / (high - low)[1])
    offset = np.array([164, (_TOP + _BOTTOM) / 2]) - scale * (low + high) / 2

    def place(points: np.ndarray) -> list[float]:
        return (scale * _aside(points) + offset).reshape(-1).tolist()

    for line in floor:
        picture.line(*place(line))
    for at, number in enumerate(numbers):
        colour, is_end = _colour(number / max(len(cameras.poses) - 1, 1)), at in (0, len(numbers) - 1)
        tip, *rim = corners[at]
        for one, other in zip(rim, [*rim[1:], rim[0]], strict=True):
            picture.line(*place(np.stack([tip, one])), colour=colour, width=2 if is_end else 1)
            picture.line(*place(np.stack([one, other])), colour=colour, width=2 if is_end else 1)
    if len(way) > 1:
        picture.line(*place(way), colour=QUIET, width=2)


def _pyramids(cameras: Cameras, size: float) -> np.ndarray:
    """A camera and the corners of what it sees, ``(f, 5, 3)``."""
    fx, fy = cameras.lens.intrinsics.T[:2]
    x, y = size * 0.5 / fx, size * 0.5 / fy
    zero, deep = np.zeros_like(x), np.full_like(x, size)
    corners = [(zero, zero, zero), (-x, -y, deep), (x, -y, deep), (x, y, deep), (-x, y, deep)]
    own = np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)
    return np.einsum("fij,fpj->fpi", cameras.poses[:, :3, :3], own) + cameras.poses[:, None, :3, 3]


def _floor(middle: np.ndarray, size: float, height: float) -> np.ndarray:
    """Lines ``(n, 2, 3)``."""
    ticks = np.linspace(-size, size, 7)
    lines = [((tick, -size), (tick, size)) for tick in ticks] + [((-size, tick), (size, tick)) for tick in ticks]
    flat = np.array(lines)
    return np.stack([flat[..., 0] + middle[0], np.full(flat.shape[:2], height), flat[..., 1] + middle[2]], axis=-1)


def _aside(points: np.ndarray) -> np.ndarray:
    """Points ``(n, 3)`` as they are drawn, ``(n, 2)``, without a scale: without perspective, too, so that lengths compare."""
    turn, down = math.radians(-28), math.radians(32)
    x, y, z = points.T
    across, deep = x * math.cos(turn) - z * math.sin(turn), x * math.sin(turn) + z * math.cos(turn)
    return np.stack([across, y * math.cos(down) - deep * math.sin(down)], axis=-1)


# --- what it sees -------------------------------------------------------------------------------------------------------


def _draw_scene(picture: Canvas, cameras: Cameras) -> None:
    """How points of a scene move across the picture."""
    wide, high = 272.0, 272.0 / cameras.lens.aspect
    if high > _BOTTOM - _TOP:
        wide, high = (_BOTTOM - _TOP) * cameras.lens.aspect, float(_BOTTOM - _TOP)
    left, top = 476 - wide / 2, (_TOP + _BOTTOM - high) / 2
    frame = (left, top, left + wide, top, left + wide, top + high, left, top + high, left, top)
    numbers = _chosen(len(cameras.poses), _STEPS)
    for trail in _trails(cameras)[:, numbers]:
        places = [(left + wide * x, top + high * y) if z > 0.1 and 0 <= x <= 1 and 0 <= y <= 1 else None for x, y, z in trail]
        for at, (before, after) in enumerate(pairwise(places)):
            if before and after:
                picture.line(*before, *after, colour=_colour(numbers[at] / max(len(cameras.poses) - 1, 1)), width=2)
        for end, colour in ((0, BLUE), (-1, ORANGE)):
            if places[end]:
                picture.circle(*places[end], 2.4, colour)
    picture.line(*frame, colour=QUIET, width=2)


def _trails(cameras: Cameras) -> np.ndarray:
    """Where points are in the picture at each frame, as shares of it, and how far away, ``(n, f, 3)``.

    In the picture of the frame in the middle they are spread evenly, none straight above or beside another.
    """
    middle = len(cameras.poses) // 2
    fx, fy, cx, cy = cameras.lens.intrinsics.T
    shares = [((x + (0.5 + 0.38 * y) % 1) / 7, (y + (0.5 + 0.38 * x) % 1) / 4) for y in range(4) for x in range(7)]
    seen = [((x - cx[middle]) / fx[middle], (y - cy[middle]) / fy[middle], 1.0) for x, y in shares]
    points = np.concatenate([_DEPTH * np.array(seen), np.ones((len(seen), 1))], axis=1) @ cameras.poses[middle].T
    x, y, z, _ = np.einsum("fij,nj->inf", np.linalg.inv(cameras.poses), points)
    depth = np.where(z > 0.1, z, np.nan)
    return np.stack([fx * x / depth + cx, fy * y / depth + cy, z], axis=-1)


def _draw_legend(picture: Canvas, frames: int) -> None:
    left, y, wide = 340, _HEIGHT - 28, 160
    for part in range(wide):
        picture.rectangle(left + part, y - 4, left + part + 1, y + 4, _colour(part / wide))
    picture.text(left + wide + 10, y, f"frame 0 to {frames - 1}", colour=TEXT, anchor="lm")


def _in_words(cameras: Cameras) -> str:
    """How the last camera stands against the first."""
    last, lenses = cameras.poses[-1], cameras.lens.intrinsics
    if np.ptp(cameras.poses, axis=0).max() < 1e-6 and np.ptp(lenses, axis=0).max() < 1e-6:
        return "stands still"
    degrees = math.degrees(math.acos(min(1.0, max(-1.0, (np.trace(last[:3, :3]) - 1) / 2))))
    x, y, z = last[:3, 3]
    zoom = lenses[-1, 0] / lenses[0, 0]
    ways = [
        f"turned {degrees:.0f}°" if degrees >= 0.5 else "",
        _way(x, "right", "left"), _way(-y, "up", "down"), _way(z, "forward", "back"),
        f"zoom {zoom:.2f}" if abs(zoom - 1) > 0.005 else "",
    ]  # fmt: skip
    return ", ".join(filter(None, ways)) or "ends where it began"


def _way(length: float, one: str, other: str) -> str:
    return "" if abs(length) < 0.005 else f"{abs(length):.2f} {one if length > 0 else other}"
