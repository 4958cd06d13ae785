"""FreeNoise around a real sampler, and as a NOISE for samplers that take one."""

from __future__ import annotations

import logging

import comfy.patcher_extension
import comfy.sample
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from pack.animation.noise_shuffle import FreeNoise
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.run_wrappers import FREENOISE_KEY, setting_of
from pack.nodes.host.runs.starting_noise import FreeNoiseSource, set_freenoise

from .world import NEGATIVE, POSITIVE, SMALLEST_UNET, make_model, sample

FRAMES, SEED = 10, 3
WINDOWS = (4, 1)


class Recorded:
    """Stands innermost around a run, and keeps what the run was given."""

    def __init__(self, model):
        self.noises, self.latents = [], []
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "recorded", self)

    def __call__(self, executor, noise, latent_image, *args, **kwargs):
        self.noises.append(noise.clone())
        self.latents.append(latent_image.clone())
        return executor(noise, latent_image, *args, **kwargs)


def freed(model, *windows, closed_loop=False, **options):
    model = model.clone()
    set_freenoise(model, *(windows or WINDOWS), closed_loop, **options)
    return model


def random_noise(frames: int, seed: int = SEED, size: int = 8) -> torch.Tensor:
    return comfy.sample.prepare_noise(torch.zeros(frames, 4, size, size), seed)


def test_a_run_starts_from_its_noise_in_freenoises_order():
    model = freed(make_model(**SMALLEST_UNET))
    recorded = Recorded(model)
    latent = torch.randn(FRAMES, 4, 8, 8)
    noise = random_noise(FRAMES)
    kept = noise.clone()
    options = {"sampler_name": "euler", "scheduler": "normal", "denoise": 0.5, "seed": SEED, "disable_pbar": True}
    for _ in range(2):
        comfy.sample.sample(model, noise, 2, 1.0, positive=POSITIVE, negative=NEGATIVE, latent_image=latent, **options)
    expected = noise[FreeNoise(*WINDOWS).order(FRAMES, SEED)]
    assert not torch.equal(expected, noise)
    assert all(torch.equal(found, expected) for found in recorded.noises)
    assert torch.equal(recorded.latents[0], latent)  # video to video: what it starts from is not touched
    assert torch.equal(noise, kept)


def test_one_window_is_as_without():
    model = make_model(**SMALLEST_UNET)
    assert torch.equal(sample(freed(model), frames=4), sample(model, frames=4))


def test_set_again_it_replaces_and_branches_stay_apart():
    model = make_model(**SMALLEST_UNET)
    once = freed(model)
    twice = freed(once, 6, 2, closed_loop=True)
    assert setting_of(model, FREENOISE_KEY) is None
    assert setting_of(once, FREENOISE_KEY) == FreeNoise(4, 1)
    assert setting_of(twice, FREENOISE_KEY) == FreeNoise(6, 2, True)
    recorded = Recorded(twice)
    sample(twice, frames=FRAMES, seed=SEED)
    assert torch.equal(recorded.noises[0], random_noise(FRAMES)[FreeNoise(6, 2, True).order(FRAMES, SEED)])


@pytest.mark.parametrize("sampler_name", ["euler", "dpm_adaptive"])
def test_each_of_several_clips_is_as_if_alone(sampler_name):
    model = freed(make_model(**SMALLEST_UNET))
    latent = torch.zeros(2 * FRAMES, 4, 8, 8)
    settings = SamplerSettings(SEED, 1, 1.0, sampler_name, "normal")
    together = Recorded(model)
    sample_clips(model, POSITIVE, NEGATIVE, {"samples": latent}, 2, settings)
    for clip, noise in enumerate(torch.cat(together.noises).chunk(2)):
        alone = Recorded(model)
        sample(model, frames=FRAMES, seed=SEED + clip, steps=1)
        assert torch.equal(noise, alone.noises[0])


def test_says_once_a_run_that_it_is_there(caplog):
    model = freed(make_model(**SMALLEST_UNET))
    with caplog.at_level(logging.INFO):
        sample(model, frames=FRAMES)
    said = [record.message for record in caplog.records if "FreeNoise" in record.message]
    assert said == ["FreeNoise for windows of 4 frames."]


# --- a NOISE ----------------------------------------------------------------------------------------------------------


def source(*windows, **options):
    return FreeNoiseSource(SEED, FreeNoise(*(windows or WINDOWS), **options))


def latent(frames: int, height: int = 8, width: int = 8, **more):
    return {"samples": torch.zeros(frames, 4, height, width), **more}


def test_a_noise_is_random_noise_in_freenoises_order():
    found = source().generate_noise(latent(FRAMES))
    plain = Noise_RandomNoise(SEED).generate_noise(latent(FRAMES))
    assert torch.equal(found, plain[FreeNoise(*WINDOWS).order(FRAMES, SEED)])
    assert torch.equal(found[:4], plain[:4])


@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_a_frames_noise_does_not_depend_on_how_many_follow(size):
    longest = source().generate_noise(latent(20, *size))
    for frames in (1, 4, 5, 11, 19):
        assert torch.equal(source().generate_noise(latent(frames, *size)), longest[:frames])


def test_the_global_generator_is_not_asked_for_the_order():
    torch.manual_seed(5)
    first = source().generate_noise(latent(FRAMES))
    torch.manual_seed(6)
    assert torch.equal(source().generate_noise(latent(FRAMES)), first)


def test_frames_taken_out_of_a_batch_have_the_noise_that_they_had_in_it():
    whole = source().generate_noise(latent(20))
    part = source().generate_noise(latent(6, batch_index=list(range(9, 15))))
    assert torch.equal(part, whole[9:15])


def test_latents_of_video_models_are_refused():
    with pytest.raises(InvalidInput, match="FreeNoise needs a latent whose batch holds the frames"):
        source().generate_noise({"samples": torch.zeros(1, 16, 4, 8, 8)})
    with pytest.raises(InvalidInput, match="this one is a video model's. Remove Apply FreeNoise."):
        sample(freed(make_model(**SMALLEST_UNET)), latent=torch.zeros(1, 4, 8, 8, 8))


def test_windows_that_cannot_be_are_refused_and_nothing_is_set():
    model = make_model(**SMALLEST_UNET)
    with pytest.raises(InvalidInput, match="context_overlap 4 does not fit windows of 4 frames. Use 0 to 3."):
        set_freenoise(model, 4, 4, False)
    assert setting_of(model, FREENOISE_KEY) is None
