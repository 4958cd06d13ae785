"""Schedules written as text, as numbers for frames and as ComfyUI's curves."""

from __future__ import annotations

from itertools import pairwise

from comfy_api.input import CurveInput, LinearCurve, MonotoneCubicCurve

from ....animation.schedule import Easing, Pace
from ....animation.value_schedule import points_of_schedule, values_of_schedule

EASINGS = [easing.value for easing in Easing]
"""What nodes offer; frozen, as part of saved workflows."""


def values_of_text(
    text: str, frames: int, easing: str, hold: float = 0.0, closed_loop: bool = False, inside: bool = False
) -> list[float]:
    """Work out a schedule for each frame; see ``values_of_schedule``."""
    return values_of_schedule(text, frames, Pace(Easing(easing), hold, closed_loop), inside)


def curve_of_text(text: str, easing: str) -> CurveInput:
    """Make a schedule over a run one of core's curves; see ``points_of_schedule``."""
    points = points_of_schedule(text)
    if Easing(easing) is Easing.EASE_IN_OUT:
        # Doubled points make the monotone cubic flat there, which is this easing.
        return MonotoneCubicCurve([point for point in points for _ in range(2)])
    if Easing(easing) is Easing.HOLD:
        jumps = [(x, before) for (_, before), (x, _) in pairwise(points)]
        return LinearCurve(jumps + points)  # sorted by x, so that where it jumps, the value before comes first
    return LinearCurve(points)
