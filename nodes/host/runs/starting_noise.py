"""The noise that a run starts from: FreeNoise and shared noise around any sampler, or FreeNoise as a NOISE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import torch
from comfy.model_management import throw_exception_if_processing_interrupted as check_for_interrupt
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....animation.noise_shuffle import FreeNoise
from ....animation.shared_noise import SharedNoise
from ..types import logger
from .clip_seeds import clip_seed
from .run_wrappers import FREENOISE_KEY, SHARED_NOISE_KEY, check_is_batch_of_frames, clips_of, wrap_run


def set_freenoise(
    model: ModelPatcher, context_length: int, context_overlap: int, closed_loop: bool, context_stride: int = 1
) -> None:
    """Let ``model``, the caller's own clone, put runs' noise in the order of ``FreeNoise``, in place of an earlier one."""
    wrap_run(model, FREENOISE_KEY, _StartFrom(FreeNoise(context_length, context_overlap, closed_loop, context_stride)))


def set_shared_noise(model: ModelPatcher, cutoff: float) -> None:
    """Let the frames of each run of ``model``, the caller's own clone, share noise, in place of an earlier setting."""
    wrap_run(model, SHARED_NOISE_KEY, _StartFrom(SharedNoise(cutoff)))


@dataclass(frozen=True)
class _StartFrom:
    """The ``OUTER_SAMPLE`` wrapper."""

    setting: FreeNoise | SharedNoise

    def __call__(
        self, executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False,
        seed=None, **kwargs,
    ):  # fmt: skip
        check_is_batch_of_frames(noise, "Apply FreeNoise" if isinstance(self.setting, FreeNoise) else "Shared Noise")
        if isinstance(self.setting, FreeNoise):
            logger.info("FreeNoise for windows of %d frames.", self.setting.length)
        noise = change_clips(self.setting, noise, clips_of(executor.class_obj), seed or 0)
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)


def change_clips(setting: FreeNoise | SharedNoise, noise: Tensor, clips: int, seed: int) -> Tensor:
    """Change the noise of each of the clips in a batch, ``(clips f) c h w``, as if it were alone."""
    each = noise.chunk(clips)
    if isinstance(setting, SharedNoise):
        return torch.cat([setting.share(clip) for clip in each])
    orders = (setting.order(len(clip), clip_seed(seed, number), check_for_interrupt) for number, clip in enumerate(each))
    return torch.cat([clip[order] for clip, order in zip(each, orders, strict=True)])


@dataclass(frozen=True)
class FreeNoiseSource:
    """A NOISE of ComfyUI's: what RandomNoise gives for the same seed, in FreeNoise's order."""

    seed: int  # of the noise and its order; samplers that draw noise at each step use it, too
    freenoise: FreeNoise

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        """Draw noise for a latent, ``(f, c, h, w)``; a video model's is refused with ``InvalidInput``."""
        samples = latent["samples"]
        check_is_batch_of_frames(samples, "FreeNoise")
        batch_index = latent.get("batch_index")
        frames = len(samples) if batch_index is None else max(batch_index) + 1
        order = self.freenoise.order(frames, self.seed, check_for_interrupt)
        if batch_index is not None:
            return comfy.sample.prepare_noise(samples, self.seed, [order[i] for i in batch_index])
        # One frame more than asked for: PyTorch draws the end of a tensor anew if it is no multiple of 16 numbers long,
        # and then the last frame's noise would depend on its being the last.
        one_more = torch.cat([samples, samples[:1]])
        return comfy.sample.prepare_noise(one_more, self.seed)[order]
