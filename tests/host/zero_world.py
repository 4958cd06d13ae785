"""What Text2Video-Zero's host tests share: a tiny model, the node's settings, sampling with every string in hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.samplers
import torch
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.zero_shot_video import FIRST, OFF, Text2VideoZeroSettings, apply_text2video_zero

from .world import NEGATIVE, POSITIVE, SMALLEST_UNET, make_model, sample

FRAMES = 4


def make_small_model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


def zero(model, **settings):
    return apply_text2video_zero(model, Text2VideoZeroSettings(**settings))


def attention_only(model, anchor=FIRST, **settings):
    return zero(model, anchor=anchor, warp_start=False, **settings)


def warp_only(model, **settings):
    return zero(model, anchor=OFF, **settings)


def run(model, steps=4, frames=FRAMES, **options):
    return sample(model, frames=frames, steps=steps, **options)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def guided(model, noise, sigmas, cfg=2.0, sampler_name="euler", latent=None, **options):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(cfg)
    sampler = comfy.samplers.sampler_object(sampler_name)
    latent = torch.zeros_like(noise) if latent is None else latent
    return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=5, **options)


def sigmas_of(model, steps: int) -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)


def clips_of(model, source, clips=1, seed=11, positive=POSITIVE, **settings):
    settings = {"steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", **settings}
    return sample_clips(model, positive, NEGATIVE, source, clips, SamplerSettings(seed, **settings))["samples"]


@contextmanager
def calls_of(model) -> Iterator[list[tuple[int, float]]]:
    """(batch, sigma) of every call of the UNet."""
    record = []

    def note(unet, args, kwargs):
        record.append((args[0].shape[0], kwargs["transformer_options"]["sigmas"][0].item()))

    hook = model.model.diffusion_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield record
    finally:
        hook.remove()
