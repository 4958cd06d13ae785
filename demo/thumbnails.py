"""Draw the pictures of the example workflows: what each makes of the demo world's models.

``python3 loom.py run demo.thumbnails --work WORK --models MODELS``. Examples for models that the demo world has no like of,
such as AnimateLCM's, are left as they are.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from PIL import Image
from torch import Tensor

from ..animation.metrics import measure
from ..animation.retime import Repeat, Retime
from ..nodes.host.charts.loss_plot import draw_losses
from ..nodes.host.charts.metrics_plot import draw_metrics
from ..nodes.prompts import PromptScheduleNode
from .clips import random_scene, render
from .long_claims import LONG, LONG_SHOT, LOOP_SHOT

SIDE = 512
_PAPER = "#17191d"
_SEED = 7
_PROMPT = "a blue square moving down"
_EXAMPLES = Path(__file__).parent.parent / "example_workflows"


def tiles(frames: Tensor, columns: int) -> Image.Image:
    """Lay frames ``(f, 3, h, w)`` out in rows that are as wide as the picture."""
    side = SIDE // columns
    picture = Image.new("RGB", (SIDE, -(-len(frames) // columns) * side), _PAPER)
    for place, frame in enumerate(frames):
        image = Image.fromarray((frame.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy())
        picture.paste(image.resize((side - 2, side - 2), Image.Resampling.LANCZOS), (place % columns * side + 1, place // columns * side + 1))
    return picture


def stacked(*parts: Image.Image) -> Image.Image:
    """A square of pictures of its width below one another, in its middle."""
    square = Image.new("RGB", (SIDE, SIDE), _PAPER)
    top = (SIDE - sum(part.height for part in parts)) // 2
    for part in parts:
        square.paste(part, (0, top))
        top += part.height
    return square


class Thumbnails:
    """A method for each example, named as it is."""

    def __init__(self, studio: Studio, work: Path):
        self.studio, self.work = studio, work

    def text_to_animation(self) -> Image.Image:
        return stacked(tiles(self._clip(Shot(size=96)), 4))

    def text2video_zero(self) -> Image.Image:
        return stacked(tiles(self._clip(Shot(motion=False, text2video_zero=True)), 4))

    def steer_the_motion(self) -> Image.Image:
        """From above: half as fast, as trained, forth and back."""
        retimed = (Retime(speed=0.5), Retime(), Retime(repeat=Repeat.PING_PONG, repeat_frames=9))
        return stacked(*(tiles(self._clip(Shot(size=96, retime=retime))[::3], 6) for retime in retimed))

    def long_animation(self) -> Image.Image:
        return stacked(tiles(self._clip(LONG_SHOT), 8))

    def seamless_loop(self) -> Image.Image:
        return stacked(tiles(self._clip(LOOP_SHOT), 6))

    def prompt_travel(self) -> Image.Image:
        schedule = "16: a red circle moving right\n47: a blue square moving right"
        conditioning = PromptScheduleNode.execute(self.studio.clip, schedule, LONG).result[0]
        return stacked(tiles(self.studio.render(conditioning, [_SEED], LONG_SHOT)[0], 8))

    def video_to_video(self) -> Image.Image:
        """Above a drawn clip, below what becomes of it with the outlined look's LoRA."""
        scene = random_scene(torch.Generator().manual_seed(_SEED))
        drawn = render(scene, 128)
        again = self.studio.render(scene.caption, [_SEED], Shot(size=128, lora=True, denoise=0.75, steps=14), video=drawn)[0]
        return stacked(tiles(drawn[::2], 4), tiles(again[::2], 4))

    def measure_an_animation(self) -> Image.Image:
        clip = self._clip(Shot(size=96))
        plot = draw_metrics(measure(clip.movedim(1, -1)))[0]
        image = Image.fromarray((plot * 255).round().byte().numpy()).resize((SIDE, SIDE * 360 // 640), Image.Resampling.LANCZOS)
        return stacked(image, tiles(clip[::3], 6))

    def train_a_motion_model(self) -> Image.Image:
        """The loss, and frames before and after the training."""
        with open(self.work / "motion_losses.csv", newline="", encoding="utf-8") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        before, after = (self._clip(Shot(size=96, motion=motion))[::3] for motion in (False, True))
        return stacked(draw_losses(losses, len(losses)), tiles(before, 6), tiles(after, 6))

    def _clip(self, shot: Shot) -> Tensor:
        return self.studio.render(_PROMPT, [_SEED], shot)[0]


def method_name(example: Path) -> str:
    return example.stem.removeprefix("AnimateDiff - ").lower().replace(" ", "_").replace("-", "_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with the training's results")
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--only", nargs="*", help="names of examples (all)")
    parser.add_argument("--out", type=Path, default=_EXAMPLES)
    args = parser.parse_args()
    thumbnails = Thumbnails(Studio(args.models, dtype=torch.bfloat16 if args.bf16 else None), args.work)
    for path in sorted(_EXAMPLES.glob("*.json")):
        draw: Callable[[], Image.Image] | None = getattr(thumbnails, method_name(path), None)
        if draw is not None and (not args.only or path.stem in args.only):
            draw().save(args.out / f"{path.stem}.jpg", quality=88, optimize=True)
            print(path.stem, flush=True)
