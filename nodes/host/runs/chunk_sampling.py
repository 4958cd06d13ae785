"""A clip sampled chunk by chunk: what each chunk takes over from the one before, so that no seam shows."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....animation.chunks import Chunk, blend_overlap
from ....animation.noise_shuffle import FreeNoise
from ....animation.shared_noise import SharedNoise
from ..types import WARNED_KEY
from .clip_sampling import SamplerSettings, with_noise_of_seeds


class Carried(NamedTuple):
    """What a chunk leaves to the next one, of the frames that both have.

    Attributes:
        denoised: ``(calls, n, c, h, w)``: what the model predicted at each of the sampler's calls.
    """

    denoised: Tensor


class ChunkNoise(NamedTuple):
    """The noise of a clip of any length, of which any frames can be drawn without the others.

    Attributes:
        seed: of the clip.
        order: the frame whose noise each frame has; see ``FreeNoise.order``.
        shared: what layout all frames have in common, if any.
    """

    seed: int
    order: Sequence[int]
    shared: SharedNoise | None = None

    @classmethod
    def of(cls, seed: int, total_frames: int, freenoise: FreeNoise | None = None, shared: SharedNoise | None = None) -> ChunkNoise:
        return cls(seed, freenoise.order(total_frames, seed) if freenoise else range(total_frames), shared)

    def draw(self, chunk: Chunk, shape: Sequence[int]) -> Tensor:
        """Noise ``(f, c, h, w)`` of a chunk's frames, for latents of ``shape`` (c, h, w)."""
        frames = [self.order[frame] for frame in range(chunk.start, chunk.end)]
        if self.shared is None:
            return self._draw(frames, shape)
        return self.shared.share(self._draw([0, *frames], shape))[1:]

    def seeds(self, chunk: Chunk, purpose: str) -> list[int]:
        """A seed for each of a chunk's frames, which belongs to that frame, whichever chunk it is in."""
        return [self._seed(frame, purpose) for frame in range(chunk.start, chunk.end)]

    def _draw(self, frames: Sequence[int], shape: Sequence[int]) -> Tensor:
        generators = (torch.Generator().manual_seed(self._seed(frame, "start")) for frame in frames)
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])

    def _seed(self, frame: int, purpose: str) -> int:
        # Not seed + frame: then the next seed's clip would be this one, a frame later.
        return random.Random(f"{purpose} {self.seed} {frame}").getrandbits(62)


def sample_chunk(
    model: ModelPatcher, positive: list, negative: list, latents: Tensor, chunk: Chunk, noise: ChunkNoise,
    settings: SamplerSettings, carried: Carried | None = None, callback: Callable | None = None,
) -> tuple[Tensor, Carried]:  # fmt: skip
    """Sample a chunk's ``latents``, ``(f, c, h, w)``; returns them, and what the next chunk is to take over.

    In the frames that the chunk before has, too, the model's predictions fade from what that chunk's were to this one's, at
    every call of the sampler. With the same noise, these frames then go the same way in both chunks, and the others follow them
    through the motion model's attention.
    """
    model, calls = model.clone(), []

    def take_over(args: dict) -> Tensor:
        denoised = args["denoised"]
        if carried is not None and chunk.overlap and len(calls) < len(carried.denoised):
            blended = blend_overlap(carried.denoised[len(calls)], denoised[: chunk.overlap])
            denoised = torch.cat([blended, denoised[chunk.overlap :]])
        calls.append(denoised[chunk.finished :].to("cpu", torch.float32, copy=True))
        return denoised

    model.set_model_sampler_post_cfg_function(take_over)
    model.model_options["transformer_options"] |= {WARNED_KEY: chunk.start > 0}
    schedule = (settings.steps, model.load_device, settings.sampler_name, settings.scheduler, settings.denoise)
    sigmas = comfy.samplers.KSampler(model, *schedule, model.model_options).sigmas
    sampler = comfy.samplers.sampler_object(settings.sampler_name)
    sampler = with_noise_of_seeds(sampler, settings.sampler_name, noise.seeds(chunk, "steps"))
    sampled = comfy.sample.sample_custom(
        model, noise.draw(chunk, latents.shape[1:]), settings.cfg, sampler, sigmas, positive, negative, latents,
        callback=callback, disable_pbar=True, seed=noise.seeds(chunk, "run")[0],
    )  # fmt: skip
    return sampled, Carried(torch.stack(calls))
