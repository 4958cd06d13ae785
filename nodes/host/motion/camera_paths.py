"""Camera paths of nodes' inputs."""

from __future__ import annotations

from ....animation.camera_path import MOVES as _MOVES
from ....animation.camera_path import CameraPath, Cameras, Move, MoveEasing
from ....animation.camera_text import path_part_of_text
from ....animation.schedule import Easing, Pace

# What nodes offer; frozen, as part of saved workflows.
MOVES = list(_MOVES)
MOVE_EASINGS = [easing.value for easing in MoveEasing]


def moved_path(path: CameraPath | None, move: str, speed: float, easing: str, start_frame: int, end_frame: int) -> CameraPath:
    """A path with one movement more; ``InvalidInput`` where it ends before it begins."""
    return (path or CameraPath()).and_then(Move(move, speed, MoveEasing(easing), start_frame, end_frame))


def written_path(path: CameraPath | None, text: str, easing: str, stride: int) -> CameraPath:
    """A path with what a text says in addition; raises a ``UserError`` that says what is wrong in it."""
    return (path or CameraPath()).and_then(path_part_of_text(text, Pace(Easing(easing)), stride))


def check_path_text(text: str) -> None:
    path_part_of_text(text)


def cameras_of(path: CameraPath, frames: int) -> Cameras:
    """A path in a clip of so many frames, or of as many as it names."""
    return path.over(max(frames, path.least_frames))
