"""Shared noise around a real sampler, alone and with FreeNoise and FreeInit."""

from __future__ import annotations

import comfy.sample
import pytest
import torch
from pack.animation.noise_shuffle import FreeNoise
from pack.animation.shared_noise import SharedNoise
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.freeinit_runs import set_freeinit
from pack.nodes.host.runs.run_wrappers import SHARED_NOISE_KEY, setting_of
from pack.nodes.host.runs.starting_noise import set_freenoise, set_shared_noise
from pack.nodes.noise import SharedNoiseNode

from .test_freenoise import Recorded, random_noise
from .world import NEGATIVE, POSITIVE, SMALLEST_UNET, make_model, sample

FRAMES, SEED, CUTOFF = 6, 3, 0.3


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


def shared(model, cutoff=CUTOFF):
    model = model.clone()
    set_shared_noise(model, cutoff)
    return model


def test_a_run_starts_from_shared_noise_and_all_else_stays(model):
    changed = shared(model)
    recorded = Recorded(changed)
    noise, latent = random_noise(FRAMES), torch.randn(FRAMES, 4, 8, 8)
    kept = noise.clone()
    comfy.sample.sample(changed, noise, 2, 1.0, "euler", "normal", POSITIVE, NEGATIVE, latent, denoise=0.5, seed=SEED)
    assert torch.equal(recorded.noises[0], SharedNoise(CUTOFF).share(kept))
    assert torch.equal(recorded.latents[0], latent)
    assert torch.equal(noise, kept)


def test_set_again_it_replaces_and_branches_stay_apart(model):
    once = SharedNoiseNode.execute(model, 0.2)[0]
    twice = SharedNoiseNode.execute(once, 0.6)[0]
    assert setting_of(model, SHARED_NOISE_KEY) is None
    assert setting_of(once, SHARED_NOISE_KEY) == SharedNoise(0.2)
    assert setting_of(twice, SHARED_NOISE_KEY) == SharedNoise(0.6)
    recorded = Recorded(twice)
    sample(twice, frames=FRAMES, seed=SEED, steps=1)
    assert torch.equal(recorded.noises[0], SharedNoise(0.6).share(random_noise(FRAMES)))


def test_one_frame_is_as_without(model):
    assert torch.equal(sample(shared(model), frames=1), sample(model, frames=1))


@pytest.mark.parametrize("sampler_name", ["euler", "dpm_adaptive"])
def test_each_of_several_clips_is_as_if_alone(model, sampler_name):
    changed = shared(model)
    together = Recorded(changed)
    settings = SamplerSettings(SEED, 1, 1.0, sampler_name, "normal")
    sample_clips(changed, POSITIVE, NEGATIVE, {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}, 2, settings)
    for clip, noise in enumerate(torch.cat(together.noises).chunk(2)):
        assert torch.equal(noise, SharedNoise(CUTOFF).share(random_noise(FRAMES, SEED + clip)))


@pytest.mark.parametrize("shared_first", [True, False])
def test_with_freenoise_in_either_order(model, shared_first):
    changes = [lambda model: set_shared_noise(model, CUTOFF), lambda model: set_freenoise(model, 3, 1, closed_loop=False)]
    changed = model.clone()
    for change in changes if shared_first else reversed(changes):
        change(changed)
    recorded = Recorded(changed)
    sample(changed, frames=FRAMES, seed=SEED, steps=1)
    order = FreeNoise(3, 1).order(FRAMES, SEED)
    assert torch.equal(recorded.noises[0], SharedNoise(CUTOFF).share(random_noise(FRAMES)[order]))


@pytest.mark.parametrize("shared_first", [True, False])
def test_freeinit_draws_shared_noise_anew(model, shared_first):
    """With nothing kept of the result, a second run starts from what is drawn, which is shared."""
    options = {"low_pass": "butterworth", "spatial_cutoff": 0.0, "temporal_cutoff": 0.0, "order": 4, "coarse_to_fine": False}
    changes = [lambda model: set_shared_noise(model, CUTOFF), lambda model: set_freeinit(model, 2, **options)]
    changed = model.clone()
    for change in changes if shared_first else reversed(changes):
        change(changed)
    recorded = Recorded(changed)
    sample(changed, frames=FRAMES, seed=SEED, steps=1)
    first, second = recorded.noises
    assert torch.equal(first, SharedNoise(CUTOFF).share(random_noise(FRAMES)))
    generator = torch.Generator().manual_seed(SEED)
    _, fresh = (torch.randn(FRAMES, 4, 8, 8, generator=generator) for _ in range(2))
    torch.testing.assert_close(second, SharedNoise(CUTOFF).share(fresh), rtol=0.0, atol=1e-5)


def test_latents_of_video_models_are_refused(model):
    latent = torch.zeros(1, 4, FRAMES, 8, 8)
    with pytest.raises(InvalidInput, match="this one is a video model's. Remove Shared Noise."):
        comfy.sample.sample(
            shared(model), torch.randn(latent.shape), 2, 1.0, "euler", "normal", POSITIVE, NEGATIVE, latent, seed=SEED
        )


def test_other_cutoffs_are_refused(model):
    with pytest.raises(ValueError, match="cutoff is 1.5, but it must be a number from 0.0 to 1.0."):
        SharedNoiseNode.execute(model, 1.5)
