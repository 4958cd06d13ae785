"""Noise drawn anew for a run: other seeds, other frames of them, or the same noise again and again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class NoiseRepeat(Enum):
    """Which frames have the same noise: none, those at one place of consecutive windows, or all; or no frame has any."""

    NEVER = "each frame its own"
    WINDOWS = "again in every window"
    ALL = "the same in all frames"
    NO_NOISE = "none"


class Seeding(Enum):
    """How a clip's noise is drawn from a seed: as ComfyUI draws it, or as AUTOMATIC1111 does, and on which device."""

    CLIP = "one seed"
    FRAMES = "a seed per frame"
    CLIP_GPU = "one seed, on the GPU"
    FRAMES_GPU = "a seed per frame, on the GPU"


@dataclass(frozen=True)
class DrawnNoise:
    """How the noise of a clip is drawn.

    Attributes:
        seed_offset: added to the seed.
        seeding: one seed for all frames, or frame i has seed + i.
        first_frame: frames of the noise that are left out before the clip's first one.
        repeat: which frames have the same noise.
        length: frames of a window.
        seed: in place of a run's own.
    """

    seed_offset: int = 0
    seeding: Seeding = Seeding.CLIP
    first_frame: int = 0
    repeat: NoiseRepeat = NoiseRepeat.NEVER
    length: int = 16
    seed: int | None = None

    def seed_of(self, seed: int) -> int:
        """The seed that noise is drawn from, of a run with ``seed``; in PyTorch's range."""
        return ((seed if self.seed is None else self.seed) + self.seed_offset) % 2**64

    def draw(self, clip: Tensor, seed: int, gpu: torch.device) -> Tensor:
        """Noise like ``clip``, ``(f, c, h, w)``, from a seed of ``seed_of``; what is drawn on the CPU or ``gpu`` stands there."""
        if self.repeat is NoiseRepeat.NO_NOISE:
            return torch.zeros_like(clip)
        frames = {NoiseRepeat.ALL: 1, NoiseRepeat.WINDOWS: min(self.length, len(clip))}.get(self.repeat, len(clip))
        device = gpu if self.seeding in (Seeding.CLIP_GPU, Seeding.FRAMES_GPU) else torch.device("cpu")

        def draw(count: int, seed: int) -> Tensor:
            generator = torch.Generator(device).manual_seed(seed % 2**64)
            return torch.randn((count, *clip.shape[1:]), generator=generator, device=device)

        if self.seeding in (Seeding.FRAMES, Seeding.FRAMES_GPU):
            noise = torch.cat([draw(1, seed + self.first_frame + frame) for frame in range(frames)])
        else:
            # All frames, whatever is taken of them: PyTorch draws the end of a tensor anew if it is not a multiple of 16 long.
            drawn = 1 if self.repeat is NoiseRepeat.ALL else len(clip)
            noise = draw(self.first_frame + drawn, seed)[self.first_frame :][:frames]
        return noise[torch.arange(len(clip)) % frames].to(clip)
