"""Starting Noise around a real sampler, alone, with clips, FreeNoise and FreeInit."""

from __future__ import annotations

import comfy.sample
import pytest
import torch
from pack.animation.noise_shuffle import FreeNoise, Shuffle
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.noise import ApplyFreeNoiseNode, FreeInitNode, StartingNoiseNode

from .test_freenoise import Recorded, random_noise
from .world import NEGATIVE, POSITIVE, SMALLEST_UNET, make_model, sample

FRAMES, SEED = 6, 3


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


def drawn(model, **inputs):
    return StartingNoiseNode.execute(model, **inputs)[0]


def test_only_the_start_has_another_seed(model):
    """What a sampler draws at each step comes from its own."""
    changed = drawn(model, seed_offset=2)
    options = {"sampler_name": "euler_ancestral", "steps": 3, "frames": FRAMES}
    expected = comfy.sample.sample(
        model, random_noise(FRAMES, SEED + 2), 3, 2.0, "euler_ancestral", "normal", POSITIVE, NEGATIVE,
        torch.zeros(FRAMES, 4, 8, 8), disable_pbar=True, seed=SEED,
    )  # fmt: skip
    assert torch.equal(sample(changed, seed=SEED, **options), expected)
    assert torch.equal(sample(drawn(model, seed=SEED + 2), seed=SEED, **options), expected)
    assert not torch.equal(sample(changed, seed=SEED + 2, **options), expected)
    assert torch.equal(sample(drawn(changed), seed=SEED, **options), sample(model, seed=SEED, **options))  # the last one counts


def test_no_noise_is_a_sampler_that_adds_none(model):
    latent = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    without = (torch.zeros_like(latent), 2, 2.0, "euler", "normal", POSITIVE, NEGATIVE, latent)
    expected = comfy.sample.sample(model, *without, denoise=0.5, disable_pbar=True, seed=SEED)
    assert torch.equal(sample(drawn(model, noise="none"), latent=latent, denoise=0.5, seed=SEED), expected)
    kept = comfy.sample.sample(drawn(model, seed_offset=1), *without, denoise=0.5, disable_pbar=True, seed=SEED)
    assert torch.equal(kept, expected)


@pytest.mark.parametrize("sampler_name", ["euler", "dpm_adaptive"])
def test_each_of_several_clips_is_as_if_alone(model, sampler_name):
    changed = ApplyFreeNoiseNode.execute(drawn(model, seed_offset=5, seeding="a seed per frame", first_frame=1), 3, 1)[0]
    together = Recorded(changed)
    settings = SamplerSettings(SEED, 1, 1.0, sampler_name, "normal")
    sample_clips(changed, POSITIVE, NEGATIVE, {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}, 2, settings)
    for clip, noise in enumerate(torch.cat(together.noises).chunk(2)):
        alone = Recorded(changed)
        sample(changed, frames=FRAMES, seed=SEED + clip, steps=1)
        assert torch.equal(noise, alone.noises[0])


@pytest.mark.parametrize("drawn_first", [True, False])
def test_freenoise_shuffles_what_is_drawn_by_its_seed(model, drawn_first):
    changes = [
        lambda model: drawn(model, seed_offset=5),
        lambda model: ApplyFreeNoiseNode.execute(model, 3, 1, freenoise_order="as published")[0],
    ]
    changed = model
    for change in changes if drawn_first else reversed(changes):
        changed = change(changed)
    recorded = Recorded(changed)
    sample(changed, frames=FRAMES, seed=SEED, steps=1)
    order = FreeNoise(3, 1, shuffle=Shuffle.PUBLISHED).order(FRAMES, SEED + 5)
    assert torch.equal(recorded.noises[0], random_noise(FRAMES, SEED + 5)[order])


@pytest.mark.parametrize("restart", ["first noise", "previous noise"])
def test_freeinit_draws_its_new_noise_likewise(model, restart):
    """With nothing kept of the result, a second run starts from what is drawn."""
    changed = FreeInitNode.execute(drawn(model, seed_offset=5, noise="again in every window", context_length=4), 3, restart_from=restart, spatial_cutoff=0.0)[0]
    recorded = Recorded(changed)
    sample(changed, frames=FRAMES, seed=SEED, steps=1)
    for number, noise in enumerate(recorded.noises):
        torch.testing.assert_close(noise, random_noise(FRAMES, SEED + 5 + number)[[0, 1, 2, 3, 0, 1]], rtol=0.0, atol=1e-5)


def test_latents_of_video_models_are_refused(model):
    with pytest.raises(InvalidInput, match="this one is a video model's. Remove Starting Noise."):
        sample(drawn(model), latent=torch.zeros(1, 4, FRAMES, 8, 8))
