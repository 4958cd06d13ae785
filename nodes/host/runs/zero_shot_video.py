"""Text2Video-Zero on a MODEL: frames that look at an anchor frame, and a start that moves one picture.

Source: Khachatryan et al. 2023, "Text2Video-Zero", arXiv:2303.13439. Two parts, each of which works without the other.
Cross-frame attention: an ``attn1_patch`` gives every frame's self-attention the keys and values of its anchor. Which
frames those are, an ``APPLY_MODEL`` wrapper tells at every call of the UNet in a copy of ``transformer_options``. Warp
start: a ``SAMPLER_SAMPLE`` wrapper finds the frames' latents at t1, then lets the sampler go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import torch
from comfy.ldm.modules.attention import SpatialVideoTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....animation.latent_warp import WarpSchedule, add_noise, plan_warp_start, warp
from ....motion_models.errors import InvalidInput
from ..motion.unet import base_model_name
from ..motion.unet_call import UNetCall
from ..types import CLIPS_KEY, FRAMES_KEY, NOTE, logger

ZERO_KEY = "animatediff_loom_text2video_zero"
"""Text2Video-Zero's key for wrappers, attachments and ``transformer_options``."""

FIRST, PREVIOUS, FIRST_AND_PREVIOUS, OFF = "first frame", "previous frame", "first and previous frame", "off"
ANCHORS = [FIRST, PREVIOUS, FIRST_AND_PREVIOUS, OFF]
"""What a node offers; frozen, as part of saved workflows."""

LAST_TIMESTEP = 999


@dataclass(frozen=True)
class Text2VideoZeroSettings:
    """``LoomText2VideoZero``'s inputs."""

    anchor: str = FIRST
    warp_start: bool = True
    motion_x: float = 12.0
    motion_y: float = 12.0
    t0: int = 881
    t1: int = 941
    start_percent: float = 0.0
    end_percent: float = 1.0


def apply_text2video_zero(model: ModelPatcher, settings: Text2VideoZeroSettings) -> ModelPatcher:
    """Return a clone of MODEL with Text2Video-Zero, in place of an earlier one; InvalidInput if it has no image UNet."""
    _check_unet(model)
    model = model.clone()
    model.set_attachments(ZERO_KEY, settings)
    if attend_to_anchors not in model.model_options["transformer_options"].get("patches", {}).get("attn1_patch", []):
        model.set_model_attn1_patch(attend_to_anchors)
    for kind, wrapper in ((WrappersMP.APPLY_MODEL, _apply_model), (WrappersMP.SAMPLER_SAMPLE, _sampler_sample)):
        model.remove_wrappers_with_key(kind, ZERO_KEY)
        model.add_wrapper_with_key(kind, ZERO_KEY, wrapper)
    return model


def _check_unet(model: ModelPatcher) -> None:
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel):
        raise InvalidInput(
            f"The connected model is {base_model_name(model)}, which has no Stable Diffusion UNet. Text2Video-Zero "
            "works with SD1.5, SD2.x and SDXL checkpoints: load one of those."
        )
    if any(isinstance(module, SpatialVideoTransformer) for module in unet.modules()):
        raise InvalidInput(
            f"The connected model is {base_model_name(model)}, a video model, which connects its frames itself. "
            "Text2Video-Zero is for image models: load an SD1.5, SD2.x or SDXL checkpoint."
        )


# --- cross-frame attention -------------------------------------------------------------------------------------------


# torch.compile would bake the frames in: core drops its guards on transformer_options.
@torch.compiler.disable
def attend_to_anchors(n: Tensor, context: Tensor, value: Tensor, extra_options: dict[str, Any]):
    """Patch of self-attention: what keys and values are made from becomes that of each frame's anchors."""
    anchors: list[Tensor] | None = extra_options.get(ZERO_KEY)
    if anchors is None:
        return n, context, value
    # Tokens are ``b n c``; those of several anchors come one after the other.
    keys = torch.cat([context[anchor] for anchor in anchors], dim=1)
    values = keys if value is context else torch.cat([value[anchor] for anchor in anchors], dim=1)
    return n, keys, values


def _apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    base = executor.class_obj
    options = dict(transformer_options or {})
    options[ZERO_KEY] = _find_anchors(base, x, options)
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _find_anchors(base, x: Tensor, options: dict[str, Any]) -> list[Tensor] | None:
    """Find, for each image of a call's batch, the images that it attends to; one ``(batch,)`` of indices for each."""
    settings: Text2VideoZeroSettings = base.current_patcher.get_attachment(ZERO_KEY)
    if settings.anchor == OFF:
        return None
    call = UNetCall.of(x, options)
    if call.num_frames == 1 or not call.is_in_range(settings.start_percent, settings.end_percent, base.model_sampling):
        return None
    frames = call.window or range(call.num_frames)
    return [
        torch.tensor([clip + place for clip in range(0, len(x), call.num_frames) for place in places], device=x.device)
        for places in anchor_places(settings.anchor, frames)
    ]


def anchor_places(anchor: str, frames: Sequence[int]) -> list[list[int]]:
    """For each anchor that a frame has, its place in the call for every frame; ``anchor`` is not off.

    The call's ``frames`` may be a context window's, whose numbers need not begin at 0, nor rise.
    """
    first = [list(frames).index(min(frames))] * len(frames)
    previous = [max(place - 1, 0) for place in range(len(frames))]
    return {FIRST: [first], PREVIOUS: [previous], FIRST_AND_PREVIOUS: [first, previous]}[anchor]


# --- warp start ------------------------------------------------------------------------------------------------------


def _sampler_sample(
    executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
):
    def run(sigmas, extra_args, callback, noise, latent_image):
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)

    settings: Text2VideoZeroSettings = guider.model_patcher.get_attachment(ZERO_KEY)
    options = extra_args["model_options"]["transformer_options"]
    options[FRAMES_KEY] = num_frames = noise.shape[0] // options.get(CLIPS_KEY, 1)
    if num_frames == 1:
        logger.warning("Text2Video-Zero has a single frame, which will not move. Give the sampler a latent of 8 frames or more.")
    if not settings.warp_start or num_frames == 1:
        return run(sigmas, extra_args, callback, noise, latent_image)
    schedule = _plan(settings, guider.inner_model.model_sampling, sigmas)
    is_given = denoise_mask is not None or (latent_image is not None and bool(torch.count_nonzero(latent_image)))
    if schedule is None or is_given:
        reason = "the sampler starts from given frames" if is_given else "the run does not pass t0 and t1"
        logger.info("Text2Video-Zero: no warp start, because %s.", reason, extra=NOTE)
        return run(sigmas, extra_args, callback, noise, latent_image)
    extra_args = _with_sample_sigmas(extra_args, schedule.sigmas)
    latents = _warp_start(guider, schedule, extra_args, callback, noise, num_frames, settings)
    # A latent without noise is where a sampler goes on from, as KSampler (Advanced) does without add_noise.
    report = _numbered(callback, schedule, schedule.steps_before)
    return run(schedule.from_t1, extra_args, report, torch.zeros_like(noise), latents)


def _plan(settings: Text2VideoZeroSettings, model_sampling, sigmas: Tensor) -> WarpSchedule | None:
    if isinstance(model_sampling, comfy.model_sampling.CONST):
        raise InvalidInput(
            "The connected model uses flow matching, for which Text2Video-Zero has no warp start. Turn "
            "warp_start off; cross-frame attention still works."
        )
    sigma_0, sigma_1 = (
        float(model_sampling.percent_to_sigma(1.0 - timestep / LAST_TIMESTEP)) for timestep in (settings.t0, settings.t1)
    )
    return plan_warp_start(sigmas, sigma_0, sigma_1)


def _with_sample_sigmas(extra_args: dict[str, Any], sigmas: Tensor) -> dict[str, Any]:
    """A copy for a run with other sigmas, from which context windows and other packs tell the step."""
    model_options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
    model_options["transformer_options"]["sample_sigmas"] = sigmas
    return {**extra_args, "model_options": model_options}


def _warp_start(
    guider, schedule: WarpSchedule, extra_args: dict[str, Any], callback, noise: Tensor, num_frames: int,
    settings: Text2VideoZeroSettings,
) -> Tensor:  # fmt: skip
    """The frames' latents at t1, ``(b f) c h w``.

    All frames make the first one's way, from its noise: so a call has as many frames as ever, which ControlNet hints,
    prompts for each frame and context windows count on. The steps are Euler's, which is DDIM, as in the paper; what
    is random in other samplers, they would repeat in the run proper.
    """
    sampler = comfy.samplers.sampler_object("euler")
    each_noise = noise.unflatten(0, (-1, num_frames))
    first_noise = each_noise[:, :1].expand_as(each_noise).flatten(0, 1)
    nothing = torch.zeros_like(noise)
    report = _numbered(callback, schedule, 0)
    at_t1 = sampler.sample(guider, schedule.to_t1, extra_args, report, first_noise, nothing, disable_pbar=True)
    at_t0 = sampler.sample(guider, schedule.from_t1_to_t0, extra_args, None, nothing, at_t1, disable_pbar=True)
    sigma_1, sigma_0 = float(schedule.from_t1_to_t0[0]), float(schedule.from_t1_to_t0[-1])
    warped = warp(at_t0[::num_frames], num_frames, settings.motion_x, settings.motion_y)
    frames = add_noise(warped, each_noise, sigma_0, sigma_1)
    frames[:, 0] = at_t1[::num_frames]
    return frames.flatten(0, 1)


def _numbered(callback: Callable | None, schedule: WarpSchedule, first_step: int) -> Callable | None:
    """The sampler's callback for a part of the run, whose steps it counts as steps of the whole."""
    total_steps = len(schedule.sigmas) - 1
    return callback and (lambda step, x0, x, _: callback(first_step + step, x0, x, total_steps))
