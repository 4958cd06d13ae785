"""Running motion modules after a UNet's layers without touching the UNet.

A MODEL clone gets wrappers. At every call of the UNet, one finds the motion models in force and passes their steps down in a copy
of ``transformer_options``; another adds a handler there, which runs the UNet's own layers and whatever steps follow them. Nothing is
kept between calls.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ....animation.retime import Retime
from ....motion_models.attention_inputs import AttentionInputs
from ....motion_models.attention_shaping import AttentionShaping
from ....motion_models.companions.low_rank import LoraBranches
from ....motion_models.layers import sinusoidal_positions
from ....motion_models.motion_model import MotionModule
from ....motion_models.temporal_transformer import add_residual
from ....motion_models.views import Views
from ..types import BOXES_KEY, CAMERAS_KEY, COMPILED_KEY, IMAGES_KEY, KEY, PICTURE_KEY, REFERENCES_KEY, WITHOUT_KEY
from .attention_shapes import shaping_in_call
from .box_attention import BoxesInCall, boxes_in_call, options_with_boxes
from .cameras import CameraInCall, camera_in_call
from .compiled_tokens import CompiledTokens
from .deep_reuse import DeepReuse, in_place_of
from .frame_values import Picture
from .image_inputs import EncodedImages, image_step
from .lora_branches import branches_in_call
from .norms import GroupNorms, NormsOverFrames, Scope
from .other_packs import publish_frames
from .reference_images import EncodedReferences, ReferencesInCall, references_in_call
from .retiming import check_positions, retime_of
from .reuse import DEEP, MOTION, Turn, turns_of_call
from .steered import SteeredInCall, applied_motion_models
from .unet import modules_by_layer
from .unet_call import UNetCall
from .view_windows import frames_in_view, views_of
from .weight_scale import position_scale_of

CPU_BLOCK_TOKENS = 2048
"""Tokens that a motion module works on at a time on a CPU, see ``benchmarks/motion_overhead.py``."""

_HANDLERS = "forward_timestep_embed_patch"

_LAYER_KINDS = (SpatialTransformer, ResBlock, nn.Conv2d)
"""Kinds of the UNet's layers that steps may follow. The one convolution that is a layer of its own is input block 0."""


class Step(Protocol):
    """What runs after one of the UNet's layers."""

    def __call__(self, x: Tensor, call: MotionCall, options: dict[str, Any]) -> Tensor:
        """Map the layer's output ``x``, ``(b f) c h w``, to the same shape; ``options`` are the ``transformer_options``."""


@dataclass
class MotionCall:
    """What one call of the UNet does in addition; lives in that call's ``transformer_options``."""

    num_frames: int  # of a clip in this call
    after: dict[nn.Module, list[Step]] = field(default_factory=dict)  # steps after each of the UNet's layers, in order
    norms: NormsOverFrames | None = None  # None: each frame on its own
    views: Views | None = None
    window: list[int] | None = None  # numbers of the call's frames in the clip
    total_frames: int | None = None  # of the clip
    turns: dict[str, Turn] = field(default_factory=dict)  # of parts whose features serve several steps
    settings: Hashable = ()  # of all motion models, as far as they may change from step to step
    deep: DeepReuse | None = None
    _encodings: dict[tuple, Tensor] = field(default_factory=dict)

    def encoding(self, retime: Retime, scale: float, channels: int, like: Tensor, whole: bool = False) -> Tensor:
        """Position encodings ``f c`` of a view's frames, or of the whole call's, times ``scale``: once a call for each width."""
        key = (retime, scale, channels, like.dtype, like.device, whole)
        if key not in self._encodings:
            window = self.window or range(self.num_frames)
            if self.views is not None and not retime.across_windows and not whole:
                window = self.views.windows[0].frames
            positions = retime.positions_in_window(window, self.total_frames or self.num_frames).to(like.device)
            if retime.stretch is None:
                encoding = sinusoidal_positions(positions, channels)
            else:
                before, share = retime.stretch.between(positions)
                ends = (sinusoidal_positions(end, channels) for end in (before, before + 1))
                encoding = torch.lerp(*ends, share[:, None])
            self._encodings[key] = (encoding * scale).to(like.dtype)
        return self._encodings[key]


@dataclass(frozen=True)
class ModelInCall:
    """How one motion model is applied in one call of the UNet."""

    motion_scale: SteeredInCall = field(default_factory=SteeredInCall)
    strength: SteeredInCall = field(default_factory=SteeredInCall)
    retime: Retime = field(default_factory=Retime)
    position_scale: float = 1.0
    loras: list[tuple[dict[nn.Module, nn.Module], SteeredInCall]] = field(default_factory=list)
    shaping: AttentionShaping | None = None
    boxes: BoxesInCall | None = None
    forward_tokens: CompiledTokens | None = None  # None: the motion modules' own
    camera: CameraInCall | None = None
    image_strength: float = 0.0  # of its reference images, times what they vary with

    @property
    def depends_on(self) -> Hashable:
        """What may change from step to step and with it what motion modules give; masks are the same throughout a run."""
        camera, boxes = self.camera and self.camera.depends_on, self.boxes and self.boxes.trajectories
        loras = (strength.number for _, strength in self.loras)
        return self.motion_scale.number, self.shaping, boxes, camera, self.image_strength, *loras


@dataclass(frozen=True)
class MotionStep:
    """A ``Step`` that runs a motion module."""

    module: MotionModule
    model: ModelInCall

    def __call__(self, x: Tensor, call: MotionCall, options: dict[str, Any]) -> Tensor:
        module, model = self.module, self.model

        def value(steered: SteeredInCall) -> float | Tensor:
            return steered.at(module.place, x, call.num_frames)

        strength = value(model.strength)
        if isinstance(strength, float) and strength == 0.0:
            return x
        inputs = AttentionInputs(
            encoding=call.encoding(model.retime, model.position_scale, module.channels, x),
            motion_scale=value(model.motion_scale),
            loras=tuple(LoraBranches(branches, value(steered)) for branches, steered in model.loras),
            merges=model.camera.merges(module, x, options) if model.camera else {},
            views=call.views,
            options=options if model.boxes is None else model.boxes.options(options),
            shaping=model.shaping,
            boxes=None if model.boxes is None else model.boxes.boxes(x),
        )
        options = {
            "block_tokens": CPU_BLOCK_TOKENS if x.device.type == "cpu" else None,
            "norm_over_frames": call.norms is not None and call.norms.scope is Scope.ALL,
            "forward_tokens": model.forward_tokens,
        }
        turn = call.turns.get(MOTION)
        if turn is None:
            return module(x, inputs, strength=strength, **options)
        residual = turn.of(module, model.depends_on, x, lambda: module.residual(x, inputs, **options))
        return add_residual(x, residual, call.num_frames, strength)


def set_hooks(model: ModelPatcher) -> None:
    """Let ``model``, the caller's own clone, do what the ``MotionCall`` in a call's ``transformer_options`` says."""
    for kind, wrapper in (
        (WrappersMP.CALC_COND_BATCH, _calc_cond_batch),
        (WrappersMP.APPLY_MODEL, _apply_model),
        (WrappersMP.DIFFUSION_MODEL, _diffusion_model),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    publish_frames(model)


def with_layer_handler(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of a call's ``transformer_options`` in which Loom's handler takes the UNet's layers, as the first of all."""
    # In the call, not on the MODEL: other nodes look through a MODEL's patches, and some stop at those they do not know. In
    # every call: torch.compile takes no notice of a difference there.
    patches = options.get("patches", {})
    # The first match wins, and Loom calls the next one itself.
    handlers = [(kind, run_layer_with_motion) for kind in _LAYER_KINDS] + patches.get(_HANDLERS, [])
    return {**options, "patches": {**patches, _HANDLERS: handlers}}


# --- after the UNet's layers ------------------------------------------------------------------------------------------


# torch.compile would bake settings and layers in: core drops its guards on transformer_options.
@torch.compiler.disable
def run_layer_with_motion(layer, x, emb, context, transformer_options, *rest) -> Tensor:
    """Handler of ``forward_timestep_embed_patch``: run the layer, then the steps after it."""
    call: MotionCall | None = transformer_options.get(KEY)
    if call is not None and call.deep is not None and call.deep.leaves_out(transformer_options):
        transformer_options["transformer_index"] += isinstance(layer, SpatialTransformer)  # for those that do run
        return in_place_of(layer, x)
    norms = None if call is None else call.norms
    with nullcontext() if norms is None or norms.reaches(layer) else norms.off():
        x = _run_layer(layer, x, emb, context, transformer_options, *rest)
    with nullcontext() if norms is None else norms.off():
        for step in call.after.get(layer, ()) if call is not None else ():
            x = step(x, call, transformer_options)
    return x


def _run_layer(layer, x, emb, context, transformer_options, *rest) -> Tensor:
    for kind, handler in transformer_options["patches"][_HANDLERS]:
        if handler is not run_layer_with_motion and isinstance(layer, kind):
            return handler(layer, x, emb, context, transformer_options, *rest)
    if isinstance(layer, SpatialTransformer):
        x = layer(x, context, transformer_options)
        # The UNet counts its transformers itself only where no handler takes the layer.
        transformer_options["transformer_index"] += 1
        return x
    return layer(x, emb) if isinstance(layer, ResBlock) else layer(x)


# --- around the UNet ------------------------------------------------------------------------------------------------


def _calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """Tell the calls of a step which part of the picture each prompt is for; ComfyUI does not."""
    options = model_options["transformer_options"]
    options[PICTURE_KEY] = Picture.of(conds, x_in)
    try:
        return executor(model, conds, x_in, timestep, model_options)
    finally:
        options.pop(PICTURE_KEY, None)


def _apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    base, options = executor.class_obj, transformer_options or {}
    boxes = boxes_in_call(base.current_patcher, UNetCall.of(x, options), base.model_sampling)
    options = options_with_boxes(base.current_patcher, options, boxes)
    options = {**options, KEY: _motion_call(base, x, options)}
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _motion_call(base, x: Tensor, options: dict[str, Any]) -> MotionCall | None:
    call = UNetCall.of(x, options)
    after: dict[nn.Module, list[Step]] = {}
    scope = Scope.NONE
    settings_in_call: list[Hashable] = []
    # The patcher in force, not one closed over: on a second GPU, or without DynamicVRAM, it is another clone.
    images: EncodedImages | None = options.get(IMAGES_KEY)
    encoded: EncodedReferences | None = options.get(REFERENCES_KEY)
    for number, (patcher, settings) in enumerate(applied_motion_models(base.current_patcher)):
        is_in_range = call.is_in_range(settings.start_percent, settings.end_percent, base.model_sampling)
        references = references_in_call(patcher, call, encoded.images[number] if encoded else None, base.model_sampling)
        if not is_in_range and references is None and settings.group_norms is GroupNorms.AS_TRAINED:
            continue
        over = base.model_sampling if settings.over_schedule else None
        strength = settings.strength.in_call(call, over)
        if strength.number == 0.0:
            continue
        if is_in_range or settings.group_norms is not GroupNorms.AS_TRAINED:  # norms that were asked for are for the whole run
            scope = max(scope, settings.group_norms.scope(patcher.model.config))
        if references is not None:
            settings_in_call.append((references.network, references.strength.number))
        model = image = None
        if is_in_range:
            check_positions(patcher, frames_in_view(base.current_patcher, call.num_frames), call.total_frames)
            model = ModelInCall(
                settings.motion_scale.in_call(call, over), strength, retime_of(patcher), position_scale_of(patcher),
                branches_in_call(patcher, call), shaping_in_call(patcher, call, base.model_sampling),
                options.get(BOXES_KEY), options.get(COMPILED_KEY) if settings.compile else None,
                camera_in_call(patcher, call, base.model_sampling, options.get(CAMERAS_KEY)),
                references.strength.number if references else 0.0,
            )  # fmt: skip
            settings_in_call.append((patcher.model, strength.number, model.depends_on))
            image = image_step(patcher, call, images.latents[number] if images else None)
        for layer, step in _steps_of(patcher, base.diffusion_model, model, references, image, options):
            after.setdefault(layer, []).append(step)
    norms = NormsOverFrames(call.num_frames, scope) if scope and call.num_frames > 1 else None
    turns = turns_of_call(call, x, base)
    if not after and norms is None and DEEP not in turns:
        return None
    views = views_of(base.current_patcher, x, call.num_frames)
    return MotionCall(call.num_frames, after, norms, views, call.window, call.total_frames, turns, tuple(settings_in_call))


def _steps_of(
    patcher: ModelPatcher, unet: Any, model: ModelInCall | None, references: ReferencesInCall | None, image: Step | None,
    options: dict[str, Any],
) -> Iterator[tuple[nn.Module, Step]]:  # fmt: skip
    """A motion model's steps in order, each with the layer that it follows; None for what takes no part in a call."""
    if image is not None:
        yield unet.input_blocks[0][0], image
    if model is None and references is None:
        return
    modules = modules_by_layer(unet, patcher.model)
    last_of_level = {module.place: module for module in modules.values()}
    for layer, module in modules.items():
        if references is not None and module.place.part == "down" and module is last_of_level[module.place]:
            yield layer, references.step(module.place)
        if model is not None and module.place.part not in options.get(WITHOUT_KEY, ()):
            yield layer, MotionStep(module, model)


@torch.compiler.disable(recursive=False)  # for the same reason; the UNet itself is compiled
def _diffusion_model(executor, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
    call: MotionCall | None = (transformer_options or {}).get(KEY)
    if call is not None and DEEP in call.turns:
        deep = DeepReuse.of(executor.class_obj, call.turns[DEEP], call.settings, control, x)
        if deep is not None:
            transformer_options = {**deep.options(transformer_options), KEY: replace(call, deep=deep)}
            control = deep.control(control)
    transformer_options = with_layer_handler(transformer_options or {})
    with nullcontext() if call is None or call.norms is None else call.norms:
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
