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

from ....animation.retime import Retime
from ....motion_models.layers import sinusoidal_positions
from ....motion_models.low_rank import SideBranches
from ....motion_models.motion_model import MotionModule
from ....motion_models.views import Views
from ..files.loading import file_name
from ..files.lora_files import check_frame_count, side_branches
from ..runs.run_plan import warnings_of_run
from ..types import CLIPS_KEY, KEY, WARNED_KEY, logger
from .context_windows import estimate_memory_of_a_window, frames_at_a_time, set_automatic_windows
from .norms import norms_over_frames
from .retiming import check_positions, retime_of
from .steered import MotionSettings, Steered, applied_motion_models
from .unet import check_compatible, take_seats
from .unet_call import UNetCall
from .view_windows import frames_in_view, views_of

CPU_BLOCK_TOKENS = 2048
"""Tokens that a motion module works on at a time on a CPU, see ``benchmarks/motion_overhead.py``."""


@dataclass
class ActiveModel:
    """A motion model at work in one call: the motion module behind each layer, how it is applied, LoRAs beside its weights."""

    modules: dict[torch.nn.Module, MotionModule]
    motion_scale: Steered = field(default_factory=Steered)
    strength: Steered = field(default_factory=Steered)
    retime: Retime = field(default_factory=Retime)
    side_branches: list[tuple[dict[torch.nn.Module, torch.nn.Module], Steered]] = field(default_factory=list)


@dataclass
class MotionCall:
    """What one call of the UNet needs to know; lives in that call's ``transformer_options``."""

    active: list[ActiveModel]
    num_frames: int
    norm_over_frames: bool
    views: Views | None = None
    window: list[int] | None = None
    total_frames: int | None = None
    encodings: dict[tuple, Tensor] = field(default_factory=dict)

    def encoding(self, retime: Retime, channels: int, like: Tensor) -> Tensor:
        """Position encodings ``f c`` of the call's or a view's frames, made once a call for each width."""
        key = (retime, channels, like.dtype, like.device)
        if key not in self.encodings:
            self.encodings[key] = sinusoidal_positions(self._positions(retime).to(like.device), channels).to(like.dtype)
        return self.encodings[key]

    def _positions(self, retime: Retime) -> Tensor:
        if self.views is not None and not retime.across_windows:
            return retime.positions(len(self.views.windows[0].frames))
        return retime.positions_in_window(self.window or range(self.num_frames), self.total_frames or self.num_frames)


def apply_motion_model(model: ModelPatcher, motion_patcher: ModelPatcher, settings: MotionSettings) -> ModelPatcher:
    """Return a clone of MODEL that is animated by a motion model.

    Several motion models run in the order they were applied, each on the output of the one before. Applying one that
    is there already replaces its settings, in its place.

    Raises:
        IncompatibleMotionModel: see ``check_compatible``.
    """
    check_compatible(model, motion_patcher.model.config, file_name(motion_patcher))
    model = model.clone()
    entries = applied_motion_models(model)
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
    estimate_memory_of_a_window(model)


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
    strength = active.strength.at(module.place, x, call.num_frames)
    if isinstance(strength, float) and strength == 0.0:
        return x
    return module(
        x,
        call.encoding(active.retime, module.channels, x),
        motion_scale=active.motion_scale.at(module.place, x, call.num_frames),
        strength=strength,
        side_branches=[
            SideBranches(branches, steered.at(module.place, x, call.num_frames)) for branches, steered in active.side_branches
        ],
        transformer_options=options,
        block_tokens=CPU_BLOCK_TOKENS if x.device.type == "cpu" else None,
        views=call.views,
    )


# --- around the UNet ------------------------------------------------------------------------------------------------


def _outer_sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """Say once a run what is wrong or likely to go wrong, before anything is loaded."""
    guider = executor.class_obj
    options = guider.model_options["transformer_options"]
    total_frames = noise.shape[0] // options.get(CLIPS_KEY, 1)
    applied = applied_motion_models(guider.model_patcher)
    set_automatic_windows(guider.model_patcher, guider.model_options, total_frames)
    seen = frames_at_a_time(guider.model_patcher, guider.model_options, total_frames)
    for patcher, _ in applied:
        check_positions(patcher, seen, total_frames)
    for patcher, settings in applied:
        settings.check_frame_count(total_frames)
        check_frame_count(patcher, total_frames)
    if not options.get(WARNED_KEY):
        for warning in warnings_of_run(guider, noise[:total_frames], sampler, sigmas):
            logger.warning(warning)
        options[WARNED_KEY] = True  # the run's own copy: FreeInit may repeat the run from here
    return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)


def _apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    base = executor.class_obj
    options = dict(transformer_options or {})
    options[KEY] = _plan_call(base, x, options)
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _plan_call(base, x: Tensor, options: dict[str, Any]) -> MotionCall | None:
    """Find out what the motion models have to do in this call of the UNet."""
    call = UNetCall.of(x, options)
    active, over_frames = [], False
    # The patcher in force, not one closed over: on a second GPU, or without DynamicVRAM, it is another clone.
    for patcher, settings in applied_motion_models(base.current_patcher):
        if not call.is_in_range(settings.start_percent, settings.end_percent, base.model_sampling):
            continue
        strength = settings.strength.in_call(call)
        if strength.number == 0.0:
            continue
        check_positions(patcher, frames_in_view(base.current_patcher, call.num_frames), call.total_frames)
        modules = take_seats(base.diffusion_model, patcher.model)
        active.append(
            ActiveModel(
                modules, settings.motion_scale.in_call(call), strength, retime_of(patcher), side_branches(patcher, call)
            )
        )
        over_frames |= patcher.model.config.family.norm_over_frames
    if not active:
        return None
    views = views_of(base.current_patcher, x, call.num_frames)
    return MotionCall(
        active, call.num_frames, over_frames and call.num_frames > 1, views, call.window, call.total_frames
    )


def _diffusion_model(executor, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
    call = (transformer_options or {}).get(KEY)
    if call is None or not call.norm_over_frames:
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
    with norms_over_frames(executor.class_obj, call.num_frames):
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
