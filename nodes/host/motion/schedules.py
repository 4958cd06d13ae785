"""Schedules written as text, as numbers for frames and as ComfyUI's curves."""

from __future__ import annotations

from itertools import pairwise

from comfy_api.input import CurveInput, LinearCurve, MonotoneCubicCurve

from ....animation.schedule import Easing, read_keyframes, share_of, values_of_frames
from ....animation.schedule_text import Pace
from ....animation.value_schedule import values_of_schedule

EASINGS = [easing.value for easing in Easing]
"""What nodes offer; frozen, as part of saved workflows."""


def frame_values_of_text(text: str, frames: int, easing: str) -> list[float]:
    """Make a number for each frame of a schedule.

    Raises:
        ScheduleError: see ``values_of_frames``.
    """
    return values_of_frames(text, frames, Easing(easing))


def curve_of_text(text: str, easing: str) -> CurveInput:
    """Make one of core's curves of a schedule whose positions are shares.

    Raises:
        ScheduleError: see ``read_keyframes``.
    """
    points = [(keyframe.position, keyframe.value) for keyframe in read_keyframes(text, share_of, 1.0)]
    if Easing(easing) is Easing.EASE_IN_OUT:
        # Points that stand twice make the monotone cubic flat there, which is this easing.
        return MonotoneCubicCurve([point for point in points for _ in range(2)])
    if Easing(easing) is Easing.HOLD:
        jumps = [(x, before) for (_, before), (x, _) in pairwise(points)]
        return LinearCurve(jumps + points)  # sorted by x, so that where it jumps, the value before comes first
    return LinearCurve(points)


def values_of_text(text: str, frames: int, easing: str, hold: float, closed_loop: bool) -> list[float]:
    """Make a number for each frame of a schedule whose values may be expressions.

    Raises:
        ScheduleError: see ``values_of_schedule``.
    """
    return values_of_schedule(text, frames, Pace(Easing(easing), hold, closed_loop))
