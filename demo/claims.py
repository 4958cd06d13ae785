"""Measure what the AnimateDiff paper claims, on prompts that no model of the demo world has seen.

Prints the table of ``docs/claims.md``; writes it as JSON, with sheets of frames, into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..animation.metrics import measure
from ..motion_models.checkpoint import save
from ..motion_models.config import Family
from ..motion_models.training.initialise import new_motion_model
from ..motion_models.training.latent_clips import write_latent_clips
from ..motion_models.training.settings import TrainingSettings
from ..nodes.host.files.loading import load_motion_model, temporal_attention
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model
from ..nodes.host.training.encoders import frame_encoder, text_encoder
from ..nodes.host.training.training_run import make_trainer
from .clips import held_back_prompts
from .look import judge
from .make_clips import random_clips
from .sheet import contact_sheet

TRAINED_SIZE = 64


@dataclass(frozen=True)
class Row:
    """One claim: what was measured, what it should reach, on how many animations.

    Attributes:
        at_least: whether ``bound`` is the least or the most that ``value`` may be.
    """

    claim: str
    measure: str
    value: float
    bound: float
    at_least: bool
    count: int

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Clip:
    """A rendered animation ``(f, 3, h, w)`` and what was asked for."""

    prompt: str
    seed: int
    frames: Tensor

    @property
    def wanted(self) -> tuple[str, str, str]:
        """Colour, shape and direction."""
        _, colour, shape, _, direction = self.prompt.split()
        return colour, shape, direction


class Claims:
    """Renders each shot once and measures.

    Args:
        studio: with the models.
        prompts: "a COLOUR SHAPE moving DIRECTION" each.
        seeds: consecutive.
        out: where sheets of frames go, if anywhere.
    """

    def __init__(self, studio: Studio, prompts: Sequence[str], seeds: Sequence[int], out: Path | None = None):
        self.studio, self.prompts, self.seeds, self.out = studio, prompts, seeds, out
        self._rendered: dict[str, list[Clip]] = {}

    def clips(self, name: str, shot: Shot, model: ModelPatcher | None = None) -> list[Clip]:
        """All prompts and seeds, rendered, with another MODEL than the shot's if one is given; ``name`` is the sheet's."""
        if name not in self._rendered:
            began = time.monotonic()
            self._rendered[name] = [
                Clip(prompt, seed, frames)
                for prompt in self.prompts
                for seed, frames in zip(self.seeds, self.studio.render(prompt, self.seeds, shot, model), strict=True)
            ]
            print(f"{name}: {len(self._rendered[name])} animations in {time.monotonic() - began:.0f} s", flush=True)
            self.write_sheet(name, self._rendered[name])
        return self._rendered[name]

    def write_sheet(self, name: str, clips: Sequence[Clip]) -> None:
        """A picture of some frames of each prompt's first clip, if there is a place for it."""
        if self.out is None:
            return
        first = [clip for clip in clips if clip.seed == self.seeds[0]]
        sheet = contact_sheet([clip.frames[::3] for clip in first], [clip.prompt for clip in first])
        self.out.mkdir(parents=True, exist_ok=True)
        sheet.save(self.out / f"{name}.png", optimize=True)

    # --- the claims ---------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        yield self.direction("text controls the motion", "motion", Shot(), 0.9)
        yield from self.look()
        yield from self.smoothness()
        yield self.direction("any personalised model, no fine-tuning", "lora", Shot(lora=True), 0.8)
        for factor in (1.5, 2.0):
            size = int(TRAINED_SIZE * factor)
            yield self.direction(f"resolution independent, {factor:g}x", f"size_{size}", Shot(size=size), 0.7)
        yield self.base_frozen()
        yield self.zero_initialisation()

    def direction(self, claim: str, name: str, shot: Shot, bound: float) -> Row:
        clips = self.clips(name, shot)
        right = [judge(clip.frames, outlined=shot.lora).direction == clip.wanted[2] for clip in clips]
        return Row(claim, "centroid moves in the prompted direction (chance: 25 %)", fmean(right), bound, True, len(clips))

    def look(self) -> Iterator[Row]:
        """Colour and shape, frame by frame, with the motion model and without."""
        animated = _look_of(self.clips("motion", Shot()))
        alone = _look_of(self.clips("base_alone", Shot(motion=False)))
        count = len(self.prompts) * len(self.seeds)
        for kind, bound, seen, base in zip(("colour", "shape"), (0.9, 0.85), animated, alone, strict=True):
            yield Row("look is preserved", f"{kind} as prompted", seen, bound, True, count)
            yield Row("look is preserved", f"{kind}: loss against base alone ({base:.1%})", base - seen, 0.05, False, count)

    def smoothness(self) -> Iterator[Row]:
        flicker = {
            name: fmean(measure(clip.frames.movedim(1, -1)).flicker for clip in self.clips(name, shot))
            for name, shot in (
                ("motion", Shot()),
                ("base_alone", Shot(motion=False)),
                ("text2video_zero", Shot(motion=False, text2video_zero=True)),
            )
        }
        count = len(self.prompts) * len(self.seeds)
        ratio, to_zero = flicker["motion"] / flicker["base_alone"], flicker["motion"] / flicker["text2video_zero"]
        yield Row("temporally smooth", "flicker with : without motion model", ratio, 1 / 3, False, count)
        yield Row("smoother than Text2Video-Zero", "flicker, Loom : Text2Video-Zero", to_zero, 1.0, False, count)

    def base_frozen(self) -> Row:
        """Bytes of the base's weights: when loaded, and after all that was rendered here and a short training."""
        settings = TrainingSettings(steps=3, learning_rate=1e-3, dtype="fp32")
        with tempfile.TemporaryDirectory() as folder:
            encode_frames, encode_text = frame_encoder(self.studio.vae), text_encoder(self.studio.clip)
            clips = write_latent_clips(folder, random_clips(3, seed=6), encode_frames, encode_text)
            for _ in make_trainer(self.studio.model, clips, Family.V3, settings).run():
                pass
        changed = float(self.studio.base_hash() != self.studio.first_hash)
        return Row("base model frozen", "weights changed by rendering and training", changed, 0.0, False, 1)

    def zero_initialisation(self) -> Row:
        config, model = self.studio.motion_model.model.config, self.studio.model
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "untrained.safetensors"
            save(path, config, new_motion_model(config, temporal_attention(), seed=5).state_dict())
            animated = apply_motion_model(model, load_motion_model(str(path)), MotionSettings())
        shot = Shot(motion=False, steps=4)
        images = [self.studio.render(self.prompts[0], self.seeds[:1], shot, model=m) for m in (model, animated)]
        difference = (images[0] - images[1]).abs().max().item()
        return Row("zero initialisation", "largest difference, untrained : no motion model", difference, 0.0, False, 1)


def _look_of(clips: Sequence[Clip]) -> tuple[float, float]:
    """Shares of frames with the prompt's colour and with its shape."""
    colours, shapes = [], []
    for clip in clips:
        colour, shape, _ = clip.wanted
        for frame in clip.frames:
            seen = judge(frame[None])
            colours.append(seen.colour == colour)
            shapes.append(seen.shape == shape)
    return fmean(colours), fmean(shapes)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| claim | measure | animations | result | required | holds |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.claim} | {row.measure} | {row.count} | {row.value:.3g} | {'≥' if row.at_least else '≤'} {row.bound:.3g} "
            f"| {'yes' if row.holds else '**no**'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--motion-model", type=Path, help="another motion model's file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--prompts", type=int, default=18, help="how many of the held-back prompts, evenly chosen (18: all)")
    args = parser.parse_args()
    prompts = held_back_prompts()[:: 18 // args.prompts]
    studio = Studio(args.models, args.motion_model, torch.bfloat16 if args.bf16 else None)
    claims = Claims(studio, prompts, range(args.first_seed, args.first_seed + args.seeds), args.out)
    rows = []
    for row in claims.rows():
        rows.append(row)
        print(f"{row.claim}: {row.measure}: {row.value:.3f}", flush=True)
    (args.out / "claims.json").write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(table(rows))
