"""The noise that a run starts from: FreeNoise and shared noise around any sampler, or FreeNoise as a NOISE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
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
    """Let ``model``, the caller's own clone, start each run from FreeNoise, in place of an earlier setting.

    The run's noise is put in another order, whatever it came from; nothing else of the run changes, so that it may also
    start from a video. Each clip of AnimateDiff Sampler is for itself, with its own seed.

    Raises:
        InvalidInput: there are no such windows.
    """
    wrap_run(model, FREENOISE_KEY, _StartFrom(FreeNoise(context_length, context_overlap, closed_loop, context_stride)))


def set_shared_noise(model: ModelPatcher, cutoff: float) -> None:
    """Let ``model``, the caller's own clone, start each run from shared noise, in place of an earlier setting.

    The run's noise is changed, whatever it came from, and in whichever order FreeNoise put it. Each clip of AnimateDiff
    Sampler is for itself.
    """
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
    return torch.cat([clip[_order(setting, len(clip), clip_seed(seed, number))] for number, clip in enumerate(each)])


def _order(freenoise: FreeNoise, frames: int, seed: int) -> list[int]:
    return freenoise.order(frames, seed, throw_exception_if_processing_interrupted)


@dataclass(frozen=True)
class FreeNoiseSource:
    """A NOISE of ComfyUI's: what RandomNoise gives for the same seed, in FreeNoise's order.

    Attributes:
        seed: of the noise and its order; samplers that draw noise at each step use it, too.
        freenoise: the order.
    """

    seed: int
    freenoise: FreeNoise

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        """Draw noise for a latent, ``(f, c, h, w)``.

        Raises:
            InvalidInput: the latent is not one tensor with frames as its batch.
        """
        samples = latent["samples"]
        check_is_batch_of_frames(samples, "FreeNoise")
        batch_index = latent.get("batch_index")
        if batch_index is not None:
            order = _order(self.freenoise, max(batch_index) + 1, self.seed)
            return comfy.sample.prepare_noise(samples, self.seed, [order[i] for i in batch_index])
        # One frame more than asked for: PyTorch draws the end of a tensor anew if it is no multiple of 16 numbers long,
        # and then the last frame's noise would depend on its being the last.
        one_more = torch.cat([samples, samples[:1]])
        return comfy.sample.prepare_noise(one_more, self.seed)[_order(self.freenoise, len(samples), self.seed)]
