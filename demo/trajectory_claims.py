"""Measure Trajectory: how near a subject stays to a path that no prompt can say, with its colour and shape.

Prints a table for ``docs/claims.md``; writes it as JSON, with sheets of frames, into ``--out``. The control is the same prompts
and seeds without a trajectory, and other ways are parts of it alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from torch import Tensor

from ..animation.metrics import measure
from ..nodes.host.charts.path_chart import draw_paths
from ..nodes.trajectory import TrajectoryNode
from .clips import held_back_prompts
from .look import centroids, judge, subject_masks
from .sheet import contact_sheet

FRAMES = 16
REACH = 0.25  # of the picture's width: corners lie so far from the middle
CORNERS = {"L": ((-1, -1), (-1, 1), (1, 1)), "V": ((-1, -1), (0, 1), (1, -1)), "diagonal": ((-1, -1), (1, 1))}
KINDS = (*CORNERS, "circle")
TURNS = 8  # a quarter each, and mirrored

WAYS: dict[str, dict[str, Any] | None] = {
    "trajectory": {},
    "nothing": None,
    "without carry": {"carry": False},
    "carry alone": {"strength": 0.0, "word_strength": 0.0, "noise": 0.0},
    "noise alone": {"strength": 0.0, "word_strength": 0.0, "carry": False},
    "attention alone": {"noise": 0.0, "carry": False},
}


@dataclass(frozen=True)
class Course:
    """A path in one of eight positions; ``text`` is for the node, ``centres`` is worked out from the path's own geometry."""

    kind: str
    turn: int

    def _turned(self, x: Any, y: Any) -> tuple[Any, Any]:
        for _ in range(self.turn % 4):
            x, y = -y, x
        return (-x, y) if self.turn // 4 % 2 else (x, y)

    @property
    def text(self) -> str:
        if self.kind == "circle":
            (x, of_x), (y, of_y) = (1, "cos"), (1, "sin")
            for _ in range(self.turn % 4):
                (x, of_x), (y, of_y) = (-y, of_y), (x, of_x)
            x = -x if self.turn // 4 % 2 else x
            return f"0: 0.5 + {REACH * x:g}*{of_x}(2*pi*t/max_f), 0.5 + {REACH * y:g}*{of_y}(2*pi*t/max_f)"
        corners = [self._turned(*corner) for corner in CORNERS[self.kind]]
        last = len(corners) - 1
        return "\n".join(f"{100 * i / last:g}%: {0.5 + REACH * x:g}, {0.5 + REACH * y:g}" for i, (x, y) in enumerate(corners))

    @property
    def centres(self) -> Tensor:
        """Each frame's centre in shares of the picture, ``(f, 2)``."""
        moments = torch.linspace(0, 1, FRAMES)
        if self.kind == "circle":
            x, y = self._turned(torch.cos(2 * math.pi * moments), torch.sin(2 * math.pi * moments))
            return 0.5 + REACH * torch.stack([x, y], dim=1)
        corners = torch.tensor([self._turned(*corner) for corner in CORNERS[self.kind]], dtype=torch.float32)
        legs = len(corners) - 1
        leg = (moments * legs).long().clamp(max=legs - 1)
        share = (moments * legs - leg)[:, None]
        return 0.5 + REACH * torch.lerp(corners[leg], corners[leg + 1], share)


@dataclass(frozen=True)
class Measured:
    """Means over clips of one way.

    Attributes:
        distance: of the subject's centre to the path, in shares of the picture's width; and for each kind of path.
        colour, shape: shares of frames with the prompt's.
        flicker: of Animation Metrics, in levels.
    """

    clips: int
    distance: float
    kinds: Mapping[str, float]
    colour: float
    shape: float
    flicker: float

    def row(self, name: str) -> str:
        kinds = " | ".join(f"{self.kinds[kind]:.1%}" if kind in self.kinds else "" for kind in KINDS)
        return (
            f"| {name} | {self.clips} | **{self.distance:.1%}** | {kinds} | {self.colour:.1%} | {self.shape:.1%} | {self.flicker:.2f} |"
        )


@dataclass(frozen=True)
class _Clip:
    colour: str
    shape: str
    course: Course
    seed: int

    @property
    def prompt(self) -> str:
        return f"a {self.colour} {self.shape}"

    @property
    def words(self) -> str:
        return f"{self.colour} {self.shape}"


def clips_to_render(seeds: Sequence[int]) -> Iterator[_Clip]:
    """The held-back prompts' colours and shapes, with each seed, on all paths in turn."""
    for number, (seed, prompt) in enumerate(product(seeds, held_back_prompts())):
        _, colour, shape, *_ = prompt.split()
        yield _Clip(colour, shape, Course(KINDS[number % len(KINDS)], (seed + number // len(KINDS)) % TURNS), seed)


class TrajectoryClaims:
    """Renders and measures.

    Args:
        studio: with the models.
        clips: what to render in each way.
        out: where sheets of frames go.
        shot: how each is rendered.
    """

    def __init__(self, studio: Studio, clips: Sequence[_Clip], out: Path, shot: Shot | None = None):
        self.studio, self.clips, self.out, self.shot = studio, clips, out, shot or Shot()

    def measured(self, name: str, changes: dict[str, Any] | None) -> Measured:
        began = time.monotonic()
        distances: dict[str, list[float]] = {}
        frames, flicker, shown = [], [], []
        for clip in self.clips:
            animation = self._render(clip, changes)
            seen = (centroids(subject_masks(animation)) + 1) / 2
            distances.setdefault(clip.course.kind, []).append((seen - clip.course.centres).norm(dim=1).mean().item())
            frames += [(clip, judge(frame[None])) for frame in animation]
            flicker.append(measure(animation.movedim(1, -1)).flicker)
            shown.append((self._with_path(animation, clip.course)[::3], f"{clip.prompt}: {clip.course.kind}"))
        sheet = contact_sheet(*(list(column) for column in zip(*shown[:12], strict=True)))
        self.out.mkdir(parents=True, exist_ok=True)
        sheet.save(self.out / f"{name.replace(' ', '_')}.png", optimize=True)
        print(f"{name}: {len(self.clips)} animations in {time.monotonic() - began:.0f} s", flush=True)
        return Measured(
            len(self.clips),
            fmean(distance for each in distances.values() for distance in each),
            {kind: fmean(each) for kind, each in distances.items()},
            fmean(seen.colour == clip.colour for clip, seen in frames),
            fmean(seen.shape == clip.shape for clip, seen in frames),
            fmean(flicker),
        )

    @staticmethod
    def _with_path(animation: Tensor, course: Course) -> Tensor:
        path = torch.cat([course.centres, torch.full((FRAMES, 2), 0.02)], dim=1)
        return draw_paths(animation.movedim(1, -1), [path]).movedim(-1, 1)

    def _render(self, clip: _Clip, changes: dict[str, Any] | None) -> Tensor:
        model = self.studio.prepared(self.shot)
        if changes is not None:
            inputs = {"path": clip.course.text, "words": clip.words, "prompt": clip.prompt, "clip": self.studio.clip, **changes}
            model = TrajectoryNode.execute(model, **inputs)[0]
        (frames,) = self.studio.render(clip.prompt, [clip.seed], self.shot, model)
        return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, help="only so many of them")
    parser.add_argument("--first-seed", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=Shot.steps)
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    args = parser.parse_args()
    studio = Studio(args.models, dtype=torch.bfloat16 if args.bf16 else None)
    clips = list(clips_to_render(range(args.first_seed, args.first_seed + args.seeds)))[: args.clips]
    claims = TrajectoryClaims(studio, clips, args.out, Shot(steps=args.steps))
    results = {}
    print(f"| way | clips | distance | {' | '.join(KINDS)} | colour | shape | flicker |\n|{'---|' * (6 + len(KINDS))}")
    for name in args.ways:
        results[name] = claims.measured(name, WAYS[name])
        print(results[name].row(name), flush=True)
        written = {way: asdict(values) for way, values in results.items()}
        (args.out / "trajectory_claims.json").write_text(json.dumps(written, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
