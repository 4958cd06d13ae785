"""Make the moving pictures of the example workflows: what each makes of the demo world's models.

``python3 loom.py run demo.thumbnails --models MODELS``. The template browser asks for ``NAME.jpg`` only; what lies there is an
animated WEBP, which browsers know by its first bytes. Where the demo world has no like of an example's models, such as
AnimateLCM's, its own models stand in.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ..animation.camera_path import CameraPath, Move
from ..animation.camera_text import path_part_of_text
from ..animation.retime import Repeat, Retime
from ..animation.schedule import Easing, Pace
from ..animation.shared_noise import SharedNoise
from ..nodes.apply import ApplyMotionModelNode
from ..nodes.guidance import MotionGuidanceNode, TemporalAttentionNode
from ..nodes.image_to_animation import FrameFalloffNode, ImageToAnimationNode
from ..nodes.latents import PingPongNode, RepeatLastFrameNode
from ..nodes.noise import ApplyFreeNoiseNode, FreeInitNode, SharedNoiseNode, StartingNoiseNode
from ..nodes.prompts import PromptScheduleNode, ValueScheduleNode
from ..nodes.trajectory import TrajectoryNode
from ..nodes.windows import ContextWindowsNode, ViewWindowsNode
from .camera_scene import render_scene
from .clips import COLOURS, FRAMES, Scene, random_scene, render
from .long_claims import LONG, LONG_SHOT, LOOP_SHOT

SIDE, STRIP = 320, 34
FPS, MOST_FRAMES = 8, 32
_PAPER, _INK, _BLUE = "#17191d", "#e6e6e6", "#5b9bc4"
_SEED = 7
_SHARED = SharedNoise().cutoff
_SHOT = Shot(steps=8, shared_noise=_SHARED)
_SQUARE = "a blue square moving down"
_HERE = Path(__file__).parent
_EXAMPLES = (_HERE.parent / "example_workflows", _HERE / "pack" / "example_workflows")


@dataclass(frozen=True)
class Card:
    """What a thumbnail shows.

    Attributes:
        clips: frames ``(f, 3, h, w)`` each, played side by side; all have as many.
        label: a few words below them.
        colours: of the bar that runs along with the frames, spread over its length.
        pace: how many frames each one stands for.
    """

    clips: Sequence[Tensor]
    label: str
    colours: Sequence[str] = (_BLUE,)
    pace: int = 1

    def frames(self) -> list[Image.Image]:
        count = len(self.clips[0])
        step = -(-count // MOST_FRAMES)
        return [self._frame(number, count) for number in range(0, count, step)]

    def milliseconds(self) -> int:
        return 1000 * self.pace * -(-len(self.clips[0]) // MOST_FRAMES) // FPS

    def _frame(self, number: int, count: int) -> Image.Image:
        picture = Image.new("RGB", (SIDE, SIDE), _PAPER)
        side = SIDE // len(self.clips)
        top = 0 if len(self.clips) == 1 else (SIDE - STRIP - side) // 2
        for place, clip in enumerate(self.clips):
            image = Image.fromarray((clip[number].clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy())
            gap = 2 if len(self.clips) > 1 else 0
            image = image.resize((side - 2 * gap, side - 2 * gap), Image.Resampling.LANCZOS)
            picture.paste(image, (place * side + gap, top + gap))
        self._draw_strip(picture, (number + 1) / count)
        return picture

    def _draw_strip(self, picture: Image.Image, done: float) -> None:
        """The label, and how much of the clip has passed, before a dark strip."""
        box = (0, SIDE - STRIP, SIDE, SIDE)
        picture.paste(Image.blend(picture.crop(box), Image.new("RGB", (SIDE, STRIP), _PAPER), 0.8), box)
        draw = ImageDraw.Draw(picture)
        draw.text((10, SIDE - STRIP / 2 - 2), self.label, fill=_INK, font=ImageFont.load_default(17), anchor="lm")
        width = SIDE / len(self.colours)
        for place, colour in enumerate(self.colours):
            if (left := place * width) < done * SIDE:
                draw.rectangle((left, SIDE - 4, min(left + width, done * SIDE), SIDE), fill=colour)


def _drawn(
    colour: str, shape: str, start: tuple[float, float], end: tuple[float, float], radius: float = 0.4, frames: int = FRAMES
) -> Tensor:
    """A clip as the demo world draws it, of a shape that ends with another radius than 0.4, if one is given."""
    ground, slope = (0.2, 0.21, 0.24), (0.04, 0.03)
    scene = Scene(colour, shape, "moving", start, end, 0.4, radius, None, COLOURS[colour], ground, slope)
    return render(scene, 160, torch.linspace(0, 1, frames))


_STILL = Scene("purple", "triangle", "moving right", (-0.4, 0.1), (0.4, 0.1), 0.38, 0.38, None, COLOURS["purple"], (0.08, 0.09, 0.14), (0.02, 0.01))


def _still() -> Tensor:
    """One image ``(1, h, w, 3)``, as nodes take it."""
    return render(_STILL, 64)[:1].movedim(1, -1)


def _first(node: Any, *inputs: Any, **more: Any) -> Any:
    """A node's first output."""
    return node.execute(*inputs, **more).result[0]


class Thumbnails:
    """A method for each example, named as it is."""

    def __init__(self, studio: Studio):
        self.studio = studio
        self._clip = cache(self._render)

    def text_to_animation(self) -> Card:
        return Card([self._clip(_SQUARE, _SHOT)], "16 frames")

    def animatediff_demo(self) -> Card:
        return Card([self._clip("a red circle moving left on a dark background", _SHOT)], "16 frames")

    def fast_with_animatelcm(self) -> Card:
        return Card([self._clip("a yellow triangle moving up on a dark background", _SHOT)], "8 steps")

    def sdxl_animation(self) -> Card:
        return Card([self._clip("a purple circle growing on a light background", replace(_SHOT, steps=12))], "large frames")

    def text2video_zero(self) -> Card:
        shot = replace(_SHOT, motion=False, text2video_zero=True, shared_noise=None, frames=8)
        clip = self._clip("a red circle on a grey background", shot)
        return Card([clip.repeat_interleave(2, 0)], "no motion model")

    def steer_the_motion(self) -> Card:
        retimed = (Retime(speed=0.5), Retime(), Retime(repeat=Repeat.PING_PONG, repeat_frames=9))
        clips = [self._clip(_SQUARE, Shot(size=96, retime=retime))[::3] for retime in retimed]
        return Card(clips, "half speed, as trained, to and fro", pace=3)

    def long_animation(self) -> Card:
        return Card([self._clip(_SQUARE, LONG_SHOT)], f"{LONG} frames")

    def seamless_loop(self) -> Card:
        return Card([self._clip(_SQUARE, LOOP_SHOT)], "a loop")

    def prompt_travel(self) -> Card:
        schedule = "16: a red circle moving right\n47: a blue square moving right"
        conditioning = _first(PromptScheduleNode, self.studio.clip, schedule, LONG)
        colours = ("#d9453f", "#d9453f", "#985f86", "#4a72d9", "#4a72d9")
        return Card([self.studio.render(conditioning, [_SEED], LONG_SHOT)[0]], "a red circle, a blue square", colours)

    def image_to_animation(self) -> Card:
        latent = _first(ImageToAnimationNode, self.studio.vae, _still(), FRAMES, "at frames", "0, -1", 1.0, 2)
        values = _first(FrameFalloffNode, "0, -1", FRAMES, 6, "ease-in-out", 1, 1.2)
        clip = self._made(_STILL.caption, Shot(), self._animated(motion_scale_values=values), latent)
        return Card([clip], "begins and ends with a picture")

    def picture_to_loop(self) -> Card:
        with torch.inference_mode():
            latent = _first(RepeatLastFrameNode, {"samples": self.studio.vae.encode(_still())}, FRAMES)
        clip = self._made(_STILL.caption, Shot(denoise=0.75), self._animated(), latent)
        return Card([_first(PingPongNode, clip.movedim(1, -1)).movedim(-1, 1)], "a picture, there and back")

    def custom_sampler(self) -> Card:
        model = self._animated((ContextWindowsNode,), (ApplyFreeNoiseNode,))
        return Card([self._made("a white triangle moving up", Shot(frames=48, scheduler="karras"), model)], "48 frames")

    def smoother_long_animation(self) -> Card:
        model = self._animated(
            (ViewWindowsNode, 16, 12), (StartingNoiseNode, 0, "a seed per frame"), (ApplyFreeNoiseNode, 16, 12),
            (FreeInitNode, 3, "butterworth", 0.25, 0.25, 4, True),
        )  # fmt: skip
        return Card([self._made("a red circle moving right on a dark background", Shot(frames=32), model)], "32 frames")

    def steadier_animation(self) -> Card:
        shaped = _first(TemporalAttentionNode, self.studio.motion_model, 4.0)
        model = self._animated((MotionGuidanceNode, 0.5), motion_model=shaped)
        return Card([self._made("a green triangle moving left on a light background", Shot(steps=12), model)], "steadier")

    def move_along_a_path(self) -> Card:
        prompt = "a red circle on a dark background"
        path = "0: 0.3, 0.32\n50%: 0.5, 0.66\n-1: 0.7, 0.32"
        told = {"words": "red circle", "prompt": prompt, "clip": self.studio.clip}
        model = _first(TrajectoryNode, self._animated(), path, **told)
        clip = functional.interpolate(self._made(prompt, Shot(steps=12), model), size=(SIDE, SIDE), mode="bicubic")
        _, shown = TrajectoryNode.execute(self.studio.model, path, images=clip.movedim(1, -1)).result
        return Card([shown.movedim(-1, 1)], "along a path")

    def move_to_a_beat(self) -> Card:
        beat, beams = (_first(ValueScheduleNode, f"0: 1 + {height} * cos(2 * pi * t / 8)", 32) for height in (0.25, 0.6))
        prompts = _first(PromptScheduleNode, self.studio.clip, "a purple square on a (light background:`pw_a`)", 32, pw_a=beams)
        model = self._animated((ContextWindowsNode,), motion_scale_values=beat)
        return Card([self._made(prompts, Shot(frames=32), model)], "one beat a second", (_BLUE, _PAPER) * 4)

    # Drawn, not rendered. The demo world has no motion LoRA, no second motion model and none that takes an image.

    def motion_lora(self) -> Card:
        return Card([_drawn("green", "square", (0.5, 0.1), (-0.5, 0.1))], "to the left")

    def merge_motion_models(self) -> Card:
        ends = ((0.5, 0.0), (0.2, 0.3), (-0.1, 0.6))
        return Card([_drawn("yellow", "circle", (-0.4, -0.4), end) for end in ends], "one, half of both, the other")

    def sparsectrl(self) -> Card:
        return Card([_drawn("red", "square", (0.0, 0.5), (0.0, -0.4))], "led by a picture")

    def pia(self) -> Card:
        return Card([_drawn("blue", "circle", (-0.1, 0.0), (0.3, -0.1), 0.3)], "a picture moves")

    def animatelcm_i2v(self) -> Card:
        return Card([_drawn("green", "triangle", (0.1, 0.1), (-0.3, -0.05), 0.32)], "a picture moves, in 6 steps")

    def camera_path(self) -> Card:
        """What the example's path does to a scene in which nothing moves."""
        keyframes = path_part_of_text("pan: 4: 0, -1: 22\ntilt: 0: 0, 50%: 4, -1: 0", Pace(Easing.EASE_IN_OUT))
        path = CameraPath((Move("dolly in"), keyframes))
        return Card([render_scene(path.over(FRAMES), SIDE)], "along a path")

    def video_to_video(self) -> Card:
        """A drawn clip, and what becomes of it with the outlined look's LoRA."""
        drawn = render(scene := random_scene(torch.Generator().manual_seed(_SEED)), 64)
        again = self.studio.render(scene.caption, [_SEED], replace(_SHOT, lora=True, denoise=0.75), video=drawn)[0]
        return Card([drawn[::2], again[::2]], "a video in another look", pace=2)

    def measure_an_animation(self) -> Card:
        return Card(self._compared()[::-1], "with and without motion", pace=3)

    def train_a_motion_model(self) -> Card:
        return Card(self._compared(), "before and after the training", pace=3)

    def _compared(self) -> list[Tensor]:
        """Without the motion model, and with it."""
        return [self._clip(_SQUARE, Shot(size=96, motion=motion))[::3] for motion in (False, True)]

    def _render(self, prompt: str, shot: Shot) -> Tensor:
        return self.studio.render(prompt, [_SEED], shot)[0]

    def _animated(self, *nodes: tuple[Any, ...], motion_model: Any = None, **steering: Any) -> ModelPatcher:
        """The base with the motion model, behind nodes with their settings, and with the noise that keeps its backgrounds still."""
        model = _first(ApplyMotionModelNode, self.studio.model, motion_model or self.studio.motion_model, **steering)
        for node, *settings in (*nodes, (SharedNoiseNode, _SHARED)):
            model = _first(node, model, *settings)
        return model

    def _made(self, prompt: str | list, shot: Shot, model: ModelPatcher, latent: dict | None = None) -> Tensor:
        return self.studio.render(prompt, [_SEED], shot, model, latent=latent)[0]


def method_name(example: Path) -> str:
    return example.stem.removeprefix("AnimateDiff - ").lower().replace(" ", "_").replace("-", "_")


def save(card: Card, path: Path) -> None:
    first, *others = card.frames()
    first.save(
        path, "WEBP", save_all=True, append_images=others, duration=card.milliseconds(), loop=0, quality=62, method=6,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--only", nargs="*", help="names of examples (all)")
    parser.add_argument("--out", type=Path, help="where to (beside the examples)")
    args = parser.parse_args()
    thumbnails = Thumbnails(Studio(args.models, dtype=torch.bfloat16 if args.bf16 else None))
    for path in (path for folder in _EXAMPLES for path in sorted(folder.glob("*.json"))):
        name = path.stem.removeprefix("AnimateDiff - ")
        if not args.only or name in args.only:
            draw: Callable[[], Card] = getattr(thumbnails, method_name(path))
            save(draw(), (args.out or path.parent) / f"{path.stem}.jpg")
            print(name, flush=True)
