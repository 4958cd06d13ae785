"""Nodes for prompts and values that change from frame to frame."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.schedule_chart import draw_values, draw_weights
from .host.motion.curves import EASINGS, ValuesOfAnyClip, check_values, values_of_text
from .host.motion.frame_values import KNOWN_LATER, frames_of_clip
from .host.motion.steered import FrameInput
from .host.runs.prompt_conds import (
    INTERPOLATIONS,
    JOINERS,
    PADDINGS,
    blending_of,
    conds_of_any_clip,
    frames_between,
    pace_of,
    read_prompts,
    schedule_conds,
)
from .host.types import CATEGORY, FloatsSocket, FrameValuesSocket
from .loom_node import LoomNode

_PROMPTS = "0: a calm sea\n8: a storm"
_VALUES = "0: 1.0"


class PromptScheduleNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomPromptSchedule",
            category=f"{CATEGORY}/prompts",
            search_aliases=["prompt travel", "batch prompt schedule", "prompt scheduling", "fizz", "keyframes"],
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input("text", default=_PROMPTS, multiline=True, dynamic_prompts=True),
                io.Int.Input("frames", default=16, min=0, max=4096),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
                io.Float.Input("hold", default=0.0, min=0.0, max=1.0, step=0.01),
                io.Combo.Input("interpolation", options=INTERPOLATIONS, default=INTERPOLATIONS[0]),
                io.Boolean.Input("closed_loop", default=False),
                *(io.MultiType.Input(f"pw_{x}", types=[FrameValuesSocket, io.Float], optional=True) for x in "abcd"),
                io.Latent.Input("latent", optional=True),
                io.Combo.Input("joining", options=[*JOINERS], default="comma", optional=True, advanced=True),
                io.Combo.Input("padding", options=PADDINGS, default=PADDINGS[0], optional=True, advanced=True),
                io.Int.Input("start_frame", default=0, min=0, max=4096, optional=True, advanced=True),
                io.Int.Input("end_frame", default=0, min=0, max=4096, optional=True, advanced=True),
            ],
            outputs=[*map(io.Conditioning.Output, ("conditioning", "negative")), io.Image.Output("chart")],
        )

    @classmethod
    def validate_inputs(cls, text: str = _PROMPTS) -> bool:
        read_prompts(text)  # checks it; ComfyUI gives an error for each input that is named here
        return True

    @classmethod
    def execute(
        cls, clip, text: str = _PROMPTS, frames: int = 16, easing: str = EASINGS[0], hold: float = 0.0,
        interpolation: str = INTERPOLATIONS[0], closed_loop: bool = False,
        pw_a: FrameInput = None, pw_b: FrameInput = None, pw_c: FrameInput = None, pw_d: FrameInput = None,
        latent: io.Latent.Type | None = None, joining: str = "comma", padding: str = PADDINGS[0], start_frame: int = 0,
        end_frame: int = 0,
    ) -> io.NodeOutput:  # fmt: skip
        keyframes, pace = read_prompts(text, joining), pace_of(easing, hold, closed_loop)
        total_frames, blending = frames_of_clip(frames, latent), blending_of(interpolation, padding)
        part = frames_between(start_frame, end_frame, total_frames)
        if total_frames is None:
            return io.NodeOutput(*conds_of_any_clip(clip, keyframes, pace, blending), KNOWN_LATER)
        schedule = keyframes.over(total_frames, pace)
        weights = {"pw_a": pw_a, "pw_b": pw_b, "pw_c": pw_c, "pw_d": pw_d}
        conditioning, negative, _ = schedule_conds(clip, schedule, weights, blending, part)
        chart = draw_weights(schedule.weights(), total_frames, schedule.shared)
        return io.NodeOutput(conditioning, negative, chart, ui=ui.PreviewImage(chart, cls=cls))


class ValueScheduleNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomValueSchedule",
            category=f"{CATEGORY}/steering",
            search_aliases=["keyframes", "batch value schedule", "value scheduling", "deforum", "expression", "math"],
            inputs=[
                io.String.Input("text", default=_VALUES, multiline=True),
                io.Int.Input("frames", default=16, min=0, max=4096),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
                io.Float.Input("hold", default=0.0, min=0.0, max=1.0, step=0.01),
                io.Boolean.Input("closed_loop", default=False),
                io.Latent.Input("latent", optional=True),
            ],
            outputs=[FrameValuesSocket.Output("values"), FloatsSocket.Output("floats"), io.Image.Output("chart")],
        )

    @classmethod
    def validate_inputs(cls, text: str = _VALUES) -> bool:
        check_values(text)
        return True

    @classmethod
    def execute(
        cls, text: str = _VALUES, frames: int = 16, easing: str = EASINGS[0], hold: float = 0.0, closed_loop: bool = False,
        latent: io.Latent.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        values = values_of_text(text, frames_of_clip(frames, latent), easing, hold, closed_loop)
        if isinstance(values, ValuesOfAnyClip):
            return io.NodeOutput(values, KNOWN_LATER, KNOWN_LATER)
        chart = draw_values(values)
        return io.NodeOutput(values, list(values), chart, ui=ui.PreviewImage(chart, cls=cls))


NODES = [PromptScheduleNode, ValueScheduleNode]
