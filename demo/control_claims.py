"""Measure what settings for more or less motion do to direction, look, motion and flicker, value by value.

Prints a table for ``docs/claims.md``; writes it as JSON, with sheets of frames, into ``--out``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from comfy.model_patcher import ModelPatcher

from ..animation.metrics import measure
from ..nodes.guidance import MotionGuidanceNode, TemporalAttentionNode
from ..nodes.host.motion.model_sampling import AUTO, choose_beta_schedule
from ..nodes.host.motion.steered import MotionSettings, Steered
from ..nodes.host.runs.applying import apply_motion_model
from .claims import Claims, Clip
from .clips import held_back_prompts
from .look import judge


@dataclass(frozen=True)
class Measured:
    """Means over animations of one setting.

    Attributes:
        direction: share of animations that move as prompted.
        colour: share of frames with the prompt's colour.
        shape: share of frames with the prompt's shape.
        travel: length of the subject's path in half image widths.
        motion: of Animation Metrics, in percent of the width per frame.
        flicker: of Animation Metrics, in levels.
    """

    direction: float
    colour: float
    shape: float
    travel: float
    motion: float
    flicker: float


Change = Callable[[ModelPatcher], ModelPatcher]


def settings_to_measure(studio: Studio, names: Sequence[str]) -> dict[str, Change]:
    """What makes a MODEL with one setting of a shot's, by its name in the table; only names that begin with one of ``names``."""

    def guided(scale: float, blocks: str) -> Change:
        return lambda model: MotionGuidanceNode.execute(model, scale, blocks)[0]

    def shaped(*values: float) -> Change:
        return lambda _: applied(TemporalAttentionNode.execute(studio.motion_model, *values)[0])

    def applied(motion_model: ModelPatcher, strength: float = 1.0) -> ModelPatcher:
        model = apply_motion_model(studio.model, motion_model, MotionSettings(strength=Steered(strength)))
        choose_beta_schedule(model, motion_model.model.config, AUTO)
        return model

    every: dict[str, Change] = {"nothing": lambda model: model}
    for blocks, scale in (("all", 0.5), ("all", 1.0), ("all", 2.0), ("all", 4.0), ("up", 1.0), ("up", 2.0), ("down", 1.0)):
        every[f"guidance {scale:g} {blocks}"] = guided(scale, blocks)
    for strength in (1.25, 1.5):
        every[f"strength {strength:g}"] = lambda _, strength=strength: applied(studio.motion_model, strength)
    for enhance in (1.0, 2.0, 4.0, 8.0):
        every[f"enhance {enhance:g}"] = shaped(enhance)
    for neighbours in (0.25, 0.5, 1.0):
        every[f"neighbours {neighbours:g}"] = shaped(0.0, neighbours)
    return {name: change for name, change in every.items() if not names or name.startswith(tuple(names))}


def measured(clips: Sequence[Clip]) -> Measured:
    seen = [judge(clip.frames) for clip in clips]
    frames = [(clip.wanted, judge(frame[None])) for clip in clips for frame in clip.frames]
    metrics = [measure(clip.frames.movedim(1, -1)) for clip in clips]
    return Measured(
        direction=fmean(each.direction == clip.wanted[2] for each, clip in zip(seen, clips, strict=True)),
        colour=fmean(each.colour == wanted[0] for wanted, each in frames),
        shape=fmean(each.shape == wanted[1] for wanted, each in frames),
        travel=fmean(each.travel for each in seen),
        motion=fmean(each.motion_amount for each in metrics),
        flicker=fmean(each.flicker for each in metrics),
    )


def row(name: str, values: Measured) -> str:
    return (
        f"| {name} | {values.direction:.0%} | {values.colour:.1%} | {values.shape:.1%} | {values.travel:.2f} | {values.motion:.2f} "
        f"| {values.flicker:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of the settings' names")
    args = parser.parse_args()
    studio = Studio(args.models, dtype=torch.bfloat16 if args.bf16 else None)
    claims = Claims(studio, held_back_prompts(), range(args.first_seed, args.first_seed + args.seeds), args.out)
    results = {}
    print("| setting | direction | colour | shape | travel | motion | flicker |\n|---|---|---|---|---|---|---|")
    for name, change in settings_to_measure(studio, args.only).items():
        shot = Shot()
        values = measured(claims.clips(name.replace(" ", "_"), shot, change(studio.prepared(shot))))
        results[name] = asdict(values)
        print(row(name, values), flush=True)
        (args.out / "control_claims.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
