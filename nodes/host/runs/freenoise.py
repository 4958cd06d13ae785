"""FreeNoise in a run: around any sampler, or as a NOISE for those that ask for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....animation.noise_shuffle import FreeNoise, NoiseError
from ..types import CLIPS_KEY, logger
from .clip_seeds import clip_seed
from .run_wrappers import FREENOISE_KEY, wrap_run


def set_freenoise(
    model: ModelPatcher, context_length: int, context_overlap: int, closed_loop: bool, context_stride: int = 1
) -> None:
    """Let ``model``, the caller's own clone, start each run from FreeNoise, in place of an earlier setting.

    The run's noise is put in another order, whatever it came from; nothing else of the run changes, so that it may also
    start from a video. Each clip of AnimateDiff Sampler is for itself, with its own seed.

    Args:
        model: a MODEL.
        context_length: frames of a context window.
        context_overlap: frames that neighbouring windows share.
        closed_loop: whether windows run over from the last frame to the first.
        context_stride: as in ComfyUI's context windows.

    Raises:
        NoiseError: there are no such windows.
    """
    freenoise = FreeNoise(context_length, context_overlap, closed_loop, context_stride)
    wrap_run(model, FREENOISE_KEY, _StartFromFreeNoise(freenoise))


def freenoise_of(model: ModelPatcher) -> FreeNoise | None:
    """The setting that ``set_freenoise`` made, if any."""
    wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, FREENOISE_KEY)
    return wrappers[0].freenoise if wrappers else None


@dataclass(frozen=True)
class _StartFromFreeNoise:
    """The ``OUTER_SAMPLE`` wrapper."""

    freenoise: FreeNoise

    def __call__(
        self, executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False,
        seed=None, **kwargs,
    ):  # fmt: skip
        clips = executor.class_obj.model_options["transformer_options"].get(CLIPS_KEY, 1)
        noise = shuffle_clips(self.freenoise, noise, clips, seed or 0)
        log_repeats(self.freenoise, noise.shape[0] // clips, seed or 0)
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)


def shuffle_clips(freenoise: FreeNoise, noise: Tensor, clips: int, seed: int) -> Tensor:
    """FreeNoise for each of the clips in a batch, ``(clips f) c h w``, as if it were alone."""
    each = noise.unflatten(0, (clips, -1))
    return torch.cat([freenoise.shuffle(each[clip], clip_seed(seed, clip)) for clip in range(clips)])


def log_repeats(freenoise: FreeNoise, frames: int, seed: int) -> None:
    order = freenoise.order(frames, seed)
    repeats, windows = freenoise.count_repeats(order)
    logger.info(
        "FreeNoise: %d frames contain %d different noises; %d of %d windows of %d frames contain one of them twice.",
        frames, len(set(order)), repeats, windows, freenoise.length,
    )  # fmt: skip


def freenoise_source(seed: int, context_length: int, context_overlap: int, closed_loop: bool) -> FreeNoiseSource:
    """Make a NOISE for samplers that take one.

    Raises:
        NoiseError: there are no such windows.
    """
    return FreeNoiseSource(seed, FreeNoise(context_length, context_overlap, closed_loop))


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
            NoiseError: the latent is not one tensor with frames as its batch.
        """
        samples = latent["samples"]
        if samples.is_nested or samples.ndim != 4:
            raise NoiseError(
                "FreeNoise needs a latent whose batch holds the frames, as in AnimateDiff, but this one is a video model's. "
                "Connect RandomNoise."
            )
        batch_index = latent.get("batch_index")
        if batch_index is not None:
            order = self.freenoise.order(max(batch_index) + 1, self.seed)
            return comfy.sample.prepare_noise(samples, self.seed, [order[i] for i in batch_index])
        log_repeats(self.freenoise, samples.shape[0], self.seed)
        # One frame more than asked for: PyTorch draws the end of a tensor anew if it is no multiple of 16 numbers long,
        # and then the last frame's noise would depend on its being the last.
        one_more = torch.cat([samples, samples[:1]])
        return self.freenoise.shuffle(comfy.sample.prepare_noise(one_more, self.seed)[:-1], self.seed)
