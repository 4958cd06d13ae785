"""What a file is, if it is no motion model that Loom loads: told by its keys, so that errors can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Keys = Mapping[str, Tensor]


def _any_has(*parts: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(part in key for key in tensors for part in parts)


def _any_starts(*starts: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(key.startswith(starts) for key in tensors)


def _all_have(*parts: str) -> Callable[[Keys], bool]:
    return lambda tensors: all(any(part in key for key in tensors) for part in parts)


is_lora = _any_has("lora_up", "lora_down", "lora_A", "lora_B", "lora.up", "lora.down", "hada_w1", "lokr_w1", "oft_blocks")
_MOTION_PARTS = ("temporal_transformer", "motion_modules", "temporal_attentions")
_is_temporal = _any_has(*_MOTION_PARTS)
_is_controlnet = _any_has(
    "controlnet_down_blocks", "controlnet_cond_embedding", "control_model.", "input_hint_block", "zero_convs"
)


def is_motion_lora(tensors: Keys) -> bool:
    """Whether the file is a LoRA with a part for motion modules, whatever else it is for."""
    return is_lora(tensors) and _is_temporal(tensors)


@dataclass(frozen=True)
class FileKind:
    """A kind of file in ComfyUI's model folders.

    Attributes:
        title: what it is, in a few words, with an article.
        folder: where it belongs.
        usage: what to do with it; may be empty.
        matches: whether tensors are of this kind.
    """

    title: str
    folder: str
    usage: str
    matches: Callable[[Keys], bool]


# Most telling first: a checkpoint holds a VAE and a text encoder too, a ControlNet a copy of the UNet's keys.
_OTHER_KINDS = (
    FileKind("a motion LoRA", "models/animatediff_motion_lora", "load it with Load Motion LoRA", is_motion_lora),
    FileKind(
        "a domain adapter", "models/loras", "connect it with Load Domain Adapter to the MODEL",
        _any_has(".attn1.processor.to_q_lora."),
    ),
    FileKind("a LoRA", "models/loras", "connect it with Load LoRA to the MODEL", is_lora),
    FileKind("a ControlNet", "models/controlnet", "load it with Load ControlNet Model", _is_controlnet),
    FileKind("a whole checkpoint", "models/checkpoints", "load it with Load Checkpoint", _any_starts("model.diffusion_model.")),
    FileKind("an IP-Adapter", "models/ipadapter", "", _any_has("ip_adapter.", "image_proj.")),
    FileKind(
        "a diffusion model without motion modules", "models/diffusion_models", "",
        _any_starts("input_blocks.", "double_blocks.", "joint_blocks.", "down_blocks.0.resnets", "conv_in.", "transformer_blocks.0."),
    ),
    FileKind(
        "a VAE", "models/vae", "load it with Load VAE",
        lambda t: _any_starts("first_stage_model.")(t) or _all_have("encoder.", "decoder.")(t)
        or _any_starts("taesd_", "decoder.", "encoder.down")(t),
    ),
    FileKind(
        "a text or image encoder", "models/text_encoders or models/clip_vision", "",
        _any_has("text_model.", "encoder.block.", "resblocks.", "token_embedding"),
    ),
    FileKind(
        "a textual inversion", "models/embeddings", "", _any_has("string_to_param", "emb_params", "clip_l", "clip_g"),
    ),
)  # fmt: skip


def other_kind(tensors: Keys) -> FileKind | None:
    """The kind of a file that holds no motion model, or None if Loom does not know it."""
    return next((kind for kind in _OTHER_KINDS if kind.matches(tensors)), None)


def describe_other_file(tensors: Keys) -> str:
    """Say in a sentence or two what a file without motion modules is and where it belongs."""
    if not tensors:
        return "it holds no tensors."
    kind = other_kind(tensors)
    if kind is not None:
        return f"it is {kind.title}. It belongs in {kind.folder}{f'; {kind.usage}' if kind.usage else ''}."
    return (
        f"none of its {len(tensors):,} keys contains 'motion_modules' (the first is '{next(iter(tensors))}'). "
        "Motion models belong in models/animatediff_models."
    )


def is_motion_key(key: str) -> bool:
    """Whether a key, in any layout, names a part of a motion module."""
    return any(part in key for part in _MOTION_PARTS)


def has_motion_modules_of_another_kind(tensors: Keys) -> bool:
    """Whether motion-module keys belong to a motion LoRA or a SparseCtrl rather than to a motion model."""
    return is_lora(tensors) or _is_controlnet(tensors)


def name_unsupported_family(tensors: Keys) -> str | None:
    """Name the family of a motion model that Loom does not load yet, or return None. Most specific first."""
    if not _is_temporal(tensors) or has_motion_modules_of_another_kind(tensors):
        return None
    conv_in = tensors.get("conv_in.weight")
    checks: tuple[tuple[bool, str], ...] = (
        (_any_has("FancyVideo", "fps_embedding")(tensors), "FancyVideo"),
        (_any_has("qkv_merge")(tensors), "CameraCtrl"),
        (_any_has("cc_projection")(tensors), "MotionCtrl"),
        (_any_starts("img_encoder.")(tensors), "AnimateLCM-I2V"),
        (conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] == 9, "PIA"),
    )
    return next((name for holds, name in checks if holds), None)
