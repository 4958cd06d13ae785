"""What a file in ComfyUI's model folders is, if it is no motion model that Loom loads: told by its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Keys = Mapping[str, Tensor]


def _any_has(*parts: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(part in key for key in tensors for part in parts)


def _any_starts(*starts: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(key.startswith(starts) for key in tensors)


def _any_ends(end: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(key.endswith(end) for key in tensors)


def _conv_in_channels(count: int) -> Callable[[Keys], bool]:
    def matches(tensors: Keys) -> bool:
        conv_in = tensors.get("conv_in.weight", tensors.get("module.conv_in.weight"))
        return conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] == count

    return matches


is_lora = _any_has(
    *("lora_up", "lora_down", "lora_A", "lora_B", "lora.up", "lora.down", "lora_linear_layer."),
    *("hada_w1", "lokr_w1", "oft_blocks", "oft_diag"),
)
_MOTION_PARTS = ("temporal_transformer", "motion_modules", "temporal_attentions")
_is_temporal = _any_has(*_MOTION_PARTS)
_is_controlnet = _any_has(
    *("controlnet_down_blocks", "controlnet_cond_embedding", "controlnet_blocks", "controlnet_x_embedder"),
    *("control_model.", "input_hint_block", "zero_convs", "lora_controlnet"),
)
is_camera_control = _any_has("qkv_merge", "encoder_down_conv_blocks")
"""Whether a file is a CameraCtrl, whole or not."""
_is_checkpoint = _any_starts("model.diffusion_model.")
_has_vae_or_clip = _any_starts("first_stage_model.", "vae.", "cond_stage_model.", "conditioner.", "text_encoders.")


def _is_vae(tensors: Keys) -> bool:
    starts = _any_starts("first_stage_model.", "taesd_", "decoder.", "encoder.down", "vae.")
    return starts(tensors) or (_any_has("encoder.")(tensors) and _any_has("decoder.")(tensors))


def is_motion_key(key: str) -> bool:
    """Whether a key, in any layout, names a part of a motion module."""
    return any(part in key for part in _MOTION_PARTS)


def is_motion_lora(tensors: Keys) -> bool:
    """Whether the file is a LoRA with a part for motion modules, whatever else it is for."""
    return is_lora(tensors) and _is_temporal(tensors)


def is_sparse_control(tensors: Keys) -> bool:
    """Whether the file is a ControlNet with motion modules."""
    return _is_controlnet(tensors) and _is_temporal(tensors) and not is_lora(tensors)


@dataclass(frozen=True)
class FileKind:
    """A kind of file in ComfyUI's model folders."""

    title: str  # with an article
    matches: Callable[[Keys], bool]
    folder: str = ""  # where it belongs
    usage: str = ""
    problem: str = ""  # why Loom can do nothing with it


_NOT_YET = "not supported yet. Use one from the table in the README."

# All that have motion modules and are no motion model that Loom loads, most telling first.
_WITH_MOTION_MODULES = (
    FileKind("a motion LoRA", is_lora, "models/animatediff_motion_lora", "load it with Load Motion LoRA"),
    FileKind("a SparseCtrl for RGB images", lambda t: _is_controlnet(t) and _any_ends("controlnet_cond_embedding.weight")(t),
             "models/controlnet", "load it with Load SparseCtrl"),
    FileKind("a SparseCtrl for scribbles", _is_controlnet, "models/controlnet", "load it with Load SparseCtrl"),
    FileKind("a FancyVideo motion model", _any_has("FancyVideo", "fps_embedding"), problem=_NOT_YET),
    FileKind("a CameraCtrl", is_camera_control, "models/animatediff_models", "load it with Load CameraCtrl"),
    FileKind("a MotionCtrl motion model", _any_has("cc_projection"), problem=_NOT_YET),
)

# Most telling first: a checkpoint holds a VAE and a text encoder too, a ControlNet a copy of the UNet's keys.
_WITHOUT_MOTION_MODULES = (
    FileKind("a domain adapter", _any_has(".attn1.processor.to_q_lora."),
             "models/loras", "connect it with Load Domain Adapter to the MODEL"),
    FileKind("a LoRA", is_lora, "models/loras", "connect it with Load LoRA to the MODEL"),
    FileKind("a ControlNet", _is_controlnet, "models/controlnet", "load it with Load ControlNet Model"),
    FileKind("a MotionCtrl object-motion adapter", _conv_in_channels(128), problem=_NOT_YET),
    FileKind("a whole checkpoint", lambda t: _is_checkpoint(t) and _has_vae_or_clip(t),
             "models/checkpoints", "load it with Load Checkpoint"),
    FileKind("an IP-Adapter", _any_has("ip_adapter.", "image_proj."), "models/ipadapter"),
    FileKind("an upscaler", _any_starts("conv_first.", "model.0.weight", "params_ema.", "upsampler."),
             "models/upscale_models", "load it with Load Upscale Model"),
    FileKind("a T2I-Adapter", _any_starts("body.0.", "adapter.body.", "adapter.channel_in"),
             "models/controlnet", "load it with Load ControlNet Model"),
    FileKind("a diffusion model without motion modules",
             _any_starts("model.diffusion_model.", "diffusion_model.", "input_blocks.", "double_blocks.",
                         "joint_blocks.", "down_blocks.0.resnets", "conv_in.", "transformer_blocks.0.", "blocks.0.",
                         "x_embedder.", "net.blocks."),
             "models/diffusion_models", "load it with Load Diffusion Model"),
    FileKind("an image encoder", _any_starts("vision_model.", "visual."),
             "models/clip_vision", "load it with Load CLIP Vision"),
    FileKind("a text encoder", _any_has("text_model.", "encoder.block.", "resblocks.", "token_embedding",
                                        "embed_tokens", "shared.weight"),
             "models/text_encoders", "load it with Load CLIP"),
    FileKind("a VAE", _is_vae, "models/vae", "load it with Load VAE"),
    FileKind("a textual inversion", _any_has("string_to_param", "emb_params", "clip_l", "clip_g"),
             "models/embeddings", "write embedding:name into a prompt"),
)  # fmt: skip


def kind_with_motion_modules(tensors: Keys) -> FileKind | None:
    """The kind of a file that has motion modules, but is no motion model that Loom loads; None for all others."""
    kinds = _WITH_MOTION_MODULES if _is_temporal(tensors) else ()
    return next((kind for kind in kinds if kind.matches(tensors)), None)


def kind_without_motion_modules(tensors: Keys) -> FileKind | None:
    """The kind of a file without motion modules, or None if Loom does not know it."""
    return next((kind for kind in _WITHOUT_MOTION_MODULES if kind.matches(tensors)), None)
