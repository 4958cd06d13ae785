"""Noise, targets and loss of training, against their definitions and diffusers' schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from pack.motion_models.beta_schedules import BETA_SCHEDULES, LINEAR
from pack.motion_models.training.losses import NoiseSchedule, draw_timestep, squared_error
from pack.motion_models.training.settings import EPS, V

TIMESTEPS = torch.tensor([0, 1, 250, 500, 998, 999])


@pytest.fixture
def drawn():
    return torch.randn(6, 16, 4, 3, 3), torch.randn(6, 16, 4, 3, 3)


def diffusers_scheduler(name: str, zero_terminal_snr: bool) -> DDPMScheduler:
    schedule = BETA_SCHEDULES[name]
    return DDPMScheduler(
        beta_start=schedule.start, beta_end=schedule.end, beta_schedule="scaled_linear" if schedule.scaled else "linear",
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def test_signal_is_the_product_of_one_minus_beta():
    schedule = NoiseSchedule(LINEAR)
    product = 1.0
    for step in range(1000):
        product *= 1 - (0.00085 + (0.012 - 0.00085) * step / 999)
        assert schedule.signal[step].item() == pytest.approx(math.sqrt(product), rel=1e-6)
        assert schedule.noise[step].item() == pytest.approx(math.sqrt(1 - product), rel=1e-6)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_equals_diffusers(name, zero_terminal_snr, drawn):
    latents, noise = drawn
    ours, theirs = NoiseSchedule(name, zero_terminal_snr), diffusers_scheduler(name, zero_terminal_snr)
    torch.testing.assert_close(
        ours.add_noise(latents, noise, TIMESTEPS), theirs.add_noise(latents, noise, TIMESTEPS), atol=2e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        ours.target(V, latents, noise, TIMESTEPS), theirs.get_velocity(latents, noise, TIMESTEPS), atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_the_clean_latents_follow_from_either_answer(name, drawn):
    latents, noise = drawn
    schedule = NoiseSchedule(name)
    signal, spread = (factors[TIMESTEPS].view(-1, 1, 1, 1, 1) for factors in (schedule.signal, schedule.noise))
    noisy = schedule.add_noise(latents, noise, TIMESTEPS)
    velocity = schedule.target(V, latents, noise, TIMESTEPS)
    torch.testing.assert_close(signal * noisy - spread * velocity, latents, atol=1e-5, rtol=0)
    assert torch.equal(schedule.target(EPS, latents, noise, TIMESTEPS), noise)


def test_zero_terminal_snr_ends_in_noise_alone(drawn):
    latents, noise = drawn
    schedule = NoiseSchedule(LINEAR, zero_terminal_snr=True)
    last = torch.full((6,), 999)
    assert torch.equal(schedule.add_noise(latents, noise, last), noise)
    assert torch.equal(schedule.target(V, latents, noise, last), -latents)
    assert schedule.signal[0] == NoiseSchedule(LINEAR).signal[0]


def test_the_loss_is_taken_in_float32():
    prediction, target = torch.full((1000,), 1.0).bfloat16(), torch.full((1000,), 1.001)
    assert squared_error(prediction, target).item() == pytest.approx(1e-6, rel=1e-3)
    assert squared_error(prediction, target).dtype == torch.float32


@pytest.mark.parametrize("shift", [0.5, 1.0, 4.0])
def test_timesteps_are_drawn_as_the_shift_says(shift):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw_timestep(shift, generator) for _ in range(4000)])
    assert drawn.min() >= 0
    assert drawn.max() <= 999
    for share in (0.2, 0.5, 0.8):
        # The share of draws below the shifted timestep is the share itself.
        below = (drawn < 1000 * shift * share / (1 + (shift - 1) * share)).float().mean().item()
        assert below == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("prediction", [EPS, V])
def test_the_weighted_error_is_the_velocitys(prediction, drawn):
    """From the definition: the velocity that a prediction stands for, against the true one."""
    latents, noise = drawn
    schedule = NoiseSchedule(LINEAR)
    timesteps = torch.tensor([0, 1, 250, 500, 800, 999])
    signal, sigma = (factor[timesteps].view(-1, 1, 1, 1, 1) for factor in (schedule.signal, schedule.noise))
    noisy = schedule.add_noise(latents, noise, timesteps)
    target = schedule.target(prediction, latents, noise, timesteps)
    predicted = target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    velocity = predicted
    if prediction == EPS:
        velocity = signal * predicted - sigma * (noisy - sigma * predicted) / signal
    expected = (velocity - (signal * noise - sigma * latents)).square().mean()
    weight = schedule.velocity_weight(prediction, timesteps)
    torch.testing.assert_close(squared_error(predicted, target, weight), expected, rtol=1e-3, atol=0)
