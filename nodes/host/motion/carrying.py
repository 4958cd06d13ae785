"""Subjects that are carried to their boxes in what a step predicts, while that is no more than a layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....animation.trajectories import carry
from ..types import CLIPS_KEY
from .box_attention import trajectories_of
from .unet_call import is_in_range


@dataclass(frozen=True)
class Carrying:
    """A function for ``set_model_sampler_post_cfg_function``.

    Where a subject is, it tells from what the prompt changes most: the predictions with and without it differ there. So it
    needs a cfg above 1, without which ComfyUI does not ask for both.
    """

    def __call__(self, args: dict[str, Any]) -> Tensor:
        model, denoised = args["model"], args["denoised"]
        trajectories = [each for each in trajectories_of(model.current_patcher) if each.carry]
        if not trajectories or args["uncond"] is None or denoised.ndim != 4:
            return denoised
        sigma = args["sigma"].max().item()
        acting = [each for each in trajectories if is_in_range(sigma, 0.0, each.end_percent, model.model_sampling)]
        clips = args["model_options"]["transformer_options"].get(CLIPS_KEY, 1)
        if not acting or len(denoised) == clips:
            return denoised
        saliency = (args["cond_denoised"] - args["uncond_denoised"]).float().square().mean(1)
        paths = [each.boxes(len(denoised) // clips).repeat(clips, 1) for each in acting]
        return carry(denoised, saliency, paths)


def let_carry(model: ModelPatcher) -> None:
    """Let what ``model``, the caller's own clone, predicts be changed as its trajectories say."""
    if not any(isinstance(each, Carrying) for each in model.model_options.get("sampler_post_cfg_function", [])):
        model.set_model_sampler_post_cfg_function(Carrying())
