"""A camera's path as text: keyframes of how it stands, or RealEstate10K's lines of poses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .camera_path import QUANTITIES, Amounts, Course, Lens, PathPart, Poses
from .errors import InvalidInput
from .schedule import Pace, ScheduleError
from .schedule_text import NAMES
from .value_schedule import check_values, values_of_schedule

_MOST_CHARACTERS = 1_000_000
_NUMBERS_OF_A_POSE = 19
_NAMED = re.compile(r"([ \t]*)([A-Za-z_]\w*)([ \t]*[:=])")
_POSE = re.compile(r"[-+.0-9eE\s]+")
_COMMENT = re.compile(r"[ \t]*(?:#|//)")
_DEFAULT_SIZE = (1280, 720)  # of RealEstate10K's videos
_SKEW = 0.02  # that a rotation's numbers may be rounded by


def path_part_of_text(text: str, pace: Pace | None = None, stride: int = 0) -> PathPart:
    """Read keyframes, or poses as RealEstate10K writes them; raises a ``UserError`` that names the line.

    Keyframes are lines of a quantity and its schedule, as in ``pan: 0: 0, 15: 30``; what follows in lines without a name belongs
    to it. ``stride`` is that of ``Poses``.
    """
    if len(text) > _MOST_CHARACTERS:
        raise InvalidInput(f"The text has {len(text)} characters. Make it {_MOST_CHARACTERS} or fewer.")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if any(_POSE.fullmatch(line) and len(line.split()) > _NUMBERS_OF_A_POSE // 2 for line in lines):
        return _poses(lines, stride)
    return _keyframes(lines, pace or Pace())


# --- keyframes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CameraKeyframes:
    """How a camera stands at each frame, in the axes of where it would stand without; schedules by quantity."""

    schedules: Mapping[str, str]
    pace: Pace

    least_frames = 1

    def over(self, total_frames: int) -> Course:
        values = {name: np.array(values_of_schedule(text, total_frames, self.pace)) for name, text in self.schedules.items()}
        zoom = values.get("zoom", np.ones(1))
        if zoom.min() <= 0:
            raise ScheduleError(f"zoom is {zoom.min():g} at frame {zoom.argmin()}, but it is a factor above 0. 1 is no zoom.")
        return Amounts(**values).course(total_frames)


def _keyframes(lines: list[str], pace: Pace) -> CameraKeyframes:
    own: dict[str, list[str]] = {}
    name = ""
    for number, line in enumerate(lines):
        match = _NAMED.match(line)
        if match and match[2] not in NAMES and not _COMMENT.match(line):
            name = match[2].lower()
            if name not in QUANTITIES:
                raise _error(number, f"'{match[2][:40]}' is not one of {', '.join(QUANTITIES)}.")
            if name in own:
                raise _error(number, f"{name} has keyframes already. Write them all behind one {name}:.")
            own[name] = [""] * number  # so that errors name the line and character of the whole text
            line = " " * match.end() + line[match.end() :]
        elif not name and line.strip() and not _COMMENT.match(line):
            raise _error(number, f"'{line.strip()[:40]}' is for nothing. Begin with {', '.join(QUANTITIES)}, as in pan: 0: 0, 15: 30.")
        if name:
            own[name].append(line)
    if not own:
        raise ScheduleError("The text is empty. Write keyframes, as in pan: 0: 0, 15: 30, or paste poses of RealEstate10K.")
    schedules = {name: "\n".join(its_lines) for name, its_lines in own.items()}
    for schedule in schedules.values():
        check_values(schedule)
    return CameraKeyframes(schedules, pace)


# --- poses --------------------------------------------------------------------------------------------------------------


def _poses(lines: list[str], stride: int) -> Poses:
    rows: list[np.ndarray] = []
    for number, line in enumerate(lines):
        words = line.split()
        if not words or (not rows and len(words) == 1):  # the video's address
            continue
        if len(words) != _NUMBERS_OF_A_POSE:
            raise _error(number, f"a pose of RealEstate10K has {_NUMBERS_OF_A_POSE} numbers, but this line has {len(words)}.")
        rows.append(_row(number, words))
    table = np.stack(rows)
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3] = table[:, 7:].reshape(-1, 3, 4)
    # Two numbers that are 0 in RealEstate10K; AnimateDiff-Evolved writes the picture's width and height there.
    width, height = table[0, 5:7] if (table[0, 5:7] > 0).all() else _DEFAULT_SIZE
    return Poses(np.linalg.inv(poses), Lens(table[:, 1:5], width / height), stride)


def _row(number: int, words: list[str]) -> np.ndarray:
    try:
        row = np.array([float(word) for word in words])
    except ValueError:
        row = np.full(_NUMBERS_OF_A_POSE, np.nan)
    if not np.isfinite(row).all() or np.abs(row[1:]).max() > 1e6:
        raise _error(number, "this is not a pose: expected plain numbers.")
    if row[1:3].min() <= 0:
        raise _error(number, "the second and third number are focal lengths, and must be above 0.")
    rotation = row[7:].reshape(3, 4)[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > _SKEW or np.linalg.det(rotation) < 0:
        raise _error(number, "the last twelve numbers are a rotation and a way, row by row, but the rotation is none.")
    return row


def _error(number: int, wrong: str) -> ScheduleError:
    return ScheduleError(f"Line {number + 1}: {wrong}")
