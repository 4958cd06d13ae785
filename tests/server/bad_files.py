"""Files that people choose as a motion model by mistake, made small."""

from __future__ import annotations

import pickle
from pathlib import Path

import safetensors.torch
import torch
from pack.motion_models import checkpoint
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.recognise import expected_shapes
from torch import Tensor

from .world import Models

Weights = dict[str, Tensor]
UNET = "model.diffusion_model."


def motion_weights(models: Models) -> Weights:
    # Eight-bit floats, as they are shipped, have no place in a plain pickle.
    return {name: tensor.half() for name, tensor in safetensors.torch.load_file(models.motion_model).items()}


def checkpoint_weights(models: Models, prefix: str) -> Weights:
    """The part of the tiny checkpoint under a prefix, without the prefix."""
    with safetensors.safe_open(models.checkpoint, "pt") as file:
        return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}


def save(weights: Weights, path: Path) -> None:
    safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in weights.items()}, path)


# --- damaged ---------------------------------------------------------------------------------------------------------


def truncated(path: Path, models: Models) -> None:
    whole = models.motion_model.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def web_page(path: Path, models: Models) -> None:
    path.write_text("<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>\n")


def with_nan(path: Path, models: Models) -> None:
    weights = motion_weights(models)
    key = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
    weights[key][3, 4] = float("nan")
    save(weights, path)


class Payload:
    """Unpickling this writes a file: the harmless form of what a malicious checkpoint would do."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "the code in the file was run")


def pickle_with_code(path: Path, marker: Path, weights: Weights) -> None:
    path.write_bytes(pickle.dumps({"payload": Payload(marker), "state_dict": weights}))


def torch_file_with_code(path: Path, marker: Path, weights: Weights) -> None:
    torch.save({"payload": Payload(marker), "state_dict": weights}, path)


# --- something else --------------------------------------------------------------------------------------------------


def lora(path: Path, models: Models) -> None:
    name = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    save({f"{name}.lora_up.weight": torch.zeros(320, 4), f"{name}.lora_down.weight": torch.zeros(4, 320)}, path)


def controlnet(path: Path, models: Models) -> None:
    copied = {f"control_model.{key}": tensor for key, tensor in checkpoint_weights(models, UNET).items() if "input_blocks" in key}
    hint = {"control_model.input_hint_block.0.weight": torch.zeros(16, 3, 3, 3)}
    save({**copied, **hint, "control_model.zero_convs.0.0.weight": torch.zeros(320, 320, 1, 1)}, path)


def sd_checkpoint(path: Path, models: Models) -> None:
    path.write_bytes(models.checkpoint.read_bytes())


def vae(path: Path, models: Models) -> None:
    save({"encoder.conv_in.weight": torch.zeros(128, 3, 3, 3), "decoder.conv_out.weight": torch.zeros(3, 128, 3, 3)}, path)


# --- for another base ------------------------------------------------------------------------------------------------


def animatediff_sdxl(path: Path, models: Models) -> None:
    """A whole and valid motion model for a UNet of SDXL's three levels."""
    save_zeros(MotionModelConfig(Family.SDXL, block_channels=(32, 64, 128)), path)


def other_widths(path: Path, models: Models) -> None:
    """A whole and valid motion model, but for a UNet a fifth as wide."""
    save_zeros(MotionModelConfig(Family.V3, block_channels=(64,), layers_per_block=1), path)


def save_zeros(config: MotionModelConfig, path: Path) -> None:
    checkpoint.save(path, config, {key: torch.zeros(shape) for key, shape in expected_shapes(config).items()})


# --- diffusion models that are no SD1.5 ------------------------------------------------------------------------------


def flux(path: Path) -> None:
    """Just enough for ComfyUI to take it for Flux; what is missing it only logs."""
    hidden, heads = 128, 1
    save(
        {
            "img_in.weight": torch.zeros(hidden, 64),
            "img_in.bias": torch.zeros(hidden),
            "txt_in.weight": torch.zeros(hidden, 64),
            "vector_in.in_layer.weight": torch.zeros(hidden, 64),
            "guidance_in.in_layer.weight": torch.zeros(hidden, 256),
            "double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(hidden // heads),
            "single_blocks.0.norm.key_norm.scale": torch.ones(hidden // heads),
            "final_layer.linear.weight": torch.zeros(64, hidden),
        },
        path,
    )


def sd2(path: Path, models: Models) -> None:
    """The tiny UNet with Stable Diffusion 2's text width, by which ComfyUI tells it from 1.5."""
    weights = checkpoint_weights(models, UNET)
    for key, tensor in weights.items():
        if "attn2.to_k" in key or "attn2.to_v" in key:
            weights[key] = torch.zeros(tensor.shape[0], 1024, dtype=tensor.dtype)
        elif key.endswith(("proj_in.weight", "proj_out.weight")):
            weights[key] = tensor[..., 0, 0]  # linear in SD2, a convolution of one pixel in SD1.5
    save(weights, path)
