"""What a file is, if it is no motion model that Loom loads: told by its keys, so that errors can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Keys = Mapping[str, Tensor]


def _any_has(*parts: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(part in key for key in tensors for part in parts)


def _any_starts(*starts: str) -> Callable[[Keys], bool]:
    return lambda tensors: any(key.startswith(starts) for key in tensors)


def _all_have(*parts: str) -> Callable[[Keys], bool]:
    return lambda tensors: all(any(part in key for key in tensors) for part in parts)


_is_lora = _any_has("lora_up", "lora_down", "lora_A", "lora_B", "_lora.up", "_lora.down", "hada_w1", "lokr_w1", "oft_blocks")
_is_temporal = _any_has("temporal_transformer", "motion_modules", "temporal_attentions")
_is_controlnet = _any_has(
    "controlnet_down_blocks", "controlnet_cond_embedding", "control_model.", "input_hint_block", "zero_convs"
)

# Most telling first: a checkpoint holds a VAE and a text encoder too, a ControlNet a copy of the UNet's keys.
_OTHER_FILES: tuple[tuple[Callable[[Keys], bool], str], ...] = (
    (lambda t: _is_lora(t) and _is_temporal(t), "it is a motion LoRA. It belongs in models/animatediff_motion_lora."),
    (_is_lora, "it is a LoRA. It belongs in models/loras; connect it with Load LoRA to the MODEL."),
    (_is_controlnet, "it is a ControlNet. It belongs in models/controlnet; load it with Load ControlNet Model."),
    (_any_starts("model.diffusion_model."),
     "it is a whole checkpoint. It belongs in models/checkpoints; load it with Load Checkpoint."),
    (_any_has("ip_adapter.", "image_proj."), "it is an IP-Adapter. It belongs in models/ipadapter."),
    (_any_starts("input_blocks.", "double_blocks.", "joint_blocks.", "down_blocks.0.resnets", "conv_in.", "transformer_blocks.0."),
     "it is a diffusion model without motion modules. It belongs in models/diffusion_models."),
    (lambda t: _any_starts("first_stage_model.")(t) or _all_have("encoder.", "decoder.")(t)
     or _any_starts("taesd_", "decoder.", "encoder.down")(t),
     "it is a VAE. It belongs in models/vae; load it with Load VAE."),
    (_any_has("text_model.", "encoder.block.", "resblocks.", "token_embedding"),
     "it is a text or image encoder. It belongs in models/text_encoders or models/clip_vision."),
    (_any_has("string_to_param", "emb_params", "clip_l", "clip_g"),
     "it is a textual inversion. It belongs in models/embeddings."),
)


def describe_other_file(tensors: Keys) -> str:
    """Say in a sentence or two what a file without motion modules is and where it belongs."""
    if not tensors:
        return "it holds no tensors."
    for matches, sentence in _OTHER_FILES:
        if matches(tensors):
            return sentence
    return (
        f"none of its {len(tensors):,} keys contains 'motion_modules' (the first is '{next(iter(tensors))}'). "
        "Motion models belong in models/animatediff_models."
    )


def has_motion_modules_of_another_kind(tensors: Keys) -> bool:
    """Whether motion-module keys belong to a motion LoRA or a SparseCtrl rather than to a motion model."""
    return _is_lora(tensors) or _is_controlnet(tensors)


def name_unsupported_family(tensors: Keys) -> str | None:
    """Name the family of a motion model that Loom does not load yet, or return None. Most specific first."""
    if not _is_temporal(tensors) or has_motion_modules_of_another_kind(tensors):
        return None
    conv_in = tensors.get("conv_in.weight")
    has_positions = _any_has("pos_encoder.pe", "pos_encoder.positional_encoding")(tensors)
    checks: tuple[tuple[bool, str], ...] = (
        (_any_has("temporal_attentions", "pos_encoder.positional_encoding")(tensors), "HotshotXL"),
        (_any_has("FancyVideo", "fps_embedding")(tensors), "FancyVideo"),
        (_any_has("pos_embed.pe", "motion_modules.0.transformer_blocks")(tensors), "Diffusers MotionAdapter (or HelloMeme)"),
        (_any_has("qkv_merge")(tensors), "CameraCtrl"),
        (_any_has("cc_projection")(tensors), "MotionCtrl"),
        (_any_starts("img_encoder.")(tensors), "AnimateLCM-I2V"),
        (conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] == 9, "PIA"),
        (_is_sdxl(tensors), "AnimateDiff-SDXL"),
        (not has_positions, "AnimateLCM"),
    )
    return next((name for holds, name in checks if holds), None)


def _is_sdxl(tensors: Keys) -> bool:
    """SDXL's UNet has three levels, the innermost 1280 wide."""
    widths = {
        key.split("down_blocks.")[1].split(".")[0]: tensor.shape[0]
        for key, tensor in tensors.items()
        if "down_blocks." in key and key.endswith("temporal_transformer.proj_in.weight")
    }
    return widths == {"0": 320, "1": 640, "2": 1280}
