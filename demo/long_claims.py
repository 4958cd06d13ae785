"""Measure long animations: windows that don't show, loops that close, prompts that change where they are told to.

Prints a table for ``docs/claims.md``; writes it as JSON, with sheets of frames, into ``--out``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from torch import Tensor

from ..animation.metrics import measure, window_edges
from ..animation.retime import Repeat, Retime
from ..animation.shared_noise import SharedNoise
from ..animation.windowing import Schedule, Windowing
from ..nodes.prompts import PromptScheduleNode
from .claims import Row, table
from .clips import held_back_prompts
from .look import judge
from .sheet import contact_sheet

LENGTH, OVERLAP = 16, 4
LONG, LOOP = 64, 30
_DIRECTION = "clip moves in the prompted direction (chance: 25 %)"
_FROM, _TO = 24, 40  # frames between which a prompt becomes another

# One movement of 16 frames over 64, and one back and forth over 30.
_SLOWLY = Retime(speed=(LENGTH - 1) / (LONG - 1), across_windows=True)
_FORTH_AND_BACK = Retime(repeat=Repeat.PING_PONG, repeat_frames=LOOP // 2 + 1, across_windows=True)

LONG_SHOT = Shot(frames=LONG, windows=Windowing(LENGTH, OVERLAP), retime=_SLOWLY, shared_noise=SharedNoise().cutoff)
LOOP_SHOT = Shot(
    frames=LOOP,
    windows=Windowing(LENGTH, OVERLAP, Schedule.LOOPED, closed_loop=True),
    retime=_FORTH_AND_BACK,
    shared_noise=SharedNoise().cutoff,
)


class LongClaims:
    """Renders long shots and measures them.

    Args:
        studio: with the models.
        prompts: "a COLOUR SHAPE moving DIRECTION" each.
        seed: of the first animation; each has one more than the one before, for what one noise does is no rule.
        out: where sheets of frames go, if anywhere.
    """

    def __init__(self, studio: Studio, prompts: Sequence[str], seed: int, out: Path | None = None):
        self.studio, self.prompts, self.seed, self.out = studio, prompts, seed, out

    def rows(self) -> Iterator[Row]:
        yield from self.shared_noise()
        yield from self.windows()
        yield self.loop()
        yield self.prompt_travel()

    def shared_noise(self) -> Iterator[Row]:
        """Clips of one window, from shared noise and from noise of each frame's own."""
        shared = self._render(self.prompts, Shot(shared_noise=SharedNoise().cutoff))
        own = self._render(self.prompts, Shot())
        self._write_sheet("shared_noise", shared, self.prompts)
        flicker = [fmean(measure(clip.movedim(1, -1)).flicker for clip in clips) for clips in (shared, own)]
        count = len(shared)
        yield Row("shared noise", "flicker with : without", flicker[0] / flicker[1], 1.0, False, count)
        yield Row("shared noise", _DIRECTION, self._right(shared), 0.9, True, count)

    def windows(self) -> Iterator[Row]:
        clips = self._render(self.prompts, LONG_SHOT)
        self._write_sheet("long", clips, self.prompts)
        edges = window_edges(LONG, LENGTH, OVERLAP)
        seams = [measure(clip.movedim(1, -1), edges).seam_scores for clip in clips]
        count = len(clips)
        yield Row(
            f"{LONG} frames in windows of {LENGTH}", "step at a window edge : median step, mean of all edges",
            fmean(score for scores in seams for score in scores), 1.2, False, count,
        )  # fmt: skip
        yield Row(f"{LONG} frames in windows of {LENGTH}", _DIRECTION, self._right(clips), 0.9, True, count)

    def loop(self) -> Row:
        clips = self._render(self.prompts, LOOP_SHOT)
        self._write_sheet("loop", clips, self.prompts)
        closures = [measure(clip.movedim(1, -1)).loop_closure for clip in clips]
        return Row(
            f"closed loop of {LOOP} frames", "step from last to first frame : median step, mean", fmean(closures), 1.2, False,
            len(clips),
        )  # fmt: skip

    def prompt_travel(self) -> Row:
        """From each prompt to the next but three: another colour and another shape; the first one's direction."""
        others = [*self.prompts[4:], *self.prompts[:4]]
        ends = [
            (prompt, " ".join([*other.split()[:-1], prompt.split()[-1]])) for prompt, other in zip(self.prompts, others, strict=True)
        ]
        clips, right = self._render([self._schedule(*pair) for pair in ends], LONG_SHOT), []
        for pair, clip in zip(ends, clips, strict=True):
            for end, frames in zip(pair, (clip[:_FROM], clip[_TO:]), strict=True):
                _, colour, shape, _, _ = end.split()
                right += [(seen.colour, seen.shape) == (colour, shape) for seen in map(judge, frames[:, None])]
        self._write_sheet("prompt_travel", clips, [" > ".join(pair) for pair in ends])
        return Row(
            "prompt travel follows the chart", f"colour and shape of frames before {_FROM} and from {_TO} on as prompted there",
            fmean(right), 0.85, True, len(clips),
        )  # fmt: skip

    def _render(self, prompts: Sequence[str | list], shot: Shot) -> list[Tensor]:
        return [self.studio.render(prompt, [self.seed + i], shot)[0] for i, prompt in enumerate(prompts)]

    def _right(self, clips: Sequence[Tensor]) -> float:
        """Share of clips in which the shape goes where the prompt says."""
        return fmean(judge(clip).direction == prompt.split()[-1] for prompt, clip in zip(self.prompts, clips, strict=True))

    def _schedule(self, first: str, second: str) -> list:
        text = f"{_FROM - 1}: {first}\n{_TO}: {second}"
        return PromptScheduleNode.execute(self.studio.clip, text, LONG).result[0]

    def _write_sheet(self, name: str, clips: Sequence[Tensor], labels: Sequence[str]) -> None:
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        sheet = contact_sheet([clip[:: max(len(clip) // 15, 1)] for clip in clips], labels)
        sheet.quantize(128).save(self.out / f"{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--motion-model", type=Path, help="another motion model's file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--prompts", type=int, default=18, help="how many of the held-back prompts, evenly chosen (18: all)")
    args = parser.parse_args()
    studio = Studio(args.models, args.motion_model, torch.bfloat16 if args.bf16 else None)
    claims = LongClaims(studio, held_back_prompts()[:: 18 // args.prompts], args.seed, args.out)
    rows = []
    for row in claims.rows():
        rows.append(row)
        print(f"{row.claim}: {row.measure}: {row.value:.3f}", flush=True)
    (args.out / "long_claims.json").write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(table(rows))
