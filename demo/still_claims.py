"""Measure Image to Animation: stills that move as prompted and stay what they are, one at the start or one at each end.

Prints a table for ``docs/claims.md``; writes it as JSON, with sheets of frames, into ``--out``. Colour and shape are those of
the still, which the prompt names, too. Repeated img2img, the control, keeps either the still or the motion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, median

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from torch import Tensor

from ..animation.metrics import measure, structural_similarity
from ..nodes.image_to_animation import ImageToAnimationNode
from .claims import Claims, Clip, Row, table
from .clips import COLOURS, held_back_prompts, random_scene, render
from .look import centroids, judge, subject_masks

SIZE, FRAMES = 64, 16
Stills = Callable[[str, int], Tensor]
"""From a prompt and a seed to images ``(n, 3, h, w)``: the first frame, and perhaps the last."""


def drawn(prompt: str, seed: int) -> Tensor:
    """First and last frame of a scene as the prompt says, in the world's own hand; no model has seen one like it."""
    _, colour, shape, _, direction = prompt.split()
    generator = torch.Generator().manual_seed(seed)
    while (scene := random_scene(generator)).motion != direction or scene.shape != shape or scene.background == "light":
        pass
    return render(replace(scene, colour=colour, paint=COLOURS[colour]), SIZE)[[0, -1]]


class StillClaims:
    """Renders and measures.

    Args:
        studio: with the models.
        prompts: "a COLOUR SHAPE moving DIRECTION" each.
        seeds: consecutive.
        out: where sheets of frames go.
    """

    def __init__(self, studio: Studio, prompts: Sequence[str], seeds: range, out: Path):
        self.studio, self.prompts, self.seeds = studio, prompts, seeds
        self.text_to_animation = Claims(studio, prompts, seeds, out)

    def rows(self) -> Iterator[Row]:
        for claim, stills in (("a drawn still moves", lambda *given: drawn(*given)[:1]), ("the base's own still moves", self._of_base)):
            clips, similar = self._animated(claim.replace(" ", "_").replace("'", ""), stills)
            yield from self._moved_and_kept(claim, clips, similar)
        flicker = [fmean(measure(clip.frames.movedim(1, -1)).flicker for clip in each) for each in (clips, self._plain())]
        yield Row("the base's own still moves", "flicker, with still : without", flicker[0] / flicker[1], 1.0, False, len(clips))
        yield from self._two_stills()
        for denoise, measured in ((0.7, "direction"), (0.9, "first frame")):
            clips, similar = self._animated(f"control_{denoise}", lambda *given: drawn(*given)[:1], denoise=denoise, hold=0.0)
            right, kept, *_ = self._moved_and_kept(f"control: img2img {denoise}", clips, similar)
            yield replace(right if measured == "direction" else kept, bound=0.9, at_least=False)

    def _of_base(self, prompt: str, seed: int) -> Tensor:
        return self.studio.render(prompt, [seed], Shot(motion=False, frames=1))[0]

    def _plain(self) -> list[Clip]:
        return self.text_to_animation.clips("text_to_animation", Shot())

    def _animated(self, name: str, stills: Stills, denoise: float = 1.0, hold: float = 1.0) -> tuple[list[Clip], list[float]]:
        """Clips, and how similar each clip's least similar still is to its frame."""
        clips, similar = [], []
        for prompt in self.prompts:
            for seed in self.seeds:
                images = stills(prompt, seed)
                (latent,) = ImageToAnimationNode.execute(self.studio.vae, images.movedim(1, -1), FRAMES, hold=hold).result
                (frames,) = self.studio.render(prompt, [seed], Shot(denoise=denoise), latent=latent)
                clips.append(Clip(prompt, seed, frames))
                similar.append(structural_similarity(frames[[0, -1][: len(images)]], images).min().item())
        self.text_to_animation.write_sheet(name, clips)
        return clips, similar

    def _moved_and_kept(self, claim: str, clips: Sequence[Clip], similar: Sequence[float]) -> Iterator[Row]:
        directions = [judge(clip.frames).direction == clip.wanted[2] for clip in clips]
        frames = [(clip.wanted, judge(frame[None])) for clip in clips for frame in clip.frames]
        count = len(clips)
        yield Row(claim, "moves in the prompted direction (chance: 25 %)", fmean(directions), 0.9, True, count)
        yield Row(claim, "SSIM of the still and its frame", fmean(similar), 0.9, True, count)
        yield Row(claim, "frames of the still's colour", fmean(seen.colour == wanted[0] for wanted, seen in frames), 0.95, True, count)
        yield Row(claim, "frames of the still's shape", fmean(seen.shape == wanted[1] for wanted, seen in frames), 0.95, True, count)

    def _two_stills(self) -> Iterator[Row]:
        claim = "from one still to another"
        clips, similar = self._animated("two_stills", drawn)
        yield Row(claim, "SSIM of the less similar still and its frame", fmean(similar), 0.9, True, len(clips))
        uneven = []
        for clip in clips:
            steps = centroids(subject_masks(clip.frames)).diff(dim=0).norm(dim=-1).tolist()
            uneven.append(max(steps) / max(median(steps), 1e-3))
        yield Row(claim, "largest step of the subject : median, median clip", median(uneven), 1.5, False, len(clips))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=4000)
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    studio = Studio(args.models, dtype=torch.bfloat16 if args.bf16 else None)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    rows = []
    for row in StillClaims(studio, held_back_prompts(), seeds, args.out).rows():
        rows.append(row)
        print(f"{row.claim}: {row.measure}: {row.value:.3f}", flush=True)
        (args.out / "still_claims.json").write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
