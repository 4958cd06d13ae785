"""When the keyframes of a clip hold, and how one becomes the next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from .errors import UserError


class ScheduleError(UserError):
    """A schedule cannot be read; says in which line."""


class Easing(Enum):
    """How one keyframe becomes the next."""

    LINEAR = "linear"
    EASE_IN_OUT = "ease-in-out"
    HOLD = "hold"

    def ease(self, share: float) -> float:
        """Map how far a frame is between two keyframes, 0 to 1, to the weight of the second."""
        if self is Easing.HOLD:
            return 0.0
        return share * share * (3.0 - 2.0 * share) if self is Easing.EASE_IN_OUT else share


@dataclass(frozen=True)
class Pace:
    """How keyframes become one another.

    Attributes:
        easing: over the frames on which two of them blend.
        hold: share of the frames between two keyframes, 0 to 1, on which the first stays alone before they blend.
        closed_loop: whether the last keyframe becomes the first one again after the clip's last frame.
    """

    easing: Easing = Easing.LINEAR
    hold: float = 0.0
    closed_loop: bool = False

    def ease(self, share: float) -> float:
        """Map how far a frame is between two keyframes, 0 to 1, to the weight of the second."""
        if share <= self.hold or self.hold >= 1.0:
            return 0.0
        return self.easing.ease((share - self.hold) / (1.0 - self.hold))


@dataclass(frozen=True)
class Span:
    """The frames on which a keyframe stands alone.

    Attributes:
        first: from which frame on.
        last: up to which; from here on it blends into the next keyframe.
        until_next: whether it stays as it is until the next keyframe.
    """

    first: float
    last: float
    until_next: bool = False


@dataclass(frozen=True)
class Blend:
    """A frame's two keyframes by their numbers, and the weight of the second; that of the first is the rest of 1."""

    first: int
    second: int
    share: float


def blends_of_frames(spans: Sequence[Span], total_frames: int, pace: Pace) -> list[Blend]:
    """Work out each frame's keyframes and their weights.

    The first keyframe also holds before its frame and the last one after it, unless the loop is closed.

    Args:
        spans: of the keyframes, in order. They may lie after the clip's end, which then cuts off the blend.
        total_frames: of the clip.
        pace: see ``Pace``.

    Raises:
        ScheduleError: the clip has no frame.
    """
    if total_frames < 1:
        raise ScheduleError(f"A clip of {total_frames} frames has none to schedule. Set frames to 1 or more.")
    firsts = [span.first for span in spans]
    return [_blend(spans, bisect_right(firsts, frame) - 1, float(frame), total_frames, pace) for frame in range(total_frames)]


def _blend(spans: Sequence[Span], number: int, frame: float, total_frames: int, pace: Pace) -> Blend:
    if number < 0:
        if not pace.closed_loop:
            return Blend(0, 0, 0.0)
        number, frame = len(spans) - 1, frame + total_frames
    span, following = spans[number], number + 1
    if following < len(spans):
        target = spans[following].first
    elif pace.closed_loop:
        following, target = 0, spans[0].first + total_frames
    else:
        return Blend(number, number, 0.0)
    if span.until_next or frame <= span.last or following == number:
        return Blend(number, number, 0.0)
    return Blend(number, following, pace.ease((frame - span.last) / (target - span.last)))
