"""FreeInit around real samplers, against the formulas and against runs put together by hand."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.supported_models
import comfy_extras.nodes_context_windows
import comfy_extras.nodes_model_advanced
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.free_init_utils import FreeInitMixin
from pack.animation.freeinit import FreeInit, Method
from pack.animation.noise_shuffle import FreeNoise
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.model_sampling import set_beta_schedule
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.freeinit_runs import set_freeinit
from pack.nodes.host.runs.starting_noise import set_freenoise

from .test_freenoise import Recorded, random_noise
from .world import NEGATIVE, POSITIVE, SMALLEST_MOTION, SMALLEST_UNET, animate, cond, make_model, motion_file, sample

FRAMES, SIZE, SEED = 6, 8, 3
DEFAULTS = {
    "iterations": 3, "low_pass": "butterworth", "spatial_cutoff": 0.25, "temporal_cutoff": 0.25, "order": 4,
    "coarse_to_fine": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


def with_freeinit(model, **changes):
    model = model.clone()
    set_freeinit(model, **{**DEFAULTS, **changes})
    return model


def fresh_noise(count: int, frames: int = FRAMES, seed: int = SEED) -> list[torch.Tensor]:
    """What follows in the generator behind the noise that a run starts from."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(frames, 4, SIZE, SIZE, generator=generator) for _ in range(count + 1)][1:]


def low_and_high(low: torch.Tensor, high: torch.Tensor, spatial=0.25, temporal=0.25, order=4) -> torch.Tensor:
    """The paper's mixing, written out with numpy in double precision."""
    axes = [2 * np.arange(size) / size - 1 for size in (low.shape[0], *low.shape[2:])]
    t, h, w = np.meshgrid(*axes, indexing="ij")
    keep = 1 / (1 + (((spatial / temporal * t) ** 2 + h**2 + w**2) / spatial**2) ** order)

    def spectrum(clip: torch.Tensor) -> np.ndarray:
        return np.fft.fftshift(np.fft.fftn(clip.double().numpy(), axes=(0, 2, 3)), axes=(0, 2, 3))

    mixed = spectrum(low) * keep[:, None] + spectrum(high) * (1 - keep[:, None])
    return torch.from_numpy(np.fft.ifftn(np.fft.ifftshift(mixed, axes=(0, 2, 3)), axes=(0, 2, 3)).real)


# --- the formula ------------------------------------------------------------------------------------------------------


def given_result(latents: torch.Tensor, starts: list[torch.Tensor]) -> comfy.samplers.KSAMPLER:
    """A sampler that keeps what it starts from, and arrives at the latents."""

    def function(model, x, sigmas, extra_args=None, callback=None, disable=None):
        starts.append(x / (1 + sigmas[0] ** 2).sqrt())  # from ComfyUI's scale into the papers'
        return latents.to(x)

    return comfy.samplers.KSAMPLER(function)


def plain(model):
    return model


def v_prediction_zsnr(model):
    node = comfy_extras.nodes_model_advanced.ModelSamplingDiscrete()
    return node.patch(model, "v_prediction", zsnr=True)[0]


def animatediffs_linear(model):
    model = model.clone()
    set_beta_schedule(model, "linear (AnimateDiff)")
    return model


SCALED_LINEAR = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
LINEAR = np.linspace(0.00085, 0.012, 1000)


@pytest.mark.parametrize(
    ("change", "last_alpha_bar"),
    [
        (plain, np.prod(1 - SCALED_LINEAR)),
        (animatediffs_linear, np.prod(1 - LINEAR)),
        (v_prediction_zsnr, 4.8973451890853435e-08),  # what ComfyUI calls 0, to be able to divide by it
    ],
)
def test_each_run_starts_where_the_formula_says(model, change, last_alpha_bar):
    latents = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))  # the model's, not the VAE's
    noise, starts = random_noise(FRAMES), []
    kept = noise.clone()
    model = with_freeinit(change(model))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 4)
    comfy.sample.sample_custom(
        model, noise, 1.0, given_result(latents, starts), sigmas, POSITIVE, NEGATIVE, torch.zeros_like(noise), seed=SEED
    )
    z_t = last_alpha_bar**0.5 * latents.double() + (1 - last_alpha_bar) ** 0.5 * noise.double()
    expected = [noise, *(low_and_high(z_t, fresh) for fresh in fresh_noise(2))]
    assert len(starts) == 3
    for start, wanted in zip(starts, expected, strict=True):
        torch.testing.assert_close(start.double(), wanted.double(), rtol=0.0, atol=5e-6)
    assert torch.equal(noise, kept)


def test_freqprior_starts_where_its_formula_says(model):
    """From what a run has arrived at midway: z_T = sqrt(s) z + sqrt(1 - s) first noise, s = abar_T / abar_mid."""
    latents = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))  # the model's, at the run's last level
    noise, starts = random_noise(FRAMES), []
    model = with_freeinit(model, iterations=2, method="FreqPrior")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8)
    comfy.sample.sample_custom(
        model, noise, 1.0, given_result(latents, starts), sigmas, POSITIVE, NEGATIVE, torch.zeros_like(noise), seed=SEED
    )
    alpha_bars = 1 / (1 + sigmas.double() ** 2)
    last, mid = alpha_bars[0], alpha_bars[5]  # 0.64 of 8 steps
    z_t = (last / mid).sqrt() * mid.sqrt() * latents.double() + (1 - last / mid).sqrt() * noise.double()
    fresh, high = fresh_noise(2)
    expected = FreeInit(method=Method.FREQPRIOR).mix_keeping_variance(z_t.float(), fresh, high)
    assert len(starts) == 2
    torch.testing.assert_close(starts[1], expected, rtol=0.0, atol=5e-6)


def test_each_run_starts_where_diffusers_says(model):
    latents = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    noise, starts = random_noise(FRAMES), []
    model = with_freeinit(model, low_pass="gaussian", spatial_cutoff=0.4)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 4)
    comfy.sample.sample_custom(
        model, noise, 1.0, given_result(latents, starts), sigmas, POSITIVE, NEGATIVE, torch.zeros_like(noise), seed=SEED
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    z_t = scheduler.add_noise(latents, noise, torch.full((FRAMES,), 999))
    mixin = FreeInitMixin()
    keep = mixin._get_free_init_freq_filter((1, FRAMES, SIZE, SIZE), "cpu", "gaussian", 4, 0.4, 0.25)
    fresh = fresh_noise(1)[0]
    expected = mixin._apply_freq_filter(z_t.transpose(0, 1), fresh.transpose(0, 1), keep).transpose(0, 1)
    torch.testing.assert_close(starts[1], expected, rtol=0.0, atol=5e-6)


def test_from_the_previous_noise_each_run_starts_where_animatediff_evolveds_formula_says(model):
    """Which takes a result as large as the VAE has it, and the noise of the run before; from the highest level, whatever the run's."""
    latents = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    noise, starts = random_noise(FRAMES), []
    model = with_freeinit(model, restart="previous noise")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "ddim_uniform", 4)
    comfy.sample.sample_custom(
        model, noise, 1.0, given_result(latents, starts), sigmas, POSITIVE, NEGATIVE, torch.zeros_like(noise), seed=SEED
    )
    alpha_bar = np.prod(1 - SCALED_LINEAR)
    sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5 / 0.18215
    expected = [noise.double()]
    for number in (1, 2):
        low = (latents.double() / 0.18215 + sigma * expected[-1]) / (1 + sigma**2) ** 0.5
        expected.append(low_and_high(low, random_noise(FRAMES, SEED + number)))
    first = float(sigmas[0])
    for start, wanted in zip(starts, expected, strict=True):
        torch.testing.assert_close(start.double(), wanted * first / (1 + first**2) ** 0.5, rtol=0.0, atol=5e-6)


@pytest.mark.parametrize("scheduler", ["normal", "ddim_uniform"])
def test_from_given_frames_only_the_noise_is_mixed(model, scheduler):
    """A run from a video at 0.5, or from one that stays as it is under a mask: low frequencies go on from the result."""
    frames = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    result = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    noise, starts = random_noise(FRAMES), []
    model = with_freeinit(model, iterations=2)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, 8)[4:]
    comfy.sample.sample_custom(
        model, noise, 1.0, given_result(result, starts), sigmas, POSITIVE, NEGATIVE, frames, seed=SEED
    )
    sigma, given = float(sigmas[0]), frames * 0.18215
    expected = low_and_high(result + sigma * noise, given + sigma * fresh_noise(1)[0]) / (1 + sigma**2) ** 0.5
    torch.testing.assert_close(starts[1].double(), expected, rtol=0.0, atol=5e-6)


# --- around a real sampler ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def animated(model, tmp_path_factory):
    with torch.inference_mode():
        path = motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALLEST_MOTION)
        return animate(model, load_motion_model(path))


@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "dpmpp_2m"])
def test_one_iteration_is_without(animated, sampler_name):
    options = {"frames": FRAMES, "sampler_name": sampler_name}
    assert torch.equal(sample(with_freeinit(animated, iterations=1), **options), sample(animated, **options))


def test_a_second_iteration_is_a_second_run(animated):
    """Conditioning with areas and times is worked into each run anew."""
    area = {"area": ("percentage", 0.5, 0.5, 0.25, 0.25), "start_percent": 0.2, "end_percent": 0.9}
    conds = {"positive": [*cond(1), *cond(4, **area)], "negative": NEGATIVE}
    first = sample(animated, frames=FRAMES, steps=3, seed=SEED, **conds)
    alpha_bar = np.prod(1 - SCALED_LINEAR)
    z_t = alpha_bar**0.5 * first * 0.18215 + (1 - alpha_bar) ** 0.5 * random_noise(FRAMES)
    noise = low_and_high(z_t, fresh_noise(1)[0]).float()
    second = comfy.sample.sample(
        animated, noise, 3, 2.0, "euler", "normal", **conds, latent_image=torch.zeros_like(noise), disable_pbar=True, seed=SEED
    )
    found = sample(with_freeinit(animated, iterations=2), frames=FRAMES, steps=3, seed=SEED, **conds)
    assert not torch.allclose(found, first, atol=0.1)
    torch.testing.assert_close(found, second, rtol=0.0, atol=2e-3)
    assert torch.equal(sample(with_freeinit(animated, iterations=2), frames=FRAMES, steps=3, seed=SEED, **conds), found)


@pytest.mark.parametrize("sampler_name", ["euler_ancestral", "dpm_adaptive"])
def test_each_of_several_clips_is_as_if_alone(animated, sampler_name):
    model = with_freeinit(animated)
    settings = SamplerSettings(SEED, 1, 1.0, sampler_name, "normal")
    together = sample_clips(model, POSITIVE, NEGATIVE, {"samples": torch.zeros(2 * FRAMES, 4, SIZE, SIZE)}, 2, settings)
    for clip, found in enumerate(together["samples"].chunk(2)):
        alone = sample(
            model, frames=FRAMES, steps=1, cfg=1.0, seed=SEED + clip, sampler_name=sampler_name, scheduler="normal"
        )
        torch.testing.assert_close(found, alone, rtol=0.0, atol=2e-3)


def test_coarse_to_fine_and_progress(model):
    seen = []
    freed = with_freeinit(model, coarse_to_fine=True)

    def callback(step, x0, x, total_steps):
        seen.append((step, total_steps))

    sample(freed, frames=FRAMES, steps=6, callback=callback)
    assert seen == [(step, 2 + 4 + 6) for step in range(2 + 4 + 6)]


@pytest.mark.parametrize("freenoise_first", [True, False])
def test_with_freenoise_in_either_order(model, freenoise_first):
    order = FreeNoise(3, 1).order(FRAMES, SEED)
    changes = [lambda model: set_freenoise(model, 3, 1, closed_loop=False), lambda model: set_freeinit(model, **DEFAULTS)]
    model = model.clone()
    for change in changes if freenoise_first else reversed(changes):
        change(model)
    recorded = Recorded(model)
    starts: list[torch.Tensor] = []
    result = torch.zeros(FRAMES, 4, SIZE, SIZE)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 4)
    comfy.sample.sample_custom(
        model, random_noise(FRAMES), 1.0, given_result(result, starts), sigmas, POSITIVE, NEGATIVE, result, seed=SEED
    )
    initial = random_noise(FRAMES)[order]
    assert torch.equal(recorded.noises[0], initial)
    z_t = (1 - np.prod(1 - SCALED_LINEAR)) ** 0.5 * initial
    for found, fresh in zip(recorded.noises[1:], fresh_noise(2), strict=True):
        torch.testing.assert_close(found.double(), low_and_high(z_t, fresh[order]), rtol=0.0, atol=5e-6)


def test_set_again_it_replaces_and_branches_stay_apart(model):
    once = with_freeinit(model)
    twice = with_freeinit(once, iterations=2)
    counts = []
    for branch in (model, once, twice):
        watched = branch.clone()
        recorded = Recorded(watched)
        sample(watched, frames=FRAMES, steps=1)
        counts.append(len(recorded.noises))
    assert counts == [1, 3, 2]


def test_under_a_mask_the_frames_stay_as_they_are(model):
    latent = torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    mask = torch.zeros(FRAMES, SIZE, SIZE)
    mask[..., : SIZE // 2] = 1.0
    found = sample(with_freeinit(model), latent=latent, noise_mask=mask)
    torch.testing.assert_close(found[..., SIZE // 2 :], latent[..., SIZE // 2 :], rtol=0.0, atol=1e-4)
    assert not torch.allclose(found[..., : SIZE // 2], latent[..., : SIZE // 2], atol=0.1)


def test_an_interrupt_between_two_runs_stops_and_leaves_nothing_behind(model):
    freed = with_freeinit(model)
    before = sample(freed, frames=FRAMES, steps=2)
    runs = Recorded(freed)

    def callback(step, x0, x, total_steps):
        if step == 1:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(freed, frames=FRAMES, steps=2, callback=callback)
    assert len(runs.noises) == 1
    assert torch.equal(sample(freed, frames=FRAMES, steps=2), before)


def test_says_once_a_run_what_it_does(model, caplog):
    with caplog.at_level(logging.INFO):
        sample(with_freeinit(model, coarse_to_fine=True), frames=FRAMES, steps=6)
    assert [record.message for record in caplog.records if "FreeInit" in record.message] == ["FreeInit: 3 runs of 2, 4, 6 steps."]


# --- what cannot be ----------------------------------------------------------------------------------------------------


def test_runs_that_leave_noise_are_refused(model):
    with pytest.raises(InvalidInput, match="this run leaves noise in them. Let one sampler run all steps"):
        sample(with_freeinit(model), frames=FRAMES, steps=4, last_step=2)
    sample(with_freeinit(model), frames=FRAMES, steps=4, last_step=2, force_full_denoise=True)


def test_runs_without_noise_are_refused(model):
    latent = torch.randn(FRAMES, 4, SIZE, SIZE)
    with pytest.raises(InvalidInput, match="this run has none. Let the sampler add noise"):
        comfy.sample.sample(
            with_freeinit(model), torch.zeros_like(latent), 2, 1.0, "euler", "normal", POSITIVE, NEGATIVE, latent, seed=SEED
        )


def test_latents_of_video_models_are_refused(model):
    latent = torch.zeros(1, 4, FRAMES, SIZE, SIZE)
    with pytest.raises(InvalidInput, match="this one is a video model's. Remove FreeInit."):
        comfy.sample.sample(
            with_freeinit(model), torch.randn(latent.shape), 2, 1.0, "euler", "normal", POSITIVE, NEGATIVE, latent, seed=SEED
        )


@pytest.mark.parametrize("freenoise", [True, False])
def test_core_s_own_freenoise_is_refused(model, freenoise):
    node = comfy_extras.nodes_context_windows.ContextWindowsManualNode
    windowed = node.execute(model, 4, 1, "standard_static", 1, False, "pyramid", 0, freenoise, causal_window_fix=False)[0]
    freed = with_freeinit(windowed)
    if freenoise:
        with pytest.raises(InvalidInput, match="would shuffle what FreeInit keeps from run to run. Turn it off there"):
            sample(freed, frames=FRAMES)
    else:
        assert not torch.equal(sample(freed, frames=FRAMES), sample(windowed, frames=FRAMES))
