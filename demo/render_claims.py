"""Measure whether chunks show in what ``loom.py render`` makes: a video in chunks, against all of it in one run.

A shape circles in a plain video; it is denoised by half with its own prompt. Prints how much the steps at the chunks' edges and
in the middle of their overlaps stand out (Animation Metrics), in chunks, in chunks that know nothing of one another, and in one run
at the same places; and flicker and consistency of all frames. Writes sheets of frames into ``--out``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import fmean

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from torch import Tensor

from ..animation.chunks import Chunk, plan_chunks
from ..animation.metrics import AnimationMetrics, measure
from ..animation.windowing import Windowing
from ..nodes.host.motion.context_windows import set_windows
from ..nodes.host.runs.chunk_sampling import ChunkNoise, sample_chunk
from ..nodes.host.runs.clip_sampling import SamplerSettings
from .clips import BACKGROUNDS, COLOURS, held_back_prompts, signed_distance
from .sheet import contact_sheet

LENGTH, OVERLAP = 16, 4
_SIZE, _ROUND = 64, 64  # pixels; frames in which the shape goes round once


def circling(colour: str, shape: str, frames: int) -> Tensor:
    """A shape that goes round on a dark ground, ``(f, 3, h, w)`` from 0 to 1."""
    turns = torch.arange(frames)[:, None, None] * (2 * math.pi / _ROUND)
    across = torch.linspace(-1, 1, _SIZE)
    x, y = across[None, None, :] - 0.4 * turns.sin(), across[None, :, None] - 0.3 * turns.cos()
    coverage = (0.5 - signed_distance(shape, x, y, 0.4) * _SIZE / 2).clamp(0, 1)[:, None]
    return BACKGROUNDS["dark"] * (1 - coverage) + torch.tensor(COLOURS[colour]).view(3, 1, 1) * coverage


def edges_of(chunks: list[Chunk]) -> list[int]:
    """Where each chunk but the first begins, has the middle of the overlap and its end."""
    return sorted({edge for part in chunks[1:] for edge in (part.start, part.start + part.overlap // 2, part.start + part.overlap)})


class RenderClaims:
    """Renders videos in chunks and in one run, and measures them."""

    def __init__(self, studio: Studio, frames: int, chunk: int, overlap: int, shot: Shot):
        self.studio, self.frames, self.shot = studio, frames, shot
        self.chunks = plan_chunks(frames, chunk, overlap, LENGTH)
        self.model = studio.prepared(shot)
        set_windows(self.model, Windowing(LENGTH, OVERLAP))

    def render(self, colour: str, shape: str, seed: int) -> dict[str, Tensor]:
        """Frames ``(f, h, w, 3)`` by how they were made."""
        video = circling(colour, shape, self.frames)
        with torch.inference_mode():
            latents, prompts = self.studio.vae.encode(video.movedim(1, -1)), [self.studio.encode(f"a {colour} {shape}"), self.studio.encode("")]
            noise = ChunkNoise.of(seed, self.frames)
            sampled = {
                "one run": self._sample(latents, prompts, noise, [Chunk(0, self.frames)]),
                "chunks": self._sample(latents, prompts, noise, self.chunks),
                "chunks by themselves": self._sample(latents, prompts, noise, self.chunks, carries=False),
            }
            return {name: self.studio.vae.decode(made).float().clone() for name, made in sampled.items()}

    def measure(self, frames: Tensor) -> AnimationMetrics:
        return measure(frames, edges_of(self.chunks))

    def _sample(self, latents: Tensor, prompts: list, noise: ChunkNoise, chunks: list[Chunk], carries: bool = True) -> Tensor:
        shot, carried, made = self.shot, None, []
        settings = SamplerSettings(0, shot.steps, shot.cfg, shot.sampler, shot.scheduler, shot.denoise)
        for chunk in chunks:
            sampled, left = sample_chunk(self.model, *prompts, latents[chunk.start : chunk.end], chunk, noise, settings, carried)
            made.append(sampled[: chunk.finished])
            carried = left if carries else None
        return torch.cat(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=18, help="how many of the held-back prompts, evenly chosen (18: all)")
    parser.add_argument("--frames", type=int, default=88)
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--overlap", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--denoise", type=float, default=0.6)
    args = parser.parse_args()
    studio = Studio(args.models, None, torch.bfloat16)
    claims = RenderClaims(studio, args.frames, args.chunk, args.overlap, Shot(steps=args.steps, denoise=args.denoise))
    measured: dict[str, list[AnimationMetrics]] = {}
    args.out.mkdir(parents=True, exist_ok=True)
    for number, prompt in enumerate(held_back_prompts()[:: 18 // args.prompts]):
        _, colour, shape, _, _ = prompt.split()
        made = claims.render(colour, shape, args.seed + number)
        for name, frames in made.items():
            measured.setdefault(name, []).append(claims.measure(frames))
        edge = claims.chunks[1].start
        shown = [frames[max(edge - 4, 0) : edge + 12].movedim(-1, 1) for frames in made.values()]
        contact_sheet(shown, list(made)).save(args.out / f"render_{number}.png")
        print(f"{number + 1}: {prompt}", flush=True)
    for name, metrics in measured.items():
        seams = [score for one in metrics for score in one.seam_scores]
        flicker, consistency = fmean(one.flicker for one in metrics), fmean(one.frame_consistency for one in metrics)
        worst = fmean(one.worst_seam for one in metrics)
        print(f"{name}: seams {fmean(seams):.3f}, worst of a clip {worst:.3f}, flicker {flicker:.3f}, consistency {consistency:.4f}")


if __name__ == "__main__":
    main()
