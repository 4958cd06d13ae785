"""Schedules written as text: keyframes of numbers, or of whatever else stands behind a colon, and what lies between them.

A keyframe is ``position: value``. Positions are frame numbers from 0, negative ones from the end, or percent of the clip.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from .errors import UserError


class ScheduleError(UserError):
    """A schedule cannot be read; says in which line."""


class Easing(Enum):
    """How one keyframe's value becomes the next one's."""

    LINEAR = "linear"
    EASE_IN_OUT = "ease-in-out"
    HOLD = "hold"

    def ease(self, share: float) -> float:
        """Map the share of the way that lies behind, 0 to 1, to the share of the next keyframe's value."""
        if self is Easing.HOLD:
            return 0.0
        return share * share * (3.0 - 2.0 * share) if self is Easing.EASE_IN_OUT else share


@dataclass(frozen=True)
class Entry:
    """A piece of a schedule as it was written.

    Attributes:
        line: its number, from 1.
        text: all of it.
        key: what stands before the first colon, or None if there is no colon.
        value: what stands behind it.
    """

    line: int
    text: str
    key: str | None
    value: str

    def error(self, wrong: str) -> ScheduleError:
        return ScheduleError(f"Line {self.line}, '{self.text}': {wrong}")


@dataclass(frozen=True)
class Keyframe:
    """A value and where it holds, in frames or as a share."""

    position: float
    value: float


# --- reading ----------------------------------------------------------------------------------------------------------


def split_entries(text: str, separator: str = "\n") -> list[Entry]:
    """Split a schedule into its entries, which stand in lines of their own or between separators; blanks are left out."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        for part in filter(None, map(str.strip, line.split(separator))):
            key, colon, value = part.partition(":")
            entries.append(Entry(number, part, key.strip() if colon else None, value.strip() if colon else part))
    return entries


def frame_of(entry: Entry, total_frames: int) -> float:
    """Read an entry's key as a frame of a clip; percent may fall between two frames.

    Raises:
        ScheduleError: it is none.
    """
    key, last = entry.key or "", total_frames - 1
    if key.endswith("%"):
        return _percent(entry) * last / 100
    try:
        frame = int(key)
    except ValueError:
        raise entry.error(f"'{key}' is no frame. Write a whole number, or percent of the clip, as in 8: 1 or 50%: 1.") from None
    if not -total_frames <= frame <= last:
        raise entry.error(f"a clip of {total_frames} frames has frames 0 to {last}, or from its end -1 to {-total_frames}.")
    return frame % total_frames


def share_of(entry: Entry) -> float:
    """Read an entry's key as a share, 0 to 1.

    Raises:
        ScheduleError: it is none.
    """
    key = entry.key or ""
    share = _percent(entry) / 100 if key.endswith("%") else _number(key)
    if share is None or not 0.0 <= share <= 1.0:
        raise entry.error(f"'{key}' is no share. Write percent, or a number from 0 to 1, as in 50%: 1 or 0.5: 1.")
    return share


def read_keyframes(text: str, position_of: Callable[[Entry], float], last_position: float) -> list[Keyframe]:
    """Read keyframes of numbers, one a line or between commas, in the order of their positions.

    Args:
        text: keyframes, or numbers alone, which are spread evenly from position 0 to the last one.
        position_of: reads an entry's key.
        last_position: of the clip or run.

    Raises:
        ScheduleError: the text is not like this, or two keyframes have the same position.
    """
    entries = split_entries(text, ",")
    if not entries:
        raise ScheduleError("The text is empty. Write at least one keyframe, as in 0: 1.")
    if all(entry.key is None for entry in entries):
        gaps = max(len(entries) - 1, 1)
        return [Keyframe(i * last_position / gaps, _value(entry)) for i, entry in enumerate(entries)]
    for entry in entries:
        if entry.key is None:
            raise entry.error("a colon is missing. Write position: value everywhere, or numbers alone.")
    placed = sorted(((position_of(entry), entry) for entry in entries), key=lambda pair: pair[0])
    for (position, earlier), (next_position, entry) in pairwise(placed):
        if position == next_position:
            raise entry.error(f"'{earlier.text}' is for the same position. Remove one of them.")
    return [Keyframe(position, _value(entry)) for position, entry in placed]


def _value(entry: Entry) -> float:
    value = _number(entry.value)
    if value is None:
        raise entry.error(f"'{entry.value}' is no number. Write one with a decimal point, as in 0.5.")
    return value


def _percent(entry: Entry) -> float:
    percent = _number((entry.key or "").removesuffix("%"))
    if percent is None or not 0.0 <= percent <= 100.0:
        raise entry.error("percent go from 0% to 100%.")
    return percent


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- between keyframes ------------------------------------------------------------------------------------------------


def blend_at(positions: Sequence[float], position: float, easing: Easing) -> tuple[int, int, float]:
    """Find the two keyframes that a position lies between.

    Args:
        positions: of the keyframes, rising.
        position: before the first and behind the last keyframe, these hold.
        easing: how one keyframe becomes the next.

    Returns:
        The keyframes' indices, and the second one's share, 0 to 1.
    """
    right = bisect_right(positions, position)
    left = max(right - 1, 0)
    if right in (0, len(positions)):
        return left, left, 0.0
    share = (position - positions[left]) / (positions[right] - positions[left])
    return left, right, easing.ease(share)


def values_of_frames(text: str, total_frames: int, easing: Easing) -> list[float]:
    """Work out a schedule of numbers for each frame of a clip.

    Raises:
        ScheduleError: see ``read_keyframes``; or the clip has no frame.
    """
    if total_frames < 1:
        raise ScheduleError(f"A clip of {total_frames} frames has no values. Make frames 1 or more.")
    keyframes = read_keyframes(text, lambda entry: frame_of(entry, total_frames), total_frames - 1)
    positions = [keyframe.position for keyframe in keyframes]
    values = []
    for frame in range(total_frames):
        left, right, share = blend_at(positions, frame, easing)
        value = keyframes[left].value
        values.append(value + (keyframes[right].value - value) * share)  # so that equal keyframes stay what they are
    return values
