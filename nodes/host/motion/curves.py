"""Values over the frames of a clip or the steps of a run: schedules as text, and ComfyUI's curves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from comfy_api.input import CurveInput, LinearCurve, MonotoneCubicCurve

from ....animation.schedule import Easing, Pace
from ....animation.value_schedule import check_values, points_of_schedule, values_of_schedule
from ....motion_models.errors import InvalidInput
from .frame_values import FrameValues

EASINGS = [easing.value for easing in Easing]  # frozen, as part of saved workflows


def is_curve(value: object) -> bool:
    """Whether a value is a curve; over the API it may be one as the editor stores it."""
    return isinstance(value, (CurveInput, dict))


def to_curve(value: Any, input_name: str) -> CurveInput | None:
    """Accept a curve, or nothing; raises InvalidInput for anything else, and for points that are not finite."""
    if value is None:
        return None
    try:
        curve = CurveInput.from_raw(value)
    except (KeyError, TypeError, ValueError):
        raise InvalidInput(f"{input_name} is not a curve: {value!r}. Connect Step Curve or Curve Editor.") from None
    if not curve.points or not np.isfinite(curve.points).all():
        raise InvalidInput(
            f"{input_name} is a curve without points, or with points that are not finite. Connect Step Curve or Curve Editor."
        )
    return curve


def curve_over_frames(curve: CurveInput, total_frames: int) -> FrameValues:
    """Values of a curve for each frame of a clip, whose first is at x = 0 and last at x = 1."""
    shares = np.arange(total_frames) / max(total_frames - 1, 1)
    return torch.from_numpy(curve.interp_array(shares)).float()[:, None, None]


@dataclass(frozen=True)
class ValuesOfAnyClip:
    """A schedule for as many frames as a clip has, which is known when a run begins."""

    text: str
    pace: Pace
    inside: bool

    def over(self, total_frames: int) -> FrameValues:
        return torch.tensor(_values_over(total_frames, self.text, self.pace, self.inside))[:, None, None]


@functools.lru_cache(maxsize=8)  # each call of the UNet asks
def _values_over(total_frames: int, text: str, pace: Pace, inside: bool) -> list[float]:
    return values_of_schedule(text, total_frames, pace, inside)


def over_clip(values: FrameValues | CurveInput | ValuesOfAnyClip, total_frames: int) -> FrameValues:
    """Values for each frame of a clip, or for all of them; raises ScheduleError where a schedule does not fit it."""
    if isinstance(values, ValuesOfAnyClip):
        return values.over(total_frames)
    return curve_over_frames(values, total_frames) if isinstance(values, CurveInput) else values


def values_of_text(
    text: str, frames: int | None, easing: str, hold: float = 0.0, closed_loop: bool = False, inside: bool = False
) -> list[float] | ValuesOfAnyClip:
    """Read a schedule, for ``frames`` or, with None, for a clip of any length; raises ScheduleError."""
    pace = Pace(Easing(easing), hold, closed_loop)
    if frames is not None:
        return values_of_schedule(text, frames, pace, inside)
    check_values(text)
    return ValuesOfAnyClip(text, pace, inside)


def curve_of_text(text: str, easing: str) -> CurveInput:
    """Make a schedule over a run one of core's curves."""
    points = points_of_schedule(text)
    if Easing(easing) is Easing.EASE_IN_OUT:
        # Doubled points make the monotone cubic flat there, which is this easing.
        return MonotoneCubicCurve([point for point in points for _ in range(2)])
    if Easing(easing) is Easing.HOLD:
        jumps = [(x, before) for (_, before), (x, _) in pairwise(points)]
        return LinearCurve(jumps + points)  # sorted by x, so that where it jumps, the value before comes first
    return LinearCurve(points)
