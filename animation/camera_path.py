"""Where a camera is at each frame of a clip, and what lens it has: movements one after or beside the other.

Axes are those of RealEstate10K, whose poses CameraCtrl was trained on: x to the right, y down, z forward. Lengths are in units of
its scenes, in which a clip of 16 frames seldom moves further than 1 or 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np

from .errors import InvalidInput

_STEPS = 15  # of a clip of the 16 frames that CameraCtrl was trained on
_FURTHEST, _LONGEST = 1000.0, 100.0  # units from the first camera, and a focal length as a share of the picture
_TURN, _WAY, _ZOOM = 30.0, 1.0, 1.5  # over so many steps, at speed 1: degrees, units, and a factor of the focal length


class Lens(NamedTuple):
    """What a camera's picture shows of what lies before it."""

    intrinsics: np.ndarray  # (f, 4) or (1, 4): focal lengths and middle, as shares of the picture's width, height, width, height
    aspect: float  # width over height of the picture that these are shares of


DEFAULT_LENS = Lens(np.array([[0.474812461, 0.844111024, 0.5, 0.5]]), 16 / 9)
"""That of RealEstate10K's videos, as CameraCtrl's example paths have it: a wide one, of 93 degrees."""


class Cameras(NamedTuple):
    """A camera at some frames."""

    poses: np.ndarray  # (f, 4, 4), from the camera's axes to those of the first frame's
    lens: Lens


class Course(NamedTuple):
    """What one part of a path does at each frame; its first pose may be any."""

    poses: np.ndarray  # (f, 4, 4)
    zoom: np.ndarray  # (f,), a factor of the focal length
    lens: Lens | None = None  # its own, zoom included


class PathPart(Protocol):
    @property
    def least_frames(self) -> int:
        """Frames of the shortest clip that has those it names."""

    def over(self, total_frames: int) -> Course:
        """Work it out for a clip; raises a ``UserError`` where that has no such frames."""


@dataclass(frozen=True)
class CameraPath:
    """Parts that happen at the same time, each relative to the camera as the others have moved it."""

    parts: tuple[PathPart, ...] = ()

    def and_then(self, part: PathPart) -> CameraPath:
        return replace(self, parts=(*self.parts, part))

    @property
    def least_frames(self) -> int:
        return max((part.least_frames for part in self.parts), default=1)

    def over(self, total_frames: int) -> Cameras:
        """The camera at each frame of a clip, or a ``UserError`` where it gets too far away: ``pose[k] = pose[k - 1] @ step of part 1 @ step of part 2`` and so on.

        A part's step is what leads from its own pose at ``k - 1`` to that at ``k``. So a part that begins where another one has
        ended goes on from there, and parts at the same time hardly depend on their order.
        """
        courses = [part.over(total_frames) for part in self.parts]
        poses = np.broadcast_to(np.eye(4), (total_frames, 4, 4))
        if len(courses) == 1:
            poses = np.linalg.inv(courses[0].poses[0]) @ courses[0].poses
        elif courses:
            poses = _joined([course.poses for course in courses])
        own = next((number for number, course in enumerate(courses) if course.lens is not None), None)
        lens = DEFAULT_LENS if own is None else courses[own].lens or DEFAULT_LENS
        intrinsics = np.broadcast_to(lens.intrinsics, (total_frames, 4)).copy()
        for number, course in enumerate(courses):
            if number != own:
                intrinsics[:, :2] *= course.zoom[:, None]
        _check(poses, intrinsics)
        return Cameras(poses, lens._replace(intrinsics=intrinsics))


def _check(poses: np.ndarray, intrinsics: np.ndarray) -> None:
    furthest = np.abs(poses[:, :3, 3]).max()
    if not furthest <= _FURTHEST:
        raise InvalidInput(f"The camera gets {furthest:.3g} units away from where it began. Keep it within {_FURTHEST:g}: 1 is a usual way.")
    least, most = intrinsics[:, :2].min(), intrinsics[:, :2].max()
    if not 1 / _LONGEST <= least <= most <= _LONGEST:
        raise InvalidInput(
            f"Focal lengths go from {least:.3g} to {most:.3g} of the picture. Keep them between {1 / _LONGEST:g} and {_LONGEST:g}: zoom less."
        )


def _joined(courses: Sequence[np.ndarray]) -> np.ndarray:
    steps = np.eye(4)
    for poses in courses:
        steps = steps @ np.linalg.inv(poses[:-1]) @ poses[1:]
    joined = [np.eye(4)]
    for step in steps:
        joined.append(joined[-1] @ step)
    return np.stack(joined[: len(courses[0])])


# --- movements ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Amounts:
    """How a camera stands: turned by degrees, to the right, upwards and clockwise, moved to the right, up and forward."""

    pan: np.ndarray | float = 0.0
    tilt: np.ndarray | float = 0.0
    roll: np.ndarray | float = 0.0
    truck: np.ndarray | float = 0.0
    pedestal: np.ndarray | float = 0.0
    dolly: np.ndarray | float = 0.0
    zoom: np.ndarray | float = 1.0  # a factor

    def course(self, total_frames: int) -> Course:
        poses = np.tile(np.eye(4), (total_frames, 1, 1))
        turns = ((1, self.pan), (0, self.tilt), (2, self.roll))
        for axis, degrees in turns:
            poses[:, :3, :3] = poses[:, :3, :3] @ _turned(axis, np.broadcast_to(degrees, total_frames))
        for axis, way in enumerate((self.truck, -np.asarray(self.pedestal), self.dolly)):
            poses[:, axis, 3] = way
        return Course(poses, np.broadcast_to(np.asarray(self.zoom, dtype=float), total_frames))


QUANTITIES = ("pan", "tilt", "roll", "truck", "pedestal", "dolly", "zoom")
"""What ``Amounts`` hold."""


def _turned(axis: int, degrees: np.ndarray) -> np.ndarray:
    """Rotations ``(f, 3, 3)`` about one of the axes."""
    angles = np.radians(degrees.astype(float))
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.zeros((len(angles), 3, 3))
    matrices[:, axis, axis] = 1.0
    matrices[:, one, one] = matrices[:, other, other] = np.cos(angles)
    matrices[:, other, one] = np.sin(angles)
    matrices[:, one, other] = -np.sin(angles)
    return matrices


MOVES: dict[str, tuple[str, float]] = {
    "pan left": ("pan", -_TURN), "pan right": ("pan", _TURN), "tilt up": ("tilt", _TURN), "tilt down": ("tilt", -_TURN),
    "roll clockwise": ("roll", _TURN), "roll counterclockwise": ("roll", -_TURN),
    "dolly in": ("dolly", _WAY), "dolly out": ("dolly", -_WAY), "truck left": ("truck", -_WAY), "truck right": ("truck", _WAY),
    "pedestal up": ("pedestal", _WAY), "pedestal down": ("pedestal", -_WAY), "zoom in": ("zoom", 1.0), "zoom out": ("zoom", -1.0),
    "still": ("pan", 0.0),
}  # fmt: skip
"""By the names that nodes offer, part of saved workflows: what changes, and how much over 16 frames at speed 1."""


class MoveEasing(Enum):
    """How a movement starts and ends; the values are part of saved workflows, so never renamed."""

    LINEAR = "linear"
    IN = "ease-in"
    OUT = "ease-out"
    IN_OUT = "ease-in-out"

    def ease(self, share: np.ndarray) -> np.ndarray:
        """Map shares of the time, 0 to 1, to shares of the way."""
        if self is MoveEasing.IN:
            return share**2
        if self is MoveEasing.OUT:
            return 1 - (1 - share) ** 2
        return share**2 * (3 - 2 * share) if self is MoveEasing.IN_OUT else share


@dataclass(frozen=True)
class Move:
    """One of ``MOVES``, from one frame to another; before and after it the camera stands."""

    move: str
    speed: float = 1.0
    easing: MoveEasing = MoveEasing.LINEAR
    start_frame: int = 0  # negative ones count from the clip's end
    end_frame: int = -1

    def __post_init__(self) -> None:
        if (self.start_frame < 0) == (self.end_frame < 0) and self.start_frame >= self.end_frame:
            raise InvalidInput(
                f"{self.move} begins at frame {self.start_frame} and ends at frame {self.end_frame}. Make start_frame the earlier one."
            )

    @property
    def least_frames(self) -> int:
        return max(-frame if frame < 0 else frame + 1 for frame in (self.start_frame, self.end_frame))

    def over(self, total_frames: int) -> Course:
        start, end = (frame % total_frames if frame < 0 else frame for frame in (self.start_frame, self.end_frame))
        if start > end or -total_frames > min(self.start_frame, self.end_frame):
            raise InvalidInput(
                f"{self.move} begins at frame {self.start_frame} and ends at frame {self.end_frame}, but the clip has {total_frames} "
                f"frames, 0 to {total_frames - 1}. Change start_frame or end_frame."
            )
        quantity, amount = MOVES[self.move]
        share = self.easing.ease(((np.arange(total_frames) - start) / max(end - start, 1)).clip(0.0, 1.0))
        way = amount * self.speed * (end - start) / _STEPS * share
        return Amounts(**{quantity: _ZOOM ** way.clip(-50, 50) if quantity == "zoom" else way}).course(total_frames)


@dataclass(frozen=True)
class Poses:
    """A camera's recorded way: poses ``(n, 4, 4)`` from its axes to those of a scene, and its lens at each.

    They are spread over a clip from its first frame to its last, or each ``stride``-th is a frame's, and the last one stays.
    """

    poses: np.ndarray
    lens: Lens
    stride: int = 0

    least_frames = 1

    def over(self, total_frames: int) -> Course:
        last = len(self.poses) - 1
        at = np.minimum(np.arange(total_frames) * float(self.stride), last) if self.stride else np.linspace(0, last, total_frames)
        before = np.floor(at).astype(int)
        after, share = np.minimum(before + 1, last), at - before
        poses, intrinsics = (_between(each[before], each[after], share) for each in (self.poses, self.lens.intrinsics))
        # Back to rotations: a mean of two is shorter than they are. Whole ones stay what they are, to the last bit.
        u, _, v = np.linalg.svd(poses[:, :3, :3])
        poses[:, :3, :3] = np.where((share > 0)[:, None, None], u @ v, poses[:, :3, :3])
        return Course(poses, intrinsics[:, 0] / intrinsics[0, 0], Lens(intrinsics, self.lens.aspect))


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (one.ndim - 1))
    return one * (1 - share) + other * share
