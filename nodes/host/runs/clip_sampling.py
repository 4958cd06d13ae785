"""Sampling several clips as one batch, each as if it were alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import comfy.k_diffusion.sampling as k_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....motion_models.errors import InvalidInput
from ..motion.context_windows import set_automatic_windows
from ..motion.control_hints import changed_hints, controls_of
from ..types import CLIPS_KEY, WARNED_KEY
from .clip_conds import ClipShare
from .clip_seeds import clip_seed
from .preview import animation_preview

# These choose their step size, or their noise, by the whole batch.
_ONE_CLIP_AT_A_TIME = frozenset({"dpm_adaptive"})


@dataclass(frozen=True)
class SamplerSettings:
    """KSampler's inputs, under its names."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0


def sample_clips(
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    clips: int,
    settings: SamplerSettings,
) -> dict[str, Any]:
    """Sample a latent whose batch is ``clips`` clips of equal length, one after the other.

    Clip i is what it would be alone with seed + i; the clips never see one another. With one clip this is KSampler, bit
    for bit.

    Raises:
        InvalidInput: the frames cannot be split evenly into clips.
    """
    samples = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    total = samples.shape[0]
    if total % clips:
        raise InvalidInput(
            f"{total} frames cannot be split evenly into {clips} clips. Make the latent's number of frames a multiple "
            f"of clips: {clips} clips of 16 frames are {16 * clips} frames."
        )
    noise_mask = latent.get("noise_mask")
    noise = _noise(samples, latent.get("batch_index"), clips, settings)
    run = _Run(model.clone(), positive, negative, samples, noise, noise_mask, settings)
    sampler = comfy.samplers.sampler_object(settings.sampler_name)
    if clips > 1:
        set_automatic_windows(run.model, run.model.model_options, total // clips)
    if clips > 1 and _needs_one_at_a_time(run.model, sampler, settings, noise_mask):
        callbacks = animation_preview(model, run.steps, clips)
        frames = total // clips
        sampled = torch.cat([
            run(sampler, clip_seed(settings.seed, clip), callbacks(clip), slice(clip * frames, (clip + 1) * frames))
            for clip in range(clips)
        ])
    else:
        if clips > 1:
            sampler = _with_noise_per_clip(sampler, clips, settings)
        sampled = run(sampler, settings.seed, animation_preview(model, run.steps)(0), clips=clips)
    out = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio_")}
    return {**out, "samples": sampled}


@dataclass(frozen=True)
class _Run:
    """What all runs of the sampler for one latent share; ``model`` is a clone of the caller's."""

    model: ModelPatcher
    positive: list
    negative: list
    samples: Tensor
    noise: Tensor
    noise_mask: Tensor | None
    settings: SamplerSettings

    @cached_property
    def sigmas(self) -> Tensor:
        settings = self.settings
        return comfy.samplers.KSampler(
            self.model,
            steps=settings.steps,
            device=self.model.load_device,
            sampler=settings.sampler_name,
            scheduler=settings.scheduler,
            denoise=settings.denoise,
            model_options=self.model.model_options,
        ).sigmas

    @property
    def steps(self) -> int:
        return max(1, self.sigmas.shape[-1] - 1)

    def __call__(self, sampler, seed: int, callback: Callable, part: slice = slice(None), clips: int = 1) -> Tensor:
        """Sample a part of the frames, which are ``clips`` clips."""
        self.model.model_options["transformer_options"] |= {CLIPS_KEY: clips, WARNED_KEY: bool(part.start)}
        noise = self.noise[part]
        share = ClipShare(len(self.noise), len(noise) // clips, part)
        mask = None if self.noise_mask is None else share.of(self.noise_mask)
        positive, negative = share.of_conds(self.positive), share.of_conds(self.negative)
        with changed_hints(controls_of(options for _, options in (*positive, *negative)), share.of):
            return comfy.sample.sample_custom(
                self.model, noise, self.settings.cfg, sampler, self.sigmas, positive, negative, self.samples[part],
                noise_mask=mask, callback=callback, disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=seed,
            )  # fmt: skip


def _noise(samples: Tensor, batch_index: list[int] | None, clips: int, settings: SamplerSettings) -> Tensor:
    frames = samples.shape[0] // clips
    parts = [slice(clip * frames, (clip + 1) * frames) for clip in range(clips)]
    return torch.cat([
        comfy.sample.prepare_noise(samples[part], clip_seed(settings.seed, clip), batch_index and batch_index[part])
        for clip, part in enumerate(parts)
    ])


def _needs_one_at_a_time(model: ModelPatcher, sampler, settings: SamplerSettings, noise_mask: Tensor | None) -> bool:
    """Whether clips would influence each other in one batch, or are cut up over it by context windows."""
    from_core = sampler.sampler_function.__module__.startswith("comfy.")
    return (
        settings.sampler_name in _ONE_CLIP_AT_A_TIME
        or not from_core  # another pack's sampler: where its noise comes from is not known
        or (noise_mask is not None and bool(sampler.inpaint_options))  # noise drawn for the batch as a whole
        or model.model_options.get("context_handler") is not None
    )


def _with_noise_per_clip(sampler: comfy.samplers.KSAMPLER, clips: int, settings: SamplerSettings):
    """Give a stochastic sampler, for each clip, the noise that it would draw for that clip alone."""
    function = sampler.sampler_function
    if "noise_sampler" not in inspect.signature(function).parameters:
        return sampler

    @wraps(function)  # a sampler is told by its function's name
    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options):
        noise_samplers = [
            _noise_sampler(settings.sampler_name, part, sigmas, clip_seed(settings.seed, clip))
            for clip, part in enumerate(x.chunk(clips))
        ]

        def noise_sampler(sigma, sigma_next) -> Tensor:
            return torch.cat([draw(sigma, sigma_next) for draw in noise_samplers])

        return function(
            model, x, sigmas, extra_args=extra_args, callback=callback, disable=disable, noise_sampler=noise_sampler,
            **options,
        )

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)


def _noise_sampler(sampler_name: str, x: Tensor, sigmas: Tensor, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The noise sampler that core's sampler of this name makes for itself."""
    if not (sampler_name.startswith("dpmpp_") and "_sde" in sampler_name):
        return k_sampling.default_noise_sampler(x, seed=seed)
    return k_sampling.BrownianTreeNoiseSampler(
        x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seed, cpu=not sampler_name.endswith("_gpu")
    )
