"""Settings that give what AnimateDiff-Evolved does by itself: norms, noise schedules, positions, weights, values that run out.

That they are what it does is asked by ``tests/server/test_same_as_evolved.py``; here, that they are what they say.
"""

from __future__ import annotations

import pytest
import torch
from comfy.ldm.modules.diffusionmodules.util import make_beta_schedule
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from pack.animation.retime import Stretch
from pack.motion_models.beta_schedules import LINEAR, SCALED_LINEAR
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput
from pack.motion_models.layouts import to_layout
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.model_sampling import MEAN, beta_schedule_of
from pack.nodes.host.motion.norms import GroupNorms, Scope
from pack.nodes.host.motion.retiming import retime_of
from pack.nodes.host.motion.weight_scale import scale_weights
from pack.nodes.steering import RetimeMotionNode
from pack.nodes.windows import ContextWindowsNode
from safetensors.torch import save_file
from torch.nn import functional

from .world import (
    BOTH,
    SMALL_MOTION,
    SMALL_UNET,
    animate,
    make_model,
    motion_config,
    motion_file,
    motion_weights,
    sample,
)


def apply(model, motion, **inputs):
    return ApplyMotionModelNode.execute(model, motion, **{"beta_schedule": "keep model's", **inputs})[0]


@pytest.fixture
def model(patchers):
    return make_model(**SMALL_UNET)


@pytest.fixture
def motion(patchers, tmp_path):
    return load_motion_model(motion_file(tmp_path, Family.V3, **SMALL_MOTION))


# --- group norms ------------------------------------------------------------------------------------------------------


def test_each_choice_of_norms_for_each_family():
    kept, trained, every = Scope.NONE, Scope.TRAINED, Scope.ALL
    expected = {
        Family.V1: (trained, every, every, every), Family.V2: (kept, every, kept, every), Family.V3: (kept, every, kept, kept),
        Family.LONG: (kept, every, kept, every), Family.LCM: (kept, every, kept, every), Family.SDXL: (kept, every, every, every),
        Family.HOTSHOT: (trained, every, every, every), Family.PIA: (trained, every, every, every),
        Family.LCM_I2V: (kept, every, kept, every),
    }  # fmt: skip
    assert {family: tuple(choice.scope(motion_config(family)) for choice in GroupNorms) for family in Family} == expected


def patch_norms(monkeypatch, frames: int) -> None:
    """Let every group norm in this process see so many frames, as AnimateDiff-Evolved does."""
    plain = functional.group_norm

    def over_frames(x, *args, **kwargs):
        clips = x.unflatten(0, (-1, frames)).transpose(1, 2)
        return plain(clips, *args, **kwargs).transpose(1, 2).flatten(0, 1)

    monkeypatch.setattr(functional, "group_norm", over_frames)


@BOTH
def test_all_norms_see_all_frames_of_a_call(model, motion, monkeypatch):
    windowed = ContextWindowsNode.execute(model, 4, 1)[0]
    found = sample(apply(windowed, motion, group_norms="all over frames"))
    assert (found - sample(apply(windowed, motion))).abs().max() > 1e-3
    patch_norms(monkeypatch, 4)
    torch.testing.assert_close(found, sample(apply(windowed, motion)), atol=1e-5, rtol=1e-5)


def test_all_norms_in_half_precision(motion, monkeypatch):
    half = make_model(torch.float16, **SMALL_UNET)
    found = sample(apply(half, motion, group_norms="all over frames"), steps=1)
    patch_norms(monkeypatch, 8)
    torch.testing.assert_close(found, sample(apply(half, motion), steps=1), atol=1e-2, rtol=1e-2)


def test_norms_that_were_asked_for_are_for_the_whole_run(model, motion, monkeypatch):
    never = {"end_percent": 0.0}
    found = sample(apply(model, motion, group_norms="all over frames", **never))
    assert torch.equal(sample(apply(model, motion, group_norms="all over frames", strength=0.0)), sample(model))
    assert torch.equal(sample(apply(model, motion, **never)), sample(model))
    patch_norms(monkeypatch, 8)
    torch.testing.assert_close(found, sample(model), atol=1e-5, rtol=1e-5)


def test_norms_are_as_before_after_an_error(model, motion):
    def fail(*args):
        raise RuntimeError

    broken = model.clone()
    broken.set_model_attn1_patch(fail)
    expected = sample(model)
    with pytest.raises(RuntimeError):
        sample(apply(broken, motion, group_norms="all over frames"))
    assert torch.equal(sample(model), expected)


# --- noise schedules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choice", "betas", "every"), [
    ("lcm 50, scaled_linear (Stable Diffusion)", [SCALED_LINEAR], 20), ("lcm 50, linear (AnimateDiff)", [LINEAR], 20),
    ("lcm 50, mean of linear and scaled_linear", [LINEAR, SCALED_LINEAR], 20),
    ("lcm 100, scaled_linear (Stable Diffusion)", [SCALED_LINEAR], 10),
    ("mean of linear and scaled_linear", [LINEAR, SCALED_LINEAR], 1), ("sqrt (ComfyUI)", ["sqrt"], 1),
    ("cosine (ComfyUI)", ["cosine"], 1),
])  # fmt: skip
def test_each_noise_schedule(model, motion, choice, betas, every):
    def sigmas(name):
        name = {LINEAR: "sqrt_linear", SCALED_LINEAR: "linear"}.get(name, name)
        kept = (1 - torch.as_tensor(make_beta_schedule(name, 1000, 0.00085, 0.012))).cumprod(0)
        return ((1 - kept) / kept).sqrt().float()[every - 1 :: every]

    sampling = apply(model, motion, beta_schedule=choice).get_model_object("model_sampling")
    torch.testing.assert_close(sampling.sigmas, sum(map(sigmas, betas)) / len(betas), atol=0, rtol=1e-5)
    assert beta_schedule_of(sampling) == (MEAN if len(betas) > 1 else {"sqrt": choice}.get(betas[0], choice.split(", ")[-1]))


def test_lcm_on_50_timesteps_is_comfyuis(model, motion):
    theirs = ModelSamplingDiscrete().patch(model, "lcm", False)[0].get_model_object("model_sampling")
    ours = apply(model, motion, beta_schedule="lcm 50, scaled_linear (Stable Diffusion)").get_model_object("model_sampling")
    assert torch.equal(ours.sigmas, theirs.sigmas)
    assert torch.equal(ours.timestep(ours.sigmas), theirs.timestep(theirs.sigmas))
    sigma, noise, latents = ours.sigmas[7:8], *torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.calculate_denoised(sigma, noise, latents), theirs.calculate_denoised(sigma, noise, latents))


def test_lcm_of_a_model_that_predicts_v_is_refused(model, motion):
    (v_model,) = ModelSamplingDiscrete().patch(model, "v_prediction", False)
    with pytest.raises(InvalidInput, match="'lcm 50, linear .AnimateDiff.' needs a model that predicts noise"):
        apply(v_model, motion, beta_schedule="lcm 50, linear (AnimateDiff)")


# --- positions --------------------------------------------------------------------------------------------------------


def retimed(motion, **inputs):
    return RetimeMotionNode.execute(motion, **inputs)[0]


def test_stretched_positions(model, motion):
    assert retime_of(retimed(motion, stretch=2, stretch_from=16)).stretch == Stretch(16, 18)
    assert retime_of(retimed(motion, stretch=-4)).stretch == Stretch(32, 28)
    assert retime_of(retimed(motion, stretch_from=16)).stretch is None
    stretched = retimed(motion, stretch=4, stretch_from=4)
    assert (sample(animate(model, stretched)) - sample(animate(model, motion))).abs().max() > 1e-4
    with pytest.raises(IncompatibleMotionModel, match="has positions from 0 to below 8"):
        sample(animate(model, stretched), frames=9)


@pytest.mark.parametrize(("inputs", "message"), [
    ({"stretch": 2, "stretch_from": 33}, "stretch_from is 33, but .* has positions for 32. Set stretch_from to 32 or less"),
    ({"stretch": -16, "stretch_from": 16}, "stretch -16 leaves none of 16 positions. Set it to -15 or more"),
])  # fmt: skip
def test_a_stretch_that_cannot_be(motion, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        retimed(motion, **inputs)


# --- weights ------------------------------------------------------------------------------------------------------------


@BOTH
def test_multiplied_weights_are_those_of_a_file_with_multiplied_weights(model, tmp_path):
    config = motion_config(Family.LCM, **SMALL_MOTION)  # stores no positions
    weights = motion_weights(config)
    plain, multiplied = tmp_path / "lcm.safetensors", tmp_path / "multiplied_lcm.safetensors"
    for path, factor in ((plain, 1.0), (multiplied, 1.2)):
        stored = {name: tensor * factor for name, tensor in to_layout(config, weights).items() if "pos_encoder" not in name}
        save_file(stored, path)
    motion = load_motion_model(str(plain))
    expected = sample(animate(model, load_motion_model(str(multiplied))))
    torch.testing.assert_close(sample(animate(model, scale_weights(motion, 1.2))), expected, atol=1e-5, rtol=1e-5)
    assert (sample(animate(model, motion)) - expected).abs().max() > 1e-3
    assert scale_weights(motion, 1.0) is motion


# --- values that run out ------------------------------------------------------------------------------------------------


def test_the_last_value_goes_on(model, motion):
    windowed = ContextWindowsNode.execute(model, 4, 1)[0]
    short, whole = [0.2, 1.0, 0.6], [0.2, 1.0, *[0.6] * 6]
    for name in ("strength_values", "motion_scale_values"):
        expected = sample(apply(windowed, motion, **{name: whole}))
        for values in (short, [*whole, 9.0]):
            assert torch.equal(sample(apply(windowed, motion, hold_last_value=True, **{name: values})), expected)
            with pytest.raises(InvalidInput, match=f"{name} has values for {len(values)} frames, but a clip has 8"):
                sample(apply(windowed, motion, **{name: values}))
