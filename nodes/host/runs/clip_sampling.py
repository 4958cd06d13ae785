"""Sampling several clips as one batch, each as if it were alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import comfy.k_diffusion.sampling as k_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....motion_models.errors import InvalidInput
from ..motion.context_windows import set_automatic_windows
from ..motion.control_hints import changed_hints, controls_of, cuts_for_itself
from ..motion.other_packs import evolved_decides
from ..types import CLIPS_KEY, SHARE_KEY, WARNED_KEY
from .clip_conds import ClipShare
from .clip_seeds import clip_seed
from .preview import animation_preview


class SamplerSettings(NamedTuple):
    """KSampler's inputs, under its names."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0


def sample_clips(
    model: ModelPatcher, positive: list, negative: list, latent: dict[str, Any], clips: int, settings: SamplerSettings
) -> dict[str, Any]:
    """Sample a latent whose batch is ``clips`` clips of equal length, one after the other; ``InvalidInput`` if it is not.

    Clip i is what it would be alone with seed + i; the clips never see one another. One clip is KSampler, bit for bit.
    """
    downscale = [latent.get(f"downscale_ratio_{over}") for over in ("spacial", "temporal")]
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], *downscale)
    total = samples.shape[0]
    if total % clips:
        raise InvalidInput(
            f"{total} frames cannot be split evenly into {clips} clips. Make the latent's number of frames a multiple "
            f"of clips: {clips} clips of 16 frames are {16 * clips} frames."
        )
    frames = total // clips
    parts = [slice(clip * frames, (clip + 1) * frames) for clip in range(clips)]
    seeds = [clip_seed(settings.seed, clip) for clip in range(clips)]
    batch_index, noise_mask = latent.get("batch_index"), latent.get("noise_mask")
    noise = torch.cat([
        comfy.sample.prepare_noise(samples[part], seed, batch_index and batch_index[part])
        for part, seed in zip(parts, seeds, strict=True)
    ])
    model = model.clone()
    schedule = (settings.steps, model.load_device, settings.sampler_name, settings.scheduler, settings.denoise)
    sigmas = comfy.samplers.KSampler(model, *schedule, model.model_options).sigmas
    run = _Run(model, positive, negative, samples, noise, noise_mask, settings.cfg, sigmas)
    sampler, steps = comfy.samplers.sampler_object(settings.sampler_name), max(1, len(sigmas) - 1)
    if clips > 1:
        set_automatic_windows(model, model.model_options, frames)
    if clips > 1 and _needs_one_at_a_time(run, sampler, settings.sampler_name):
        callbacks = animation_preview(model, steps, clips)
        sampled = torch.cat([run(sampler, seeds[clip], callbacks(clip), part) for clip, part in enumerate(parts)])
    else:
        if clips > 1:
            sampler = with_noise_of_seeds(sampler, settings.sampler_name, seeds)
        sampled = run(sampler, settings.seed, animation_preview(model, steps)(0), clips=clips)
    out = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return {**out, "samples": sampled}


class _Run(NamedTuple):
    """What all runs of the sampler for one latent share; ``model`` is a clone of the caller's."""

    model: ModelPatcher
    positive: list
    negative: list
    samples: Tensor
    noise: Tensor
    noise_mask: Tensor | None
    cfg: float
    sigmas: Tensor

    @property
    def controls(self) -> list[ControlBase]:
        return controls_of(options for _, options in (*self.positive, *self.negative))

    def __call__(self, sampler, seed: int, callback: Callable, part: slice = slice(None), clips: int = 1) -> Tensor:
        """Sample a part of the frames, which are ``clips`` clips."""
        noise = self.noise[part]
        frames = len(noise) // clips
        options = {CLIPS_KEY: clips, WARNED_KEY: bool(part.start), SHARE_KEY: ((part.start or 0) // frames, len(self.noise) // frames)}
        self.model.model_options["transformer_options"] |= options
        share = ClipShare(len(self.noise), frames, part)
        mask = None if self.noise_mask is None else share.of(self.noise_mask)
        positive, negative = share.of_conds(self.positive), share.of_conds(self.negative)
        with changed_hints(self.controls, share.of):
            return comfy.sample.sample_custom(
                self.model, noise, self.cfg, sampler, self.sigmas, positive, negative, self.samples[part],
                noise_mask=mask, callback=callback, disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=seed,
            )  # fmt: skip


def _needs_one_at_a_time(run: _Run, sampler, name: str) -> bool:
    """Whether clips would influence each other in one batch, or are cut up over it by context windows."""
    return (
        name == "dpm_adaptive"  # chooses its step size by the whole batch
        or not sampler.sampler_function.__module__.startswith("comfy.")  # where its noise comes from is not known
        or (run.noise_mask is not None and bool(sampler.inpaint_options))  # noise drawn for the batch as a whole
        or run.model.model_options.get("context_handler") is not None
        or evolved_decides(run.model, len(run.noise))
        or any(map(cuts_for_itself, run.controls))  # by numbers that each frame must have once in a batch
    )


def with_noise_of_seeds(sampler: comfy.samplers.KSAMPLER, name: str, seeds: list[int]):
    """Give a stochastic sampler, for each clip, the noise that it would draw for that clip alone."""
    function = sampler.sampler_function
    if "noise_sampler" not in inspect.signature(function).parameters:
        return sampler

    @wraps(function)  # a sampler is told by its function's name
    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options):
        clips = zip(x.chunk(len(seeds)), seeds, strict=True)
        noise_samplers = [_noise_sampler(name, clip, sigmas, seed) for clip, seed in clips]

        def noise_sampler(sigma, sigma_next) -> Tensor:
            return torch.cat([draw(sigma, sigma_next) for draw in noise_samplers])

        return function(model, x, sigmas, extra_args, callback, disable, noise_sampler=noise_sampler, **options)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)


def _noise_sampler(sampler_name: str, x: Tensor, sigmas: Tensor, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The noise sampler that core's sampler of this name makes for itself."""
    if not (sampler_name.startswith("dpmpp_") and "_sde" in sampler_name):
        return k_sampling.default_noise_sampler(x, seed=seed)
    return k_sampling.BrownianTreeNoiseSampler(
        x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=not sampler_name.endswith("_gpu")
    )
