"""Measure what Reuse Motion costs in quality and saves in calls and time, beside ComfyUI's EasyCache and LazyCache.

Prints a table for ``docs/claims.md``; writes it as JSON, with sheets of frames, into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from torch import Tensor

from ..animation.metrics import measure
from ..nodes.host.motion.reuse import Reuse
from ..nodes.host.runs.reuse_runs import set_reuse
from .clips import held_back_prompts
from .counted import BLOCKS, MOTION, counted_calls
from .look import judge
from .sheet import contact_sheet

START, END = 0.04, 0.95


def reusing(interval: int, deep_interval: int, start: float = START, end: float = END) -> Callable[[ModelPatcher], ModelPatcher]:
    def prepare(model: ModelPatcher) -> ModelPatcher:
        model = model.clone()
        set_reuse(model, Reuse(interval, deep_interval, start, end))
        return model

    return prepare


def caching(node: type, threshold: float) -> Callable[[ModelPatcher], ModelPatcher]:
    return lambda model: node.execute(model, threshold, 0.15, 0.95, False).result[0]


WAYS: dict[str, Callable[[ModelPatcher], ModelPatcher]] = {
    "none": lambda model: model,
    **{f"interval {n}": reusing(n, 1) for n in (2, 3, 4, 6)},
    **{f"deep_interval {n}": reusing(1, n) for n in (2, 3, 4)},
    **{f"both {n}": reusing(n, n) for n in (2, 3, 4)},
    "EasyCache 0.2": caching(EasyCacheNode, 0.2),
    "LazyCache 0.2": caching(LazyCacheNode, 0.2),
}


@dataclass(frozen=True)
class Row:
    """One way of sampling, over all clips: shares of what ``none`` takes or has."""

    way: str
    motion_calls: float
    block_calls: float  # of the UNet's residual blocks
    seconds: float
    direction: float
    colour: float
    shape: float
    flicker: float
    difference: float  # mean difference of pixels to the same clips without reuse, of 1


class Trial:
    """Renders prompts in one way after another; what is rendered stays in ``out``, where a stopped measurement goes on."""

    def __init__(self, studio: Studio, prompts: Sequence[str], seeds: Sequence[int], shot: Shot, out: Path):
        self.studio, self.prompts, self.seeds, self.shot, self.out = studio, prompts, seeds, shot, out
        self.animated = studio.prepared(shot)

    def rows(self, ways: Sequence[str]) -> Iterator[Row]:
        """One row for each way; the first is what the others are compared with."""
        first: tuple | None = None
        for way in ways:
            parts = [self._render(way, prompt) for prompt in self.prompts]
            clips = [clip for part in parts for clip in part["clips"].float() / 255]
            costs = [sum(part[name] for part in parts) for name in ("motion", "blocks", "seconds")]
            flicker = fmean(measure(clip.movedim(1, -1)).flicker for clip in clips)
            first = first or (costs, flicker, clips)
            difference = fmean((one - other).abs().mean().item() for one, other in zip(clips, first[2], strict=True))
            shares = (cost / whole for cost, whole in zip(costs, first[0], strict=True))
            yield Row(way, *shares, *self._judged(clips), flicker / first[1], difference)
            self._write_sheet(way, clips)

    def _render(self, way: str, prompt: str) -> dict[str, Any]:
        path = self.out / f"{way} {prompt}.pt".replace(" ", "_")
        if not path.is_file():
            with counted_calls(self.studio.motion_model.model) as calls:
                began = time.process_time()
                clips = self.studio.render(prompt, self.seeds, self.shot, model=WAYS[way](self.animated))
                seconds = time.process_time() - began
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = {"clips": (clips * 255).round().byte(), "motion": calls[MOTION], "blocks": calls[BLOCKS], "seconds": seconds}
            torch.save(kept, path)
        return torch.load(path, weights_only=True)

    def _judged(self, clips: Sequence[Tensor]) -> tuple[float, float, float]:
        """Shares of clips with the prompt's direction, and of frames with its colour and with its shape."""
        wanted = [prompt.split() for prompt in self.prompts for _ in self.seeds]
        frames = [[judge(frame[None]) for frame in clip] for clip in clips]
        return (
            fmean(judge(clip).direction == words[-1] for clip, words in zip(clips, wanted, strict=True)),
            fmean(each.colour == words[1] for clip, words in zip(frames, wanted, strict=True) for each in clip),
            fmean(each.shape == words[2] for clip, words in zip(frames, wanted, strict=True) for each in clip),
        )

    def _write_sheet(self, way: str, clips: Sequence[Tensor]) -> None:
        sheet = contact_sheet([clip[::3] for clip in clips[:: len(self.seeds)]], self.prompts)
        sheet.save(self.out / f"{way}.png".replace(" ", "_"), optimize=True)


def table(found: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| reuse | calls of motion modules | of UNet blocks | time | direction | colour | shape | flicker | difference |"]
    lines.append("|---" * 9 + "|")
    for row in found:
        cells = [row.motion_calls, row.block_calls, row.seconds, row.direction, row.colour, row.shape, row.flicker]
        lines.append(f"| {row.way} | " + " | ".join(f"{cell:.2f}" for cell in cells[:3]) + " | "
                     + " | ".join(f"{cell:.1%}" for cell in cells[3:6]) + f" | {cells[6]:.2f} | {row.difference:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--prompts", type=int, default=18, help="how many of the held-back prompts, evenly chosen (18: all)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="the first is what the others are compared with")
    args = parser.parse_args()
    prompts = held_back_prompts()[:: 18 // args.prompts]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    found = []
    trial = Trial(Studio(args.models, dtype=torch.bfloat16), prompts, seeds, Shot(steps=args.steps), args.out)
    for row in trial.rows(args.ways):
        found.append(row)
        print(row, flush=True)
        (args.out / "reuse.json").write_text(json.dumps([asdict(each) for each in found], indent=1), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
