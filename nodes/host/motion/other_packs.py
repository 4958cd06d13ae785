"""What other packs read and set while a MODEL is sampled: AnimateDiff-Evolved, and those that follow its conventions."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..types import CLIPS_KEY
from .unet_call import EVOLVED_FRAMES_KEY, frames_of_window

_WRAPPER_KEY = "animatediff_loom_frames_for_other_packs"
# Additional models and the attachment under which AnimateDiff-Evolved keeps its motion models and context options.
_EVOLVED_MODELS, _EVOLVED_PARAMS = "ADE", "ADE_params"


def publish_frames(model: ModelPatcher) -> None:
    """Let each call of ``model``, the caller's own clone, say which frames it holds, as AnimateDiff-Evolved does.

    By that, IPAdapter_plus takes its images, masks and weights, and Advanced-ControlNet its hints, masks and keyframes.
    """
    model.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, _WRAPPER_KEY)
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, _WRAPPER_KEY, _calc_cond_batch)


def _calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    options = model_options["transformer_options"]
    before = options.get(EVOLVED_FRAMES_KEY)
    if before is None or before["sub_idxs"] is None:  # else AnimateDiff-Evolved has cut this window
        options[EVOLVED_FRAMES_KEY] = _frames(len(x_in), options)
    try:
        return executor(model, conds, x_in, timestep, model_options)
    finally:
        if before is None:
            del options[EVOLVED_FRAMES_KEY]
        else:
            options[EVOLVED_FRAMES_KEY] = before


def _frames(batch: int, options: dict[str, Any]) -> dict[str, Any]:
    """``sub_idxs`` are the frames' numbers in their clip, None where the call has all of one clip's."""
    clips = options.get(CLIPS_KEY, 1)
    frames = batch // clips
    window, total = frames_of_window(options) or (None if clips == 1 else list(range(frames)) * clips, frames)
    return {"sub_idxs": window, "full_length": total, "context_length": frames}


def evolved_cuts(model: ModelPatcher, total_frames: int) -> bool:
    """Whether AnimateDiff-Evolved's context options cut a clip into windows."""
    options = getattr(model.get_attachment(_EVOLVED_PARAMS), "context_options", None)
    length = getattr(options, "context_length", None)
    return length is not None and total_frames > length - bool(getattr(options, "use_on_equal_length", False))


def evolved_decides(model: ModelPatcher, total_frames: int) -> bool:
    """Whether AnimateDiff-Evolved decides which frames see one another: with motion models, or by cutting windows."""
    return bool(model.get_additional_models_with_key(_EVOLVED_MODELS)) or evolved_cuts(model, total_frames)
