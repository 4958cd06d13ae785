"""What host tests build: a tiny model, its conditioning, a motion-model file, a sampling run."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import comfy.memory_management
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
import folder_paths
import pytest
import torch
from pack.motion_models import checkpoint
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.recognise import expected_shapes
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.saving import save_motion_model
from pack.nodes.host.motion.steered import MotionSettings, Steered
from pack.nodes.host.runs.applying import apply_motion_model

BOTH = pytest.mark.parametrize("patchers", ["plain", "dynamic"], indirect=True)
"""Run a test with plain patchers, and with those of DynamicVRAM. A fixture that keeps a model must ask for ``patchers``, too."""

CONTEXT = 16

STEERED_BY = ("values", "steps", "blocks")

UNET_CONFIG = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4], "num_heads": 8, "num_head_channels": -1, "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1, "context_dim": CONTEXT, "legacy": False, "use_linear_in_transformer": False,
    "adm_in_channels": None, "dropout": 0, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip


def make_model(
    dtype=torch.float32, manual_cast_dtype=None, kind=comfy.supported_models.SD15, base=comfy.model_base.BaseModel,
    disable_dynamic=False, **changes,
):
    """A MODEL as CheckpointLoaderSimple gives it, SD1.5-shaped but 32 channels wide."""
    config = kind({**UNET_CONFIG, **changes, "dtype": dtype})
    config.set_inference_dtype(dtype, manual_cast_dtype)
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(1)
        patch.setattr(comfy.memory_management, "aimdo_enabled", False)  # else linear layers have no weights yet
        model = base(config, device="cpu")
        for module in model.modules():
            is_norm = isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm))
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.numel():
                    continue
                # Scaled by fan-in, so that every block has its say in the output.
                std = 0.1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape) * std + float(is_norm and name == "weight"))
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=comfy.model_management.unet_offload_device()
    )
    if patcher.is_dynamic():
        patcher.cached_patcher_init = (partial(make_model, **changes), (dtype, manual_cast_dtype, kind, base))
    return patcher


# Two levels of one block instead of four of two: for tests that run many steps and ask for nothing that deeper levels would show.
SMALL_UNET = {
    "channel_mult": [1, 2], "num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4,
}  # fmt: skip
SMALL_MOTION = {"block_channels": (32, 64), "layers_per_block": 1}

# One level of one block: for sweeps over all samplers.
SMALLEST_UNET = {"channel_mult": [1], "num_res_blocks": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1]}
SMALLEST_MOTION = {"block_channels": (32,), "layers_per_block": 1}

# Those named _gpu are the same on a CPU.
ALL_SAMPLERS = [name for name in comfy.samplers.KSampler.SAMPLERS if not name.endswith("_gpu")]


SDXL_FAMILIES = (Family.SDXL, Family.HOTSHOT)
SDXL_SHAPE = {
    "channel_mult": [1, 2, 4], "num_res_blocks": [2, 2, 2], "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "transformer_depth_middle": 2,
}  # fmt: skip


POOLED = 24


def make_sdxl(**changes):
    """A MODEL that takes pooled embeddings and sizes, as SDXL does."""
    changes = {**SDXL_SHAPE, "num_classes": "sequential", "adm_in_channels": POOLED + 6 * 256, **changes}
    return make_model(kind=comfy.supported_models.SDXL, base=comfy.model_base.SDXL, **changes)


def make_base_for(family: Family, **changes):
    """A MODEL of the base that the family was made for."""
    if family in SDXL_FAMILIES:
        return make_model(kind=comfy.supported_models.SDXL, **{**SDXL_SHAPE, **changes})
    return make_model(**changes)


def cond(seed: int = 1, tokens: int = 7, batch: int = 1, **options) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(batch, tokens, CONTEXT, generator=generator), {"pooled_output": None, **options}]]


POSITIVE, NEGATIVE = cond(1), cond(2)


def sample(model, frames=8, steps=2, cfg=2.0, positive=None, negative=None, latent=None, seed=3, size=8, **options):
    """Sample with core's own function; the result is ``(frames, 4, size, size)``."""
    latent = torch.zeros(frames, 4, size, size) if latent is None else latent
    noise = comfy.sample.prepare_noise(latent, seed)
    options.setdefault("sampler_name", "euler")
    options.setdefault("scheduler", "normal")
    return comfy.sample.sample(
        model, noise, steps, cfg, positive=positive or POSITIVE, negative=negative or NEGATIVE, latent_image=latent,
        disable_pbar=True, seed=seed, **options,
    )


def motion_config(family: Family = Family.V3, **changes) -> MotionModelConfig:
    defaults = {
        "block_channels": (32, 64, 128) if family in SDXL_FAMILIES else (32, 64, 128, 128),
        "has_mid_block": family in (Family.V2, Family.LONG, Family.LCM, Family.LCM_I2V),
        "max_frames": {Family.V1: 24, Family.HOTSHOT: 24, Family.LONG: 64, Family.LCM: 64, Family.LCM_I2V: 64}.get(family, 32),
    }
    return MotionModelConfig(family, **{**defaults, **changes})


def motion_weights(config: MotionModelConfig, seed: int = 0, dtype=torch.float32) -> dict[str, torch.Tensor]:
    weights = {}
    generator = torch.Generator().manual_seed(seed)
    for name, shape in expected_shapes(config).items():
        mean = float("norm" in name and name.endswith("weight"))
        weights[name] = (torch.randn(shape, generator=generator) * 0.1 + mean).to(dtype)
    return weights


def motion_file(folder: Path, family: Family = Family.V3, seed: int = 0, dtype=torch.float32, **changes) -> str:
    config = motion_config(family, **changes)
    path = folder / f"{family.name.lower()}_{seed}.safetensors"
    checkpoint.save(path, config, motion_weights(config, seed, dtype))
    return str(path)


def saved_weights(motion_patcher) -> dict[str, torch.Tensor]:
    """The weights in the file that Save Motion Model writes of a motion model."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_paths, "output_directory", folder)
        saved = load_motion_model(str(save_motion_model(motion_patcher, "saved", "fp32")))
        return state_of(saved)


def animate(model, motion_patcher, start_percent=0.0, end_percent=1.0, **inputs):
    """Apply as the node does, with its inputs' names."""

    def steered(name: str) -> Steered:
        return Steered.of(name, inputs.pop(name, 1.0), *(inputs.pop(f"{name}_{kind}", None) for kind in STEERED_BY))

    settings = MotionSettings(steered("motion_scale"), steered("strength"), start_percent, end_percent)
    assert not inputs
    return apply_motion_model(model, motion_patcher, settings)


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same_state(model, state) -> bool:
    now = model.model.state_dict()
    return list(now) == list(state) and all(torch.equal(now[name], state[name]) for name in state)
