"""Letting a motion model take a clip's frames for other positions than 0, 1, 2 and so on."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from ...animation.retime import Repeat, Retime
from ...motion_models.errors import IncompatibleMotionModel
from .loading import file_name

_RETIME_KEY = "animatediff_loom_retime"

REPEATS = [repeat.value for repeat in Repeat]
"""What a node offers; frozen, as part of saved workflows."""


def retime_motion(motion_patcher: ModelPatcher, retime: Retime) -> ModelPatcher:
    """Return a clone of a motion model whose frames have other positions; an earlier ``Retime`` is replaced."""
    motion_patcher = motion_patcher.clone()
    motion_patcher.set_attachments(_RETIME_KEY, retime)
    return motion_patcher


def retime_of(motion_patcher: ModelPatcher) -> Retime:
    """How a motion model's frames are placed."""
    return motion_patcher.get_attachment(_RETIME_KEY) or Retime()


def check_positions(motion_patcher: ModelPatcher, num_frames: int) -> None:
    """Check that a motion model has a position for each frame that it is to see at a time.

    A model of 16 positions has them from 0 to below 16, so that 32 frames at half speed fit.

    Raises:
        IncompatibleMotionModel: it has not, and may not go past those that it stores.
    """
    retime, most = retime_of(motion_patcher), motion_patcher.model.config.max_frames
    if retime.extend:
        return
    positions = retime.positions(num_frames)
    first, last = positions.min().item(), positions.max().item()
    if first >= 0 and last < most:
        return
    if retime == Retime():
        raise IncompatibleMotionModel(
            f"{num_frames} frames are too many for motion model '{file_name(motion_patcher)}', which has positions for "
            f"{most}. Make {most} frames or fewer, or put ComfyUI's Context Windows (Manual) node behind Apply Motion "
            "Model, with context_length 16, dim 0 and causal_window_fix off."
        )
    raise IncompatibleMotionModel(
        f"Retime Motion places {num_frames} frames from {first:g} to {last:g}, but motion model '{file_name(motion_patcher)}' "
        f"has positions from 0 to below {most}. Lower speed, offset or the number of frames, or switch extend on."
    )
