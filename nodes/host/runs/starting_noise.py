"""The noise that a run starts from: drawn anew, FreeNoise and shared noise around any sampler, or FreeNoise as a NOISE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import torch
from comfy.model_management import get_torch_device
from comfy.model_management import throw_exception_if_processing_interrupted as check_for_interrupt
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....animation.drawn_noise import DrawnNoise, NoiseRepeat, Seeding
from ....animation.noise_shuffle import FreeNoise, Shuffle
from ....animation.shared_noise import SharedNoise
from ..types import logger
from .clip_seeds import clip_seed
from .run_wrappers import (
    DRAWN_NOISE_KEY,
    FREENOISE_KEY,
    SHARED_NOISE_KEY,
    check_is_batch_of_frames,
    clips_of,
    setting_of,
    wrap_run,
)

# What nodes offer; frozen, as part of saved workflows.
FREENOISE_ORDERS = [shuffle.value for shuffle in Shuffle]
SEEDINGS = [seeding.value for seeding in Seeding]
REPEATS = [repeat.value for repeat in NoiseRepeat]


def set_drawn_noise(
    model: ModelPatcher, seed_offset: int, seeding: str, first_frame: int, repeat: str, context_length: int, seed: int | None
) -> None:
    """Let runs of ``model``, the caller's own clone, draw their noise anew, in place of an earlier setting; see ``DrawnNoise``."""
    drawn = DrawnNoise(seed_offset, Seeding(seeding), first_frame, NoiseRepeat(repeat), context_length, seed)
    wrap_run(model, DRAWN_NOISE_KEY, _StartFrom(drawn))


def set_freenoise(
    model: ModelPatcher, context_length: int, context_overlap: int, closed_loop: bool, context_stride: int = 1,
    order: str = FREENOISE_ORDERS[0],
) -> None:  # fmt: skip
    """Let ``model``, the caller's own clone, put runs' noise in the order of ``FreeNoise``, in place of an earlier one."""
    freenoise = FreeNoise(context_length, context_overlap, closed_loop, context_stride, Shuffle(order))
    wrap_run(model, FREENOISE_KEY, _StartFrom(freenoise))


def set_shared_noise(model: ModelPatcher, cutoff: float) -> None:
    """Let the frames of each run of ``model``, the caller's own clone, share noise, in place of an earlier setting."""
    wrap_run(model, SHARED_NOISE_KEY, _StartFrom(SharedNoise(cutoff)))


@dataclass(frozen=True)
class _StartFrom:
    """The ``OUTER_SAMPLE`` wrapper."""

    setting: DrawnNoise | FreeNoise | SharedNoise

    def __call__(
        self, executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False,
        seed=None, **kwargs,
    ):  # fmt: skip
        names = {DrawnNoise: "Starting Noise", FreeNoise: "Apply FreeNoise", SharedNoise: "Shared Noise"}
        check_is_batch_of_frames(noise, names[type(self.setting)])
        if isinstance(self.setting, FreeNoise):
            logger.info("FreeNoise for windows of %d frames.", self.setting.length)
        guider = executor.class_obj
        if torch.count_nonzero(noise):  # a sampler that adds none keeps none
            drawn = setting_of(guider.model_patcher, DRAWN_NOISE_KEY) or DrawnNoise()
            noise = change_clips(self.setting, noise, clips_of(guider), drawn.seed_of(seed or 0))
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)


def change_clips(setting: DrawnNoise | FreeNoise | SharedNoise, noise: Tensor, clips: int, seed: int) -> Tensor:
    """Change the noise of each of the clips in a batch, ``(clips f) c h w``, as if it were alone, drawn from its seed."""
    each = noise.chunk(clips)
    if isinstance(setting, DrawnNoise):
        return torch.cat([setting.draw(clip, clip_seed(seed, number), get_torch_device()) for number, clip in enumerate(each)])
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
