"""When the keyframes of a clip hold, and how one becomes the next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from .errors import UserError


class ScheduleError(UserError):
    """A schedule cannot be read; says why, in which line and at which character."""


class Easing(Enum):
    """How one keyframe becomes the next."""

    LINEAR = "linear"
    EASE_IN_OUT = "ease-in-out"
    HOLD = "hold"


class Pace(NamedTuple):
    """How keyframes become one another."""

    easing: Easing = Easing.LINEAR
    hold: float = 0.0  # share of the frames between keyframes, 0 to 1, for which the first is held
    closed_loop: bool = False  # whether the last keyframe becomes the first one again after the clip's last frame

    def ease(self, share: float) -> float:
        """Map how far a frame is between two keyframes, 0 to 1, to the weight of the second."""
        if self.easing is Easing.HOLD or share <= self.hold or self.hold >= 1.0:
            return 0.0
        share = (share - self.hold) / (1.0 - self.hold)
        return share * share * (3.0 - 2.0 * share) if self.easing is Easing.EASE_IN_OUT else share


class Span(NamedTuple):
    """The frames on which a keyframe is used alone."""

    first: float
    last: float  # from here on it blends into the next keyframe
    until_next: bool = False  # whether it stays as it is until the next keyframe


class Blend(NamedTuple):
    """A frame's two keyframes by their numbers, and the weight of the second; that of the first is the rest of 1."""

    first: int
    second: int
    share: float


def blends_of_frames(spans: Sequence[Span], total_frames: int, pace: Pace) -> list[Blend]:
    """Work out each frame's keyframes and their weights; keyframes are in order, and may lie after the clip's end.

    The first keyframe also holds before its frame and the last one after it, unless the loop is closed.
    """
    placed = list(enumerate(spans))
    if pace.closed_loop and len(spans) > 1:
        (_, first), (number, last) = placed[0], placed[-1]
        before = last._replace(first=last.first - total_frames, last=last.last - total_frames)
        placed = [(number, before), *placed, (0, first._replace(first=first.first + total_frames))]
    firsts = [span.first for _, span in placed]
    blends = []
    for frame in range(total_frames):
        at = max(bisect_right(firsts, frame) - 1, 0)
        number, span = placed[at]
        if at + 1 == len(placed) or span.until_next or frame <= span.last:
            blends.append(Blend(number, number, 0.0))
        else:
            following, target = placed[at + 1]
            blends.append(Blend(number, following, pace.ease((frame - span.last) / (target.first - span.last))))
    return blends
