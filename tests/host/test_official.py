"""The whole UNet with motion, against numbers recorded from AnimateDiff's official code (see tests/official)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import comfy.model_management
import comfy.utils
import pytest
import torch
from pack.motion_models import checkpoint
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.recognise import expected_shapes
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion import injection as injection
from pack.nodes.host.motion.steered import MotionSettings
from pack.nodes.host.runs.applying import apply_motion_model
from safetensors.torch import load_file

from .world import UNET_CONFIG, make_model

OFFICIAL = Path(__file__).parent.parent / "official"
spec = importlib.util.spec_from_file_location("seeded", OFFICIAL / "seeded.py")
seeds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seeds)


def make_official_model():
    """ComfyUI's UNet with the weights that the official one had under diffusers' names."""
    model = make_model()
    names = {ours: theirs for theirs, ours in comfy.utils.unet_to_diffusers(UNET_CONFIG).items()}
    for name, parameter in model.model.diffusion_model.named_parameters():
        theirs = names[name]
        value = seeds.seeded(theirs, tuple(parameter.shape), seeds.is_norm_weight(theirs))
        parameter.copy_(value.reshape(parameter.shape))
    return model


def make_motion_file(path: Path, family: Family) -> str:
    _, mid_block, max_frames = seeds.FAMILIES[family.name]
    config = MotionModelConfig(family, seeds.BLOCK_CHANNELS, has_mid_block=mid_block, max_frames=max_frames)
    weights = {
        name: seeds.seeded(name, tuple(shape), seeds.is_norm_weight(name))
        for name, shape in expected_shapes(config).items()
    }
    checkpoint.save(path, config, weights)
    return str(path)


def run_unet(model, **of_run) -> torch.Tensor:
    """One call of the UNet, as sampling makes it, past the sampler's scaling; ``b f c h w``. ``of_run`` are ``transformer_options``."""
    latents, context = seeds.inputs()
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    model.pre_run()
    unet = model.model.diffusion_model
    options = {**model.model_options["transformer_options"], "cond_or_uncond": [0, 1], "wrappers": model.wrappers, **of_run}
    options[injection.KEY] = injection._motion_call(model.model, latents.flatten(0, 1), options)
    timesteps = torch.full((latents.flatten(0, 1).shape[0],), float(seeds.TIMESTEP))
    context = context.repeat_interleave(seeds.FRAMES, 0)
    return unet(latents.flatten(0, 1), timesteps, context=context, transformer_options=options).view(latents.shape)


@pytest.mark.parametrize("family", [Family.V1, Family.V2, Family.V3], ids=lambda family: family.name)
def test_equals_the_official_unet(family, tmp_path):
    model = make_official_model()
    expected = load_file(OFFICIAL / "unet_outputs.safetensors")[family.name]
    motion = load_motion_model(make_motion_file(tmp_path / "motion.safetensors", family))
    out = run_unet(apply_motion_model(model, motion, MotionSettings()))
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (run_unet(model) - expected).abs().max() > 0.1 * expected.abs().max()


def test_the_families_differ_in_their_norms():
    """The numbers tell v1, whose residual norms see all frames, from v3, which is otherwise the same network."""
    numbers = load_file(OFFICIAL / "unet_outputs.safetensors")
    assert (numbers["V1"] - numbers["V3"]).abs().max() > 0.05 * numbers["V3"].abs().max()
