"""ComfyUI's curves, as nodes receive them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.input import CurveInput

from ....motion_models.errors import InvalidInput
from .frame_values import FrameValues


def is_curve(value: object) -> bool:
    """Whether a value is a curve; over the API it may be one as the editor stores it."""
    return isinstance(value, (CurveInput, dict))


def to_curve(value: Any, input_name: str) -> CurveInput | None:
    """Accept a curve, or nothing.

    Raises:
        InvalidInput: it is no curve, or has no points, or some that are not finite.
    """
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
