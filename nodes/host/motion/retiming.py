"""Letting a motion model take a clip's frames for other positions than 0, 1, 2 and so on."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from ....animation.retime import Repeat, Retime, Stretch
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ..provenance import file_name

_RETIME_KEY = "animatediff_loom_retime"

REPEATS = [repeat.value for repeat in Repeat]  # frozen, as part of saved workflows


def stretch_of(motion_patcher: ModelPatcher, more: int, positions: int) -> Stretch | None:
    """The first so many positions of a motion model, or all for 0, over so many frames more; None for no more and no fewer."""
    stored = motion_patcher.model.config.max_frames
    if positions > stored:
        raise InvalidInput(
            f"stretch_from is {positions}, but motion model '{file_name(motion_patcher)}' has positions for {stored}. "
            f"Set stretch_from to {stored} or less; 0 stretches all."
        )
    positions = positions or stored
    if positions + more < 1:
        raise InvalidInput(f"stretch {more} leaves none of {positions} positions. Set it to {1 - positions} or more.")
    return Stretch(positions, positions + more) if more else None


def positions_of(motion_patcher: ModelPatcher) -> int:
    """Frames that a motion model has positions for."""
    stretch = retime_of(motion_patcher).stretch
    return motion_patcher.model.config.max_frames if stretch is None else stretch.frames


def retime_motion(motion_patcher: ModelPatcher, retime: Retime) -> ModelPatcher:
    """A clone of a motion model whose frames have other positions; an earlier ``Retime`` is replaced."""
    motion_patcher = motion_patcher.clone()
    motion_patcher.set_attachments(_RETIME_KEY, retime)
    return motion_patcher


def retime_of(motion_patcher: ModelPatcher) -> Retime:
    return motion_patcher.get_attachment(_RETIME_KEY) or Retime()


def fits_at_once(motion_patcher: ModelPatcher, num_frames: int) -> bool:
    """Whether a motion model was trained to see so many frames at a time; of a retimed one, whether it has the positions."""
    if retime_of(motion_patcher) == Retime():
        return num_frames <= motion_patcher.model.config.trained_frames
    return _positions_past_the_stored(motion_patcher, num_frames) is None


def check_positions(motion_patcher: ModelPatcher, num_frames: int, total_frames: int) -> None:
    """Raise ``IncompatibleMotionModel`` where a motion model lacks positions for the frames that it sees at a time.

    Where positions go on from window to window, all frames of the clip count. A model of 16 positions has them from 0 to below
    16, so that 32 frames at half speed fit.
    """
    retime, most = retime_of(motion_patcher), positions_of(motion_patcher)
    num_frames = total_frames if retime.across_windows else num_frames
    past = _positions_past_the_stored(motion_patcher, num_frames)
    if past is None:
        return
    if retime == Retime():
        raise IncompatibleMotionModel(
            f"{num_frames} frames at a time are too many for motion model '{file_name(motion_patcher)}', which has positions "
            f"for {most}. Lower context_length of Context Windows, or view_length of View Windows, to {most} or less. A context_schedule of none "
            "has all frames at once: choose another one. ComfyUI's "
            "own Context Windows node adds one frame while causal_window_fix is on."
        )
    first, last = past
    raise IncompatibleMotionModel(
        f"Retime Motion places {num_frames} frames from {first:g} to {last:g}, but motion model '{file_name(motion_patcher)}' "
        f"has positions from 0 to below {most}. Lower speed, offset or the number of frames, or turn extend on."
    )


def _positions_past_the_stored(motion_patcher: ModelPatcher, num_frames: int) -> tuple[float, float] | None:
    """First and last position if a motion model has not all of them and may not go past those that it stores; else None."""
    retime, most = retime_of(motion_patcher), positions_of(motion_patcher)
    if retime.extend:
        return None
    positions = retime.positions(num_frames)
    first, last = positions.min().item(), positions.max().item()
    return None if first >= 0 and last < most else (first, last)
