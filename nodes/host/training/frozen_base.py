"""Training inside ComfyUI: its UNet as the frozen base, with a motion model's gradients going through it."""

from __future__ import annotations

import copy
import functools
from contextlib import nullcontext
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_sampling
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ....motion_models.attention_inputs import AttentionInputs
from ....motion_models.config import Family, MotionModelConfig
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput
from ....motion_models.motion_model import MotionModel, MotionModule
from ....motion_models.training.settings import EPS, V
from ....motion_models.training.training_state import hash_of
from ..motion.injection import ModelInCall, MotionCall, MotionStep, set_hooks
from ..motion.norms import GroupNorms, NormsOverFrames
from ..motion.unet import base_model_name, check_compatible, followed_layers, modules_by_layer
from ..types import KEY

_COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_SCORES = 2**27  # a quarter of a gigabyte in bfloat16


class FrozenBase:
    """A MODEL's UNet with motion modules after its layers: the trainer's ``predict``.

    The UNet runs as it does in sampling, through the handlers and wrappers that Apply Motion Model sets, with the
    MODEL's LoRAs in its weights. Its weights have no gradients and never change; its arithmetic is of ``dtype``, ``fp32``,
    ``bf16`` or ``fp16``. The trainer brings the motion model to the base's device.

    Raises:
        IncompatibleMotionModel: the two don't go together.
        InvalidInput: MODEL is animated already, or is no model to train with.
    """

    def __init__(
        self, model: ModelPatcher, motion_model: MotionModel, num_frames: int, dtype: str = "fp32",
        gradient_checkpointing: bool = False,
    ):  # fmt: skip
        check_start(model, motion_model.config)
        self._num_frames = num_frames
        self._dtype = _COMPUTE_DTYPES[dtype]
        base = trainable_copy(model)
        if base.model.get_dtype_inference() != self._dtype:
            base.set_model_compute_dtype(self._dtype)
        if gradient_checkpointing:
            _set_checkpointing_handlers(base)
        set_hooks(base)
        # In full: a weight that is brought in for one layer at a time could be gone when its gradient needs it.
        comfy.model_management.load_models_gpu([base], memory_required=1e20, force_full_load=True)
        base.model.requires_grad_(False)
        self._patcher = base
        self._encode_adm = base.model.encode_adm
        self._unet: UNetModel = base.model.diffusion_model
        self.device: torch.device = base.load_device
        modules: dict = modules_by_layer(self._unet, motion_model)
        if gradient_checkpointing:
            modules = {layer: _CheckpointedModule(module) for layer, module in modules.items()}
        self._after = {layer: [MotionStep(module, ModelInCall())] for layer, module in modules.items()}
        scope = GroupNorms.AS_TRAINED.scope(motion_model.config)
        self._norms = NormsOverFrames(num_frames, scope) if scope and num_frames > 1 else None
        self._options = _transformer_options(base)

    @property
    def hash(self) -> str:
        """Tells this base from others, LoRAs included."""
        return hash_of(self._unet.named_parameters())

    def __call__(self, noisy: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Predict as ``trainer.Predict`` says."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        options = dict(self._options)
        options[KEY] = MotionCall(self._num_frames, self._after, self._norms)
        options["cond_or_uncond"] = [0]
        return self._unet(
            noisy.to(self._dtype), timesteps.float(), context=context.to(self._dtype), y=self._conditions(noisy, pooled),
            transformer_options=options,
        )  # fmt: skip

    def _conditions(self, noisy: Tensor, pooled: Tensor | None) -> Tensor | None:
        """What SDXL is told besides the text: its pooled embedding and sizes, as sampling does for a picture as large as a clip."""
        if self._unet.num_classes is None:
            return None
        height, width = (size * 8 for size in noisy.shape[-2:])
        y = self._encode_adm(pooled_output=pooled, width=width, height=height, device=noisy.device)
        return y.to(noisy.device, self._dtype)


def check_start(model: ModelPatcher, start: Family | MotionModelConfig) -> None:
    """Check a MODEL, and the motion model to train with it, as far as that is possible before clips are encoded.

    Raises InvalidInput if the model cannot be trained on, IncompatibleMotionModel if the two don't go together.
    """
    check_base(model)
    prediction_of(model)
    family = start if isinstance(start, Family) else start.family
    if family.takes_image:
        raise IncompatibleMotionModel(
            f"Loom does not train {family.title} motion models: they animate an image, which training clips do not give them. "
            "Connect another one, or train a new one of the family v3."
        )
    if isinstance(start, Family):
        config_for(model, start, 1)
    else:
        check_compatible(model, start, "the motion model")


def check_base(model: ModelPatcher) -> None:
    """Raise InvalidInput if a MODEL is animated already, or is not an SD1.5 or SDXL model from text to pictures."""
    if model.get_additional_models_with_key(KEY):
        raise InvalidInput(
            "The model is already animated. Connect the model from before Apply Motion Model; to continue training a motion "
            "model, connect it to motion_model."
        )
    base = base_model_name(model)
    if base not in ("SD1.5", "SDXL"):
        raise InvalidInput(f"The connected model is {base}, but motion models are trained on SD1.5 or SDXL. Load such a checkpoint.")
    channels, expected = model.get_model_object("diffusion_model").in_channels, model.model.latent_format.latent_channels
    if channels != expected:
        raise InvalidInput(
            f"The connected model is made for inpainting or editing: its UNet takes {channels} channels, a clip's latents have "
            f"{expected}. Load an ordinary {base} checkpoint."
        )


def prediction_of(model: ModelPatcher) -> tuple[str, bool]:
    """What a MODEL's UNet predicts, ``eps`` or ``v`` (else InvalidInput), and whether its noise ends without signal."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        zero_terminal_snr = bool(getattr(sampling, "zsnr", False))
        if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
            return V, zero_terminal_snr
        if isinstance(sampling, comfy.model_sampling.EPS) and not isinstance(sampling, comfy.model_sampling.X0):
            return EPS, zero_terminal_snr
    raise InvalidInput(
        f"Motion models cannot be trained with the way the connected model samples ({type(sampling).__name__}). "
        "Connect an ordinary model, which predicts noise (EPS) or velocity (V), without a node that "
        "changes its sampling."
    )


def config_for(model: ModelPatcher, family: Family, num_frames: int) -> MotionModelConfig:
    """The shape of a new motion model for a MODEL's UNet; on SDXL there is one family, whichever is given.

    Raises IncompatibleMotionModel if the family does not fit the UNet or the number of frames.
    """
    check_base(model)
    unet: UNetModel = model.get_model_object("diffusion_model")
    if base_model_name(model) == "SDXL":
        family = Family.SDXL
    max_frames = 24 if family is Family.V1 else max(32, num_frames)
    if num_frames > max_frames:
        raise IncompatibleMotionModel(
            f"Clips of {num_frames} frames are too long for {family.title}, which has positions for {max_frames}. "
            "Choose another family, or shorter clips."
        )
    has_mid_block = family is Family.V2
    if has_mid_block and not followed_layers(unet)["mid"]:
        raise IncompatibleMotionModel(
            f"{family.title} has a motion module in the UNet's mid block, which this model doesn't have. Choose another family."
        )
    block_channels = tuple(unet.model_channels * factor for factor in unet.channel_mult)
    config = MotionModelConfig(
        family, block_channels, layers_per_block=unet.num_res_blocks[0], has_mid_block=has_mid_block, max_frames=max_frames,
        trained_frames=num_frames,
    )  # fmt: skip
    check_compatible(model, config, "a new motion model")
    return config


def trainable_copy(model: ModelPatcher) -> ModelPatcher:
    """A clone of MODEL through which gradients can go.

    Nodes run in PyTorch's inference mode, and what is made there has no place in a gradient. So a model that was loaded
    by a node is loaded once more, or copied where its loader does not say how. One from outside is cloned as usual.
    """
    is_fit = not model.is_dynamic() and not any(tensor.is_inference() for tensor in model.model.state_dict().values())
    if is_fit:
        return model.clone()
    if model.cached_patcher_init is not None:
        return model.clone(disable_dynamic=True, force_deepcopy=True)
    if model.is_dynamic():
        raise InvalidInput(
            "The connected model cannot be loaded again, which training with DynamicVRAM needs. Load it with "
            "ComfyUI's Load Checkpoint node, or start ComfyUI with --disable-dynamic-vram."
        )
    # Its weights as they are without LoRAs, which the clone brings along.
    comfy.model_management.unload_model_and_clones(model)
    # ComfyUI's configurations answer to every name, also to those that copying asks for; they hold no tensors.
    shared = {id(model.model.model_config): model.model.model_config}
    copied = type(model)(copy.deepcopy(model.model, shared), model.load_device, model.offload_device)
    return model.clone(model_override=copied.get_clone_model_override())


def _transformer_options(model: ModelPatcher) -> dict[str, Any]:
    """What ComfyUI's sampling would pass to the UNet, with an attention that has a gradient."""
    options = dict(model.model_options["transformer_options"])
    options["wrappers"] = comfy.patcher_extension.copy_nested_dicts(options.get("wrappers", {}))
    comfy.patcher_extension.merge_nested_dicts(options["wrappers"], model.wrappers, copy_dict1=False)
    options["optimized_attention_override"] = _attention_with_gradient
    return options


def _attention_with_gradient(_attention, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
    # What ComfyUI picks for inference, say SageAttention, may have no gradient. PyTorch's own has one, which on a CPU is
    # several times slower than writing the scores out, for as long as they fit.
    scores = q.shape[0] * heads * q.shape[-2] * k.shape[-2]
    if q.device.type == "cpu" and scores <= _MOST_SCORES:
        return comfy.ldm.modules.attention.attention_basic(q, k, v, heads, *args, **kwargs)
    return comfy.ldm.modules.attention.attention_pytorch(q, k, v, heads, *args, **kwargs)


# --- gradient checkpointing -------------------------------------------------------------------------------------------


class _CheckpointedModule:
    """A motion module that computes anew on the way back what it did not keep."""

    def __init__(self, module: MotionModule):
        self.place = module.place
        self.channels = module.channels
        self._module = module

    def __call__(self, hidden_states: Tensor, inputs: AttentionInputs, **kwargs: Any) -> Tensor:
        return checkpoint(self._module, hidden_states, inputs, use_reentrant=False, preserve_rng_state=False, **kwargs)


def _set_checkpointing_handlers(model: ModelPatcher) -> None:
    """Put a handler before all others; Loom's, which comes before it, calls it for the UNet's own layer."""
    patches = model.model_options["transformer_options"].get("patches", {}).get("forward_timestep_embed_patch", [])
    others = list(patches)
    handler = functools.partial(_run_layer_checkpointed, others)
    patches.clear()
    for patch in [(SpatialTransformer, handler), (ResBlock, handler), *others]:
        model.set_model_forward_timestep_embed_patch(patch)


def _run_layer_checkpointed(others, layer, x, emb, context, transformer_options, *rest) -> Tensor:
    # Layers count in the options: there for all to see, on the way back in a copy of what was.
    before, live = dict(transformer_options), [transformer_options]

    def run(x: Tensor) -> Tensor:
        options = live.pop() if live else dict(before)
        for kind, handler in others:
            if isinstance(layer, kind):
                return handler(layer, x, emb, context, options, *rest)
        if isinstance(layer, SpatialTransformer):
            x = layer(x, context, options)
            options["transformer_index"] += 1
            return x
        return layer(x, emb)

    def contexts():
        call: MotionCall = before[KEY]
        on_the_way_back = call.norms if call.norms is not None and call.norms.reaches(layer) else nullcontext()
        return nullcontext(), on_the_way_back

    if not x.requires_grad:
        return run(x)
    return checkpoint(run, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
