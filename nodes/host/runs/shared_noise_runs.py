"""Shared noise in a run, around any sampler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....animation.noise_shuffle import NoiseError
from ....animation.shared_noise import SharedNoise
from ..types import CLIPS_KEY
from .run_wrappers import SHARED_NOISE_KEY, wrap_run


def set_shared_noise(model: ModelPatcher, cutoff: float) -> None:
    """Let ``model``, the caller's own clone, start each run from shared noise, in place of an earlier setting.

    The run's noise is changed, whatever it came from, and in whichever order FreeNoise put it. Each clip of AnimateDiff
    Sampler is for itself.

    Raises:
        NoiseError: the cut-off is out of its range.
    """
    wrap_run(model, SHARED_NOISE_KEY, _StartFromSharedNoise(SharedNoise(cutoff)))


def shared_noise_of(model: ModelPatcher) -> SharedNoise | None:
    """The setting that ``set_shared_noise`` made, if any."""
    wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, SHARED_NOISE_KEY)
    return wrappers[0].shared_noise if wrappers else None


def share_clips(shared_noise: SharedNoise, noise: Tensor, clips: int) -> Tensor:
    """Shared noise for each of the clips in a batch, ``(clips f) c h w``, as if it were alone."""
    return torch.cat([shared_noise.share(clip) for clip in noise.chunk(clips)])


@dataclass(frozen=True)
class _StartFromSharedNoise:
    """The ``OUTER_SAMPLE`` wrapper."""

    shared_noise: SharedNoise

    def __call__(self, executor, noise, *args, **kwargs):
        if noise.ndim != 4:
            raise NoiseError(
                "Shared Noise needs a latent whose batch holds the frames, as in AnimateDiff, but this one is a video model's. "
                "Remove Shared Noise."
            )
        clips = executor.class_obj.model_options["transformer_options"].get(CLIPS_KEY, 1)
        return executor(share_clips(self.shared_noise, noise, clips), *args, **kwargs)
