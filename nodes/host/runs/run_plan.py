"""Gathering what there is to know about a run, before it and at its beginning."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import comfy.samplers
import torch
from comfy.context_windows import IndexListContextHandler
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....animation.plan import (
    ContextWindows,
    Memory,
    Plan,
    PlannedImages,
    PlannedLora,
    PlannedModel,
    SamplingAdvice,
    text_of,
)
from ....animation.plan_warnings import warnings_of
from ....motion_models.config import Family
from ..files.lora_files import applied_loras
from ..motion.cameras import camera_in_words
from ..motion.context_windows import FrameWindowsHandler, automatic_windows
from ..motion.control_hints import controls_of
from ..motion.frame_values import frames_of_latent
from ..motion.image_inputs import image_in_words
from ..motion.model_sampling import beta_schedule_of, was_changed_after
from ..motion.reference_images import references_in_words, references_of
from ..motion.retiming import positions_of, retime_of
from ..motion.sparse_control import SparseControl
from ..motion.steered import MotionSettings, applied_motion_models
from ..motion.view_windows import frames_in_view
from ..provenance import file_name
from .clip_conds import FITTED_KEY
from .run_wrappers import DRAWN_NOISE_KEY, FREEINIT_KEY, FREENOISE_KEY, SHARED_NOISE_KEY, clips_of, setting_of

# Pixels of a side in training, of families that make nothing of much smaller pictures. Source: AnimateDiff's README.
_TRAINED_SIDES = {Family.SDXL: 1024}
# Source: Wang et al. 2024, arXiv:2402.00769, and AnimateLCM's README.
_LCM_ADVICE = SamplingAdvice("lcm", "simple", (4, 8), (1.0, 2.0))
# File names of AnimateDiff-Lightning, whose files are those of v2 otherwise. Source: Lin & Yang 2024, arXiv:2403.12706.
_LIGHTNING = re.compile(r"lightning_(\d+)step")
# Share of the highest sigma from which on a run counts as begun from pure noise.
_WHOLE_RUN = 0.8


def plan_animation(
    model: ModelPatcher, latent: dict[str, Any], steps: int, cfg: float, positive: list | None = None
) -> Plan:
    """What sampling a latent will do; ``InvalidInput`` if it is no batch of pictures. Nothing is loaded or changed.

    ``positive`` is a prompt whose ControlNets take part.
    """
    frames_of_latent(latent)  # checks it
    samples = latent["samples"]
    freenoise, shared, freeinit = (setting_of(model, key) for key in (FREENOISE_KEY, SHARED_NOISE_KEY, FREEINIT_KEY))
    repeats = freeinit is not None and freeinit.iterations > 1
    noise = (
        "drawn anew by Starting Noise" if setting_of(model, DRAWN_NOISE_KEY) else None,
        freenoise and f"FreeNoise for windows of {freenoise.length} frames",
        shared and f"one layout for all frames, up to {shared.cutoff:g} of the highest frequency",
        f"{freeinit.low_pass.value} {freeinit.method.value}" if repeats else None,
    )
    runs = tuple(freeinit.steps_of_runs(steps)) if repeats else ()
    images = tuple(_planned_images(positive or [], len(samples)))
    known = {"steps": steps, "cfg": cfg, "noise": tuple(filter(None, noise)), "runs": runs, "images": images}
    plan = _plan(model, model.model_options, samples, steps, **known)
    return replace(plan, memory=_memory(plan, model, samples))


def describe_plan(plan: Plan) -> str:
    """A plan in words, with its warnings."""
    return text_of(plan, warnings_of(plan))


def warnings_of_run(guider: comfy.samplers.CFGGuider, noise: Tensor, sampler: Any, sigmas: Tensor) -> list[str]:
    """Warnings about a run that begins, with one clip's noise; its model is not loaded yet."""
    if noise.ndim != 4:
        return []  # no batch of pictures: ComfyUI says what is wrong with that
    model = guider.model_patcher
    highest = model.get_model_object("model_sampling").sigma_max
    is_whole = len(sigmas) > 1 and float(sigmas[-1]) == 0.0 and float(sigmas[0]) >= _WHOLE_RUN * float(highest)
    has_cfg = type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")  # another pack's may have none
    entries = [cond for conds in guider.conds.values() for cond in conds or () if isinstance(cond.get("cross_attn"), Tensor)]
    prompt_frames = {cond.get(FITTED_KEY, len(cond["cross_attn"])) for cond in entries}
    plan = _plan(
        model, guider.model_options, noise, 1, sigmas,
        steps=len(sigmas) - 1 if is_whole else None,
        cfg=float(guider.cfg) if has_cfg else None,
        sampler=name.removeprefix("sample_") if name.startswith("sample_") else None,
        prompt_frames=tuple(sorted(prompt_frames - {1, len(noise), len(noise) * clips_of(guider)})),
    )  # fmt: skip
    return warnings_of(plan)


def _plan(
    model: ModelPatcher, model_options: dict[str, Any], latent: Tensor, steps_to_look_at: int, levels: Tensor | None = None,
    **run: Any,
) -> Plan:
    """A ``Plan`` of what is known; ``levels`` are the sigmas of the run's steps and its end, if these are."""
    frames, _, height, width = latent.shape
    side = model.model.latent_format.spacial_downscale_ratio
    windows = _context_windows(model, model_options, latent, steps_to_look_at)
    seen = frames if windows is None else windows.length + windows.has_anchor
    at_once = frames_in_view(model, seen)
    model_sampling = model.get_model_object("model_sampling")
    return Plan(
        frames=frames,
        size=(width * side, height * side),
        models=tuple(
            _planned(patcher, settings, at_once, frames, _has_no_steps(settings, model_sampling, levels))
            for patcher, settings in applied_motion_models(model)
        ),
        betas=beta_schedule_of(model_sampling),
        changed_after=was_changed_after(model),
        timesteps=len(getattr(model_sampling, "sigmas", range(1000))),
        windows=windows,
        view_length=at_once if at_once < seen else None,
        **run,
    )


def _planned(patcher: ModelPatcher, settings: MotionSettings, at_once: int, frames: int, has_no_steps: bool) -> PlannedModel:
    config, family, retime = patcher.model.config, patcher.model.config.family, retime_of(patcher)
    positions = retime.positions(frames if retime.across_windows else at_once)
    loras = (PlannedLora(lora.file_name, lora.strength.in_words, lora.notices) for lora in applied_loras(patcher))
    return PlannedModel(
        file_name=file_name(patcher),
        family=family.title,
        betas=family.beta_schedule,
        max_frames=positions_of(patcher),
        positions=(positions.min().item(), positions.max().item()),
        may_extend=retime.extend,
        trained_frames=config.trained_frames,
        trained_side=_TRAINED_SIDES.get(family),
        distilled_timesteps=family.distilled_timesteps,
        norm_over_frames=family.norm_over_frames,
        advice=_advice(family, file_name(patcher)),
        motion_scale=settings.motion_scale.in_words,
        strength=settings.strength.in_words,
        start_percent=settings.start_percent,
        end_percent=settings.end_percent,
        has_no_steps=has_no_steps and references_of(patcher) is None,  # an image may count on its own
        loras=tuple(loras),
        images=tuple(filter(None, (image_in_words(patcher), references_in_words(patcher)))),
        lacks_image=family is Family.LCM_I2V and references_of(patcher) is None,
        camera=camera_in_words(patcher),
    )


def _planned_images(conds: list, frames: int) -> Iterator[PlannedImages]:
    for control in controls_of(options for _, options in conds):
        if isinstance(control, SparseControl) and control.cond_hint_original is not None:
            placed = control.placement.frames_of(len(control.cond_hint_original), frames)
            at = tuple(sorted(frame for _, frame in placed))
            yield PlannedImages(
                control.file_name, at, control.strength, *control.timestep_percent_range, unguided=control.placement.unguided.value
            )


def _has_no_steps(settings: MotionSettings, model_sampling: Any, levels: Tensor | None) -> bool:
    if levels is None or len(levels) < 2:
        return settings.start_percent >= 1.0 or settings.end_percent <= 0.0
    start, end = (model_sampling.percent_to_sigma(percent) for percent in (settings.start_percent, settings.end_percent))
    return not any(end <= sigma <= start for sigma in levels[:-1].tolist())


def _advice(family: Family, name: str) -> SamplingAdvice | None:
    if family.distilled_timesteps is not None:
        return _LCM_ADVICE
    lightning = _LIGHTNING.search(name.lower())
    if lightning is None:
        return None
    steps = int(lightning[1])
    return SamplingAdvice("euler", "sgm_uniform", (steps, steps), (1.0, 1.0))


def _context_windows(model: ModelPatcher, model_options: dict[str, Any], latent: Tensor, steps: int) -> ContextWindows | None:
    """Ask the handler of context windows which ones it will make, if it will make any."""
    automatic = automatic_windows(model, model_options, len(latent))
    handler = automatic or model_options.get("context_handler")
    if not isinstance(handler, IndexListContextHandler) or handler.dim != 0:
        return None
    is_ours, frames = isinstance(handler, FrameWindowsHandler), len(latent)
    if not (handler.windowing.cuts(frames) if is_ours else frames > handler.context_length):
        return None
    handler = copy.copy(handler)  # it keeps the step
    sigmas = torch.arange(steps, -1, -1, dtype=torch.float32)
    options = {**model_options, "transformer_options": {**model_options["transformer_options"], "sample_sigmas": sigmas}}
    by_step = []
    for sigma in sigmas[:-1]:
        handler.set_step(sigma[None], options)
        windows = handler.get_context_windows(model.model, latent, options)
        by_step.append(tuple(tuple(window.index_list) for window in windows))
    return ContextWindows(handler.context_length, tuple(by_step), handler.causal_window_fix, automatic is not None)


def _memory(plan: Plan, model: ModelPatcher, latent: Tensor) -> Memory:
    """Weights, and what ComfyUI itself sets aside for a call; what motion modules work with is small beside it."""
    motion_models = [patcher for patcher, _ in applied_motion_models(model)]
    motion_models += [side for patcher in motion_models for side in patcher.get_nested_additional_models()]
    call = model.model.memory_required([plan.conds * plan.frames_at_once, *latent.shape[1:]])
    return Memory(model.model_size(), sum(patcher.model_size() for patcher in motion_models), int(call))
