"""Putting motion modules behind a UNet's layers without touching the UNet.

A MODEL clone gets: the motion models as additional models (so ComfyUI loads and frees them with it), their settings as
an attachment, two handlers that run behind the UNet's own layers, and a wrapper that at every UNet call finds the live
motion models and passes them down in a copy of ``transformer_options``. Nothing is kept between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...motion_models.errors import IncompatibleMotionModel
from ...motion_models.layers import sinusoidal_positions
from ...motion_models.motion_model import MotionModule
from . import frame_values
from .loading import file_name
from .norms import norms_over_frames
from .types import CLIPS_KEY, KEY, logger
from .unet import check_compatible, take_seats
from .unet_call import count_frames, is_in_range, window_frames

CPU_BLOCK_TOKENS = 2048
"""Tokens that a motion module works on at a time on a CPU, see ``benchmarks/motion_overhead.py``."""


@dataclass(frozen=True)
class MotionSettings:
    """How a motion model is applied; ``LoomApplyMotionModel``'s inputs."""

    motion_scale: float = 1.0
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    motion_scale_values: frame_values.FrameValues | None = None
    strength_values: frame_values.FrameValues | None = None


@dataclass
class ActiveModel:
    """A motion model at work in one call: the motion module behind each layer, how it is applied, to which frames."""

    modules: dict[torch.nn.Module, MotionModule]
    settings: MotionSettings
    window: list[int] | None


@dataclass
class MotionCall:
    """What one call of the UNet needs to know; lives in that call's ``transformer_options``."""

    active: list[ActiveModel]
    num_frames: int
    norm_over_frames: bool
    encodings: dict[tuple, Tensor] = field(default_factory=dict)

    def encoding(self, channels: int, like: Tensor) -> Tensor:
        """Position encodings ``f c``, made once a call for each width."""
        key = (channels, like.dtype, like.device)
        if key not in self.encodings:
            positions = torch.arange(self.num_frames, device=like.device)
            self.encodings[key] = sinusoidal_positions(positions, channels).to(like.dtype)
        return self.encodings[key]


def apply_motion_model(model: ModelPatcher, motion_patcher: ModelPatcher, settings: MotionSettings) -> ModelPatcher:
    """Return a clone of MODEL that is animated by a motion model.

    Several motion models run in the order they were applied, each on the output of the one before. Applying one that
    is there already replaces its settings, in its place.

    Raises:
        IncompatibleMotionModel: see ``check_compatible``.
    """
    check_compatible(model, motion_patcher.model.config, file_name(motion_patcher))
    model = model.clone()
    entries = _applied(model)
    places = [i for i, (patcher, _) in enumerate(entries) if patcher.model is motion_patcher.model]
    place = places[0] if places else len(entries)
    entries[place : place + 1] = [(motion_patcher.clone(), settings)]
    model.set_additional_models(KEY, [patcher for patcher, _ in entries])
    model.set_attachments(KEY, tuple(entry_settings for _, entry_settings in entries))
    set_hooks(model)
    return model


def set_hooks(model: ModelPatcher) -> None:
    """Let ``model``, the caller's own clone, do what the ``MotionCall`` in a call's ``transformer_options`` says."""
    _set_handlers(model)
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _outer_sample),
        (WrappersMP.APPLY_MODEL, _apply_model),
        (WrappersMP.DIFFUSION_MODEL, _diffusion_model),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)


def _applied(model: ModelPatcher) -> list[tuple[ModelPatcher, MotionSettings]]:
    return list(zip(model.get_additional_models_with_key(KEY), model.get_attachment(KEY) or (), strict=True))


# --- behind the UNet's layers ---------------------------------------------------------------------------------------


def _set_handlers(model: ModelPatcher) -> None:
    """Register Loom's handlers, once, before other packs': the first match wins, and Loom calls the next one itself."""
    own = [(SpatialTransformer, run_layer_with_motion), (ResBlock, run_layer_with_motion)]
    patches = model.model_options["transformer_options"].get("patches", {}).get("forward_timestep_embed_patch", [])
    others = [patch for patch in patches if patch[1] is not run_layer_with_motion]
    patches.clear()
    for patch in own + others:
        model.set_model_forward_timestep_embed_patch(patch)


# torch.compile would bake settings and seats in: core drops its guards on transformer_options.
@torch.compiler.disable
def run_layer_with_motion(layer, x, emb, context, transformer_options, *rest) -> Tensor:
    """Handler of ``forward_timestep_embed_patch``: run the layer, then the motion modules that sit behind it."""
    x = _run_layer(layer, x, emb, context, transformer_options, *rest)
    call: MotionCall | None = transformer_options.get(KEY)
    if call is None:
        return x
    for active in call.active:
        module = active.modules.get(layer)
        if module is not None:
            x = _run_module(module, x, active, call, transformer_options)
    return x


def _run_layer(layer, x, emb, context, transformer_options, *rest) -> Tensor:
    handler = _next_handler(layer, transformer_options)
    if handler is not None:
        return handler(layer, x, emb, context, transformer_options, *rest)
    if isinstance(layer, SpatialTransformer):
        x = layer(x, context, transformer_options)
        # The UNet counts its transformers itself only where no handler takes the layer.
        transformer_options["transformer_index"] += 1
        return x
    return layer(x, emb)


def _next_handler(layer: torch.nn.Module, transformer_options: dict[str, Any]) -> Callable[..., Tensor] | None:
    for kind, handler in transformer_options["patches"]["forward_timestep_embed_patch"]:
        if handler is not run_layer_with_motion and isinstance(layer, kind):
            return handler
    return None


def _run_module(module: MotionModule, x: Tensor, active: ActiveModel, call: MotionCall, options: dict) -> Tensor:
    settings = active.settings

    def value(number: float, values: frame_values.FrameValues | None) -> float | Tensor:
        if values is None:
            return number
        values = frame_values.resize(frame_values.take_frames(values, active.window), *x.shape[-2:])
        return (values * number).to(x).expand(call.num_frames, -1, -1)

    return module(
        x,
        call.encoding(module.channels, x),
        motion_scale=value(settings.motion_scale, settings.motion_scale_values),
        strength=value(settings.strength, settings.strength_values),
        transformer_options=options,
        block_tokens=CPU_BLOCK_TOKENS if x.device.type == "cpu" else None,
    )


# --- around the UNet ------------------------------------------------------------------------------------------------


def _outer_sample(executor, noise, *args, **kwargs):
    """Say once a run what is wrong with the number of frames, before anything is loaded."""
    guider = executor.class_obj
    clips = guider.model_options["transformer_options"].get(CLIPS_KEY, 1)
    total_frames = noise.shape[0] // clips
    applied = _applied(guider.model_patcher)
    if total_frames == 1:
        logger.warning("Animating 1 frame: it will not move. 16 frames are what motion models were trained on.")
    if guider.model_options.get("context_handler") is None:
        for patcher, _ in applied:
            _check_num_frames(patcher, total_frames)
    for _, settings in applied:
        frame_values.check_frame_count(settings.motion_scale_values, total_frames, "motion_scale_values")
        frame_values.check_frame_count(settings.strength_values, total_frames, "strength_values")
    return executor(noise, *args, **kwargs)


def _apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    base = executor.class_obj
    options = dict(transformer_options or {})
    options[KEY] = _plan_call(base, x, options)
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _plan_call(base, x: Tensor, options: dict[str, Any]) -> MotionCall | None:
    """Find out what the motion models have to do in this call of the UNet."""
    num_frames = count_frames(x, options)
    window = window_frames(options, num_frames)
    active, over_frames = [], False
    # The patcher in force, not one closed over: on a second GPU, or without DynamicVRAM, it is another clone.
    for patcher, settings in _applied(base.current_patcher):
        if settings.strength == 0.0:
            continue
        if not is_in_range(settings.start_percent, settings.end_percent, base.model_sampling, options):
            continue
        _check_num_frames(patcher, num_frames)
        modules = take_seats(base.diffusion_model, patcher.model)
        active.append(ActiveModel(modules, settings, window))
        over_frames |= patcher.model.config.family.norm_over_frames
    return MotionCall(active, num_frames, over_frames and num_frames > 1) if active else None


def _check_num_frames(patcher: ModelPatcher, num_frames: int) -> None:
    most = patcher.model.config.max_frames
    if num_frames > most:
        raise IncompatibleMotionModel(
            f"{num_frames} frames are too many for motion model '{file_name(patcher)}', which has positions for "
            f"{most}. Make {most} frames or fewer, or put ComfyUI's Context Windows (Manual) node behind Apply Motion "
            "Model, with context_length 16, dim 0 and causal_window_fix off."
        )


def _diffusion_model(executor, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
    call = (transformer_options or {}).get(KEY)
    if call is None or not call.norm_over_frames:
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
    with norms_over_frames(executor.class_obj, call.num_frames):
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
