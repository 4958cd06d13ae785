"""The warp start's arithmetic against diffusers' Text2Video-Zero and against its definitions."""

from __future__ import annotations

import sys

import pytest
import torch
from diffusers import DDIMScheduler, TextToVideoZeroPipeline
from pack.animation.latent_warp import add_noise, plan_warp_start, warp

diffusers_zero = sys.modules[TextToVideoZeroPipeline.__module__]

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ALPHA_BAR = DDIMScheduler(**BETAS).alphas_cumprod.double()
SIGMAS = ((1 - ALPHA_BAR) / ALPHA_BAR).sqrt()


# --- warp -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("motion", [(12.0, 12.0), (12.0, 0.0), (-12.0, 7.0), (0.0, 0.0), (100.0, -333.3), (1.0, 2.0)])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (8, 8), (96, 64), (48, 80), (128, 128)])
def test_equals_diffusers(motion, height, width):
    picture, frames = torch.randn(1, 4, height, width), 8
    theirs = diffusers_zero.create_motion_field_and_warp_latents(*motion, list(range(1, frames)), picture.repeat(frames - 1, 1, 1, 1))
    ours = warp(picture, frames, *motion)
    assert ours.shape == (1, frames, 4, height, width)
    assert torch.equal(ours[:, 0], picture)
    assert torch.equal(ours[0, 1:], theirs)


def test_the_camera_moves_right_and_down():
    """The picture goes the other way: a dot moves left and up, 16 pixels of 512 (2 of 64 in the latent) a frame."""
    picture = torch.zeros(1, 1, 64, 64)
    picture[..., 30, 40] = 1.0
    for frame, moved in enumerate(warp(picture, 4, 16.0, 8.0)[0]):
        assert moved[0].nonzero().tolist() == [[30 - frame, 40 - 2 * frame]]


def test_motion_is_in_proportion_to_the_size():
    """A picture twice as wide moves twice as many pixels."""
    wide = torch.zeros(1, 1, 8, 128)
    wide[..., 4, 100] = 1.0
    assert [moved[0].nonzero().tolist() for moved in warp(wide, 3, 16.0, 0.0)[0]] == [[[4, 100 - 4 * k]] for k in range(3)]


def test_edges_are_mirrored_however_far_the_camera_goes():
    row = torch.arange(4.0).view(1, 1, 1, 4)
    frames = warp(row, 5, 256.0, 0.0)  # half of the width, 2 places, a frame
    assert frames[0, :, 0, 0].tolist() == [[0, 1, 2, 3], [2, 3, 3, 2], [3, 2, 1, 0], [1, 0, 0, 1], [0, 1, 2, 3]]


def test_clips_are_warped_alike():
    pictures = torch.randn(3, 4, 8, 8)
    together = warp(pictures, 4, 50.0, -30.0)
    for clip, picture in enumerate(pictures):
        assert torch.equal(together[clip], warp(picture[None], 4, 50.0, -30.0)[0])


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t0", "t1"), [(881, 941), (1, 999), (500, 501), (700, 700)])
def test_forward_process_equals_diffusers(t0, t1):
    """With latents brought to the paper's scale and back. Its product runs over t0 + 1 to t1; diffusers' slice is one less."""
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"))
    pipeline = TextToVideoZeroPipeline(**parts, scheduler=DDIMScheduler(**BETAS), requires_safety_checker=False)
    x, seed = torch.randn(2, 4, 8, 8, dtype=torch.float64), 5
    theirs = pipeline.forward_loop(x * ALPHA_BAR[t0].sqrt(), t0 + 1, t1 + 1, torch.Generator().manual_seed(seed))
    noise = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = add_noise(x, noise, float(SIGMAS[t0]), float(SIGMAS[t1]))
    torch.testing.assert_close(ours * ALPHA_BAR[t1].sqrt(), theirs, atol=1e-5, rtol=1e-5)


def test_noise_reaches_the_sigma_of_t1():
    """x0 + sigma_0 * noise becomes x0 + sigma_1 * noise, in variance."""
    noisy = add_noise(3.0 * torch.randn(200, 4, 32, 32), torch.randn(200, 4, 32, 32), 3.0, 5.0)
    assert abs(noisy.std().item() - 5.0) < 0.02


# --- schedule ---------------------------------------------------------------------------------------------------------


def plan(timesteps: list[int], t0: int = 881, t1: int = 941):
    """Plan on timesteps, told back as timesteps; -1 is sigma 0."""
    sigmas = torch.tensor([SIGMAS[t] if t >= 0 else 0.0 for t in timesteps], dtype=torch.float64)
    found = plan_warp_start(sigmas, float(SIGMAS[t0]), float(SIGMAS[t1]))
    if found is None:
        return None

    def back(part: torch.Tensor) -> list[int]:
        return [int((SIGMAS - sigma).abs().argmin()) if sigma > 0 else -1 for sigma in part]

    return back(found.to_t1), back(found.from_t1_to_t0), back(found.from_t1)


def test_the_papers_fifty_steps():
    """As in the paper and diffusers, where t1 = 941 and t0 = 881 are steps of the schedule."""
    timesteps = list(range(981, 0, -20))
    assert plan([*timesteps, -1]) == ([981, 961, 941], [941, 921, 901, 881], [*timesteps[2:], -1])


def test_the_nearest_steps_are_moved():
    twenty = [999, 946, 894, 841, 789, -1]
    assert plan(twenty) == ([999, 941], [941, 881], [941, 894, 841, 789, -1])


def test_few_steps_keep_their_number():
    assert plan([999, 666, 333, -1]) == ([999, 941], [941, 881], [941, 666, 333, -1])
    assert plan([999, -1]) == ([999, 941], [941, 881], [941, -1])


def test_a_run_that_starts_between_t1_and_t0_starts_there():
    assert plan([921, 800, 700, -1]) == ([921], [921, 881], [921, 800, 700, -1])
    assert plan([941, 800, 700, -1]) == ([941], [941, 881], [941, 800, 700, -1])


def test_a_run_may_end_early():
    assert plan([999, 941, 921, 900]) == ([999, 941], [941, 921, 881], [941, 921, 900])


def test_no_place_for_a_warp_start():
    assert plan([881, 500, -1]) is None  # starts at t0
    assert plan([500, 250, -1]) is None  # starts below
    assert plan([999, 970, 950]) is None  # ends above t1
    assert plan([-1, 500, 999]) is None  # goes upwards


def test_t0_may_be_t1():
    assert plan([999, 946, 894, -1], t0=941) == ([999, 941], [941, 941], [941, 894, -1])


@pytest.mark.parametrize("steps", range(1, 60))
def test_every_schedule_goes_down_to_its_end(steps):
    timesteps = torch.linspace(999, 0, steps + 1).round().long()
    sigmas = torch.cat([SIGMAS[timesteps[:-1]], torch.zeros(1, dtype=torch.float64)])
    for t0, t1 in ((881, 941), (1, 999), (500, 501), (300, 900)):
        found = plan_warp_start(sigmas, float(SIGMAS[t0]), float(SIGMAS[t1]))
        assert (found.sigmas.diff() < 0).all()
        assert (found.from_t1_to_t0.diff() < 0).all()
        assert (found.sigmas[0], found.sigmas[-1]) == (sigmas[0], 0.0)
        assert found.to_t1[-1] == found.from_t1_to_t0[0] == found.from_t1[0]
        assert len(sigmas) <= len(found.sigmas) <= len(sigmas) + 1
        # Context windows look the step up in the run's sigmas; t0's own is where the first frame stops.
        assert {*found.sigmas.tolist()} >= {*found.from_t1_to_t0[:-1].tolist()}
