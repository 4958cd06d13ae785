"""What one call of the UNet holds: how many frames, which of the clip's, and where in the run it stands."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...motion_models.errors import IncompatibleMotionModel
from .types import CLIPS_KEY


def count_frames(x: Tensor, options: dict[str, Any]) -> int:
    """Count the frames of one clip in a call's batch, which is conds times clips times frames.

    Raises:
        IncompatibleMotionModel: the batch does not hold the same number of frames for each.
    """
    chunks = len(options.get("cond_or_uncond", (0,))) * options.get(CLIPS_KEY, 1)
    if x.shape[0] % chunks:
        raise IncompatibleMotionModel(
            f"A batch of {x.shape[0]} frames cannot be split evenly into {chunks} parts. "
            "Make the number of frames a multiple of the number of clips."
        )
    return x.shape[0] // chunks


def window_frames(options: dict[str, Any], num_frames: int) -> list[int] | None:
    """Frame numbers of the context window in force; ComfyUI's anchor frame, where it adds one, comes first."""
    window = options.get("context_window")
    if window is None:
        return None
    frames = list(window.index_list)
    anchor = getattr(window, "causal_anchor_index", None)
    if anchor is not None and len(frames) == num_frames - 1:
        frames.insert(0, anchor)
    return frames


def is_in_range(start_percent: float, end_percent: float, model_sampling, options: dict[str, Any]) -> bool:
    """Whether this call lies in a part of the run; the place is told from sigma."""
    if start_percent <= 0.0 and end_percent >= 1.0:
        return True
    sigma = options["sigmas"][0].item()
    start = float(model_sampling.percent_to_sigma(start_percent))
    end = float(model_sampling.percent_to_sigma(end_percent))
    return end <= sigma <= start
