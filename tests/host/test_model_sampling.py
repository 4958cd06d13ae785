"""Betas: the family's own by default, everything else about a model's sampling as it was."""

from __future__ import annotations

import comfy.model_sampling
import pytest
import torch
from comfy.samplers import calculate_sigmas
from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscrete, ModelSamplingDiscreteDistilled
from diffusers import LCMScheduler
from pack.motion_models.beta_schedules import BETA_SCHEDULES, LINEAR, SCALED_LINEAR, SCALED_LINEAR_XL
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.model_sampling import AUTO, KEEP, set_beta_schedule
from pack.nodes.noise import NoiseScheduleNode

from .world import SMALL_MOTION, SMALL_UNET, make_base_for, make_model, motion_file, sample


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


def sigmas(name: str) -> torch.Tensor:
    """Sigmas of a schedule, from the definition."""
    alphas_cumprod = (1 - BETA_SCHEDULES[name].betas()).cumprod(0)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt().float()


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_named_schedules(model, name):
    model = model.clone()
    set_beta_schedule(model, name)
    torch.testing.assert_close(model.get_model_object("model_sampling").sigmas, sigmas(name), atol=0, rtol=1e-6)


def test_the_naming_trap():
    """The papers' linear is ComfyUI's sqrt_linear, noisier at the end than ComfyUI's linear."""
    assert sigmas(LINEAR)[-1].item() == pytest.approx(25.15, abs=0.01)
    assert sigmas(SCALED_LINEAR)[-1].item() == pytest.approx(14.61, abs=0.01)


def test_stable_diffusion_has_the_scaled_one(model):
    torch.testing.assert_close(model.get_model_object("model_sampling").sigmas, sigmas(SCALED_LINEAR), atol=0, rtol=1e-6)


@pytest.mark.parametrize("family", [family for family in Family if not family.takes_image], ids=lambda family: family.name)
def test_auto_takes_the_familys_own(tmp_path, family):
    expected = {Family.SDXL: SCALED_LINEAR_XL, Family.HOTSHOT: SCALED_LINEAR}.get(family, LINEAR)
    model = make_base_for(family)
    motion = load_motion_model(motion_file(tmp_path, family))
    animated = ApplyMotionModelNode.execute(model, motion, AUTO)[0]
    found = animated.get_model_object("model_sampling").sigmas
    every = 10 if family is Family.LCM else 1  # distilled on every tenth timestep, the last one included
    torch.testing.assert_close(found, sigmas(expected)[every - 1 :: every], atol=0, rtol=1e-6)
    kept = ApplyMotionModelNode.execute(model, motion, KEEP)[0]
    assert kept.get_model_object("model_sampling") is model.get_model_object("model_sampling")


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 8])
def test_animatelcm_steps_are_the_official_pipelines(model, tmp_path, steps):
    motion = load_motion_model(motion_file(tmp_path, Family.LCM, **SMALL_MOTION))
    sampling = ApplyMotionModelNode.execute(model, motion, AUTO)[0].get_model_object("model_sampling")
    theirs = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear")
    theirs.set_timesteps(steps, original_inference_steps=100)
    ours = calculate_sigmas(sampling, "simple", steps)
    torch.testing.assert_close(ours[:-1], sigmas(LINEAR)[theirs.timesteps], atol=0, rtol=1e-5)
    assert sampling.timestep(ours[:-1]).tolist() == theirs.timesteps.tolist()


def test_an_lcm_step_is_the_official_schedulers(model, tmp_path):
    """From noise and a prediction to the denoised latents, boundary conditions included."""
    motion = load_motion_model(motion_file(tmp_path, Family.LCM, **SMALL_MOTION))
    sampling = ApplyMotionModelNode.execute(model, motion, AUTO)[0].get_model_object("model_sampling")
    theirs = LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False)
    theirs.set_timesteps(4, original_inference_steps=100)
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
    for timestep in theirs.timesteps[:-1]:
        sigma = sigmas(LINEAR)[timestep].expand(2)
        scale = (1 + sigma[0] ** 2).sqrt()  # ComfyUI's latents are those of variance 1 + sigma^2
        expected = theirs.step(noise, timestep, latents, generator=generator).denoised
        out = sampling.calculate_denoised(sigma, noise, latents * scale)
        # c_skip is of the order of 1e-9 here; ComfyUI applies it to the unscaled latents.
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_lcm_needs_a_model_that_predicts_noise(tmp_path):
    motion = load_motion_model(motion_file(tmp_path, Family.LCM, **SMALL_MOTION))
    (v_model,) = ModelSamplingDiscrete().patch(make_model(**SMALL_UNET), "v_prediction", False)
    with pytest.raises(InvalidInput, match="needs a model that predicts noise"):
        ApplyMotionModelNode.execute(v_model, motion, AUTO)
    ApplyMotionModelNode.execute(v_model, motion, KEEP)


def test_strength_0_with_the_models_own_betas_is_the_model(model, tmp_path):
    motion = load_motion_model(motion_file(tmp_path, Family.V1, **SMALL_MOTION))
    still = ApplyMotionModelNode.execute(model, motion, KEEP, strength=0.0)[0]
    assert torch.equal(sample(still), sample(model))


@pytest.mark.parametrize("zsnr", [False, True])
@pytest.mark.parametrize(
    ("sampling", "kind"),
    [
        ("eps", comfy.model_sampling.EPS),
        ("v_prediction", comfy.model_sampling.V_PREDICTION),
        ("lcm", LCM),
        ("x0", comfy.model_sampling.X0),
    ],
)
def test_prediction_and_zsnr_stay(model, sampling, kind, zsnr):
    (changed,) = ModelSamplingDiscrete().patch(model, sampling, zsnr)
    before = changed.get_model_object("model_sampling")
    set_beta_schedule(changed, LINEAR)
    after = changed.get_model_object("model_sampling")
    assert isinstance(after, kind)
    assert type(after) is type(before)
    assert after.zsnr == zsnr
    assert after.sigmas.shape == before.sigmas.shape == ((50,) if sampling == "lcm" else (1000,))
    assert isinstance(after, ModelSamplingDiscreteDistilled) == (sampling == "lcm")
    if not zsnr and sampling != "lcm":
        torch.testing.assert_close(after.sigmas, sigmas(LINEAR), atol=0, rtol=1e-6)
    if not zsnr and sampling == "lcm":
        torch.testing.assert_close(after.sigmas, sigmas(LINEAR)[19::20], atol=0, rtol=1e-6)
    if zsnr:
        assert after.sigmas[-1] > 1000  # no signal is left at the last step


def test_a_schedule_without_a_motion_model(model):
    (lcm,) = ModelSamplingDiscrete().patch(model, "lcm", False)
    before = lcm.get_model_object("model_sampling")
    changed = NoiseScheduleNode.execute(lcm, LINEAR)[0].get_model_object("model_sampling")
    assert type(changed) is type(before)
    torch.testing.assert_close(changed.sigmas, sigmas(LINEAR)[19::20], atol=0, rtol=1e-6)
    undone = NoiseScheduleNode.execute(lcm, LINEAR, "as the checkpoint does")[0].get_model_object("model_sampling")
    assert not isinstance(undone, LCM)
    torch.testing.assert_close(undone.sigmas, sigmas(LINEAR), atol=0, rtol=1e-6)
    own = NoiseScheduleNode.execute(lcm, KEEP, "as the checkpoint does")[0].get_model_object("model_sampling")
    assert torch.equal(own.sigmas, model.get_model_object("model_sampling").sigmas)
    assert lcm.get_model_object("model_sampling") is before
    assert NoiseScheduleNode.execute(lcm)[0].get_model_object("model_sampling") is before


def test_v_prediction_models_sample(tmp_path):
    model = make_model(**SMALL_UNET)
    (model,) = ModelSamplingDiscrete().patch(model, "v_prediction", True)
    animated = ApplyMotionModelNode.execute(model, load_motion_model(motion_file(tmp_path, **SMALL_MOTION)), AUTO)[0]
    assert torch.isfinite(sample(animated)).all()


def test_the_callers_model_keeps_its_betas(model, tmp_path):
    ApplyMotionModelNode.execute(model, load_motion_model(motion_file(tmp_path, **SMALL_MOTION)), AUTO)
    torch.testing.assert_close(model.get_model_object("model_sampling").sigmas, sigmas(SCALED_LINEAR), atol=0, rtol=1e-6)


def test_continuous_models_have_no_betas(model, tmp_path):
    class Continuous(comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.EPS):
        pass

    continuous = model.clone()
    continuous.add_object_patch("model_sampling", Continuous(model.model.model_config))
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    with pytest.raises(InvalidInput, match="samples over continuous time"):
        ApplyMotionModelNode.execute(continuous, motion, AUTO)
    ApplyMotionModelNode.execute(continuous, motion, KEEP)
