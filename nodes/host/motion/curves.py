"""Values over the frames of a clip or the steps of a run: schedules as text, and ComfyUI's curves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from comfy_api.input import CurveInput, LinearCurve, MonotoneCubicCurve

from ....animation.schedule import Easing, Pace
from ....animation.value_schedule import points_of_schedule, values_of_schedule
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


def values_of_text(
    text: str, frames: int, easing: str, hold: float = 0.0, closed_loop: bool = False, inside: bool = False
) -> list[float]:
    return values_of_schedule(text, frames, Pace(Easing(easing), hold, closed_loop), inside)


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
