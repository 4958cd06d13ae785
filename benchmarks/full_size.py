"""What benchmarks share: models of Stable Diffusion's size with random weights, made quickly.

Import it before anything of ComfyUI's: it chooses the CPU where there is no graphics card.
"""

from __future__ import annotations

import comfy.cli_args
import torch

if not torch.cuda.is_available():
    comfy.cli_args.args.cpu = True

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models

from ..motion_models.config import Family, MotionModelConfig
from ..motion_models.motion_model import MotionModel
from ..nodes.host.files.loading import motion_model_patcher, temporal_attention

FULL_WIDTH = 320
"""Channels of the outermost level. With fewer a benchmark only shows that it runs."""


def widths(channels: int, levels: int = 4) -> tuple[int, ...]:
    """Channels of a UNet's levels."""
    return tuple(channels * factor for factor in (1, 2, 4, 4)[:levels])


def fill(module) -> None:
    """Give every weight random values of a trained model's size; uniform, because that is quick."""
    for layer in module.modules():
        is_norm = isinstance(layer, (torch.nn.GroupNorm, torch.nn.LayerNorm))
        for name, parameter in layer.named_parameters(recurse=False):
            bound = 0.02 if parameter.ndim < 2 else (3.0 / parameter[0].numel()) ** 0.5
            parameter.data.uniform_(-bound, bound)
            if is_norm and name == "weight":
                parameter.data += 1.0


def make_sd15(dtype, channels: int = FULL_WIDTH, on_cpu: bool = False):
    """A MODEL of Stable Diffusion 1.5's size (860 M parameters), random; with fewer channels it is narrower.

    Its weights are drawn where it will run, which is quicker, or ``on_cpu``, where a seed gives the same ones on all machines.
    """
    return _make_model(comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": channels, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "use_spatial_transformer": True, "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1, "context_dim": 768,
        "legacy": False, "use_linear_in_transformer": False, "adm_in_channels": None, "dtype": dtype,
        "use_temporal_attention": False, "use_temporal_resblock": False,
    }), dtype, on_cpu)  # fmt: skip


def make_sdxl(dtype, channels: int = FULL_WIDTH):
    """A MODEL of Stable Diffusion XL's size (2.6 G parameters), random; without the sizes and the pooled text that it is given."""
    return _make_model(comfy.supported_models.SDXL({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": channels, "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4], "use_spatial_transformer": True, "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10, "context_dim": 2048,
        "legacy": False, "use_linear_in_transformer": True, "adm_in_channels": None, "dtype": dtype,
        "use_temporal_attention": False, "use_temporal_resblock": False,
    }), dtype)  # fmt: skip


def _make_model(config, dtype, on_cpu: bool = False):
    config.set_inference_dtype(dtype, None)
    model = comfy.model_base.BaseModel(config, device="cpu")
    fill(model.diffusion_model.to("cpu" if on_cpu else comfy.model_management.get_torch_device()))
    model.diffusion_model.to("cpu")
    return comfy.model_patcher.CoreModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def make_motion_model(channels: int = FULL_WIDTH, dtype=torch.float32):
    """A v3 motion model, random, in ComfyUI's care."""
    config = MotionModelConfig(Family.V3, widths(channels))
    model = MotionModel(config, operations=torch.nn, attention=temporal_attention())
    fill(model)
    patcher = motion_model_patcher(config, model.state_dict(), "random")
    patcher.model.to(dtype)  # on a CPU ComfyUI keeps float32
    return patcher
