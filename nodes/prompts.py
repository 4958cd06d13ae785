"""Nodes for prompts and values that change from frame to frame."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.schedule_chart import draw_values, draw_weights
from .host.motion.schedules import EASINGS, values_of_text
from .host.motion.steered import FrameInput
from .host.runs.prompt_conds import (
    INTERPOLATIONS,
    blend_prompts,
    encode_prompts,
    prompts_of_frames,
    read_prompt_schedule,
    texts_of,
)
from .host.types import CATEGORY, FloatsSocket, FrameValuesSocket
from .loom_node import LoomNode

_ALIASES = ["animatediff", "animate diff", "motion module"]
_PROMPTS = "0: a calm sea\n8: a storm"
_VALUES = "0: 1.0"


def frames_input() -> io.Int.Input:
    """How many frames a schedule is for."""
    return io.Int.Input("frames", default=16, min=1, max=4096)


def easing_input(what: str) -> io.Combo.Input:
    """How keyframes of a schedule lead to one another."""
    return io.Combo.Input("easing", options=EASINGS, default=EASINGS[0])


def _hold_input(what: str) -> io.Float.Input:
    return io.Float.Input("hold", default=0.0, min=0.0, max=1.0, step=0.01)


def _closed_loop_input(what: str) -> io.Boolean.Input:
    return io.Boolean.Input("closed_loop", default=False)


class PromptScheduleNode(LoomNode):
    """A conditioning with a prompt for each frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomPromptSchedule",
            category=f"{CATEGORY}/prompts",
            search_aliases=[*_ALIASES, "prompt travel", "batch prompt schedule", "prompt scheduling", "fizz", "keyframes"],
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input("text", default=_PROMPTS, multiline=True, dynamic_prompts=True),
                frames_input(),
                easing_input("prompt"),
                _hold_input("prompt"),
                io.Combo.Input("interpolation", options=INTERPOLATIONS, default=INTERPOLATIONS[0]),
                _closed_loop_input("prompt"),
                *(
                    io.MultiType.Input(name, types=[FrameValuesSocket, io.Float], optional=True)
                    for name in ("pw_a", "pw_b", "pw_c", "pw_d")
                ),
            ],
            outputs=[
                io.Conditioning.Output("conditioning"),
                io.Conditioning.Output("negative"),
                io.Image.Output("chart"),
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str = _PROMPTS, frames: int = 16, closed_loop: bool = False) -> bool:
        read_prompt_schedule(text, frames, EASINGS[0], 0.0, closed_loop)
        return True

    @classmethod
    def execute(
        cls, clip, text: str = _PROMPTS, frames: int = 16, easing: str = EASINGS[0], hold: float = 0.0,
        interpolation: str = INTERPOLATIONS[0], closed_loop: bool = False,
        pw_a: FrameInput = None, pw_b: FrameInput = None, pw_c: FrameInput = None, pw_d: FrameInput = None,
    ) -> io.NodeOutput:  # fmt: skip
        schedule = read_prompt_schedule(text, frames, easing, hold, closed_loop)
        sides = prompts_of_frames(schedule, {"pw_a": pw_a, "pw_b": pw_b, "pw_c": pw_c, "pw_d": pw_d})
        encoded = encode_prompts(clip, [prompt for side in sides for prompt in texts_of(side)])
        conditioning, negative = (blend_prompts(encoded, side, interpolation) for side in sides)
        chart = draw_weights(schedule.weights(), frames, schedule.shared)
        return io.NodeOutput(conditioning, negative, chart, ui=ui.PreviewImage(chart, cls=cls))


class ValueScheduleNode(LoomNode):
    """A number for each frame, from keyframes and expressions written as text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomValueSchedule",
            category=f"{CATEGORY}/steering",
            search_aliases=[*_ALIASES, "keyframes", "batch value schedule", "value scheduling", "deforum", "expression", "math"],
            inputs=[
                io.String.Input("text", default=_VALUES, multiline=True),
                frames_input(),
                easing_input("number"),
                _hold_input("number"),
                _closed_loop_input("number"),
            ],
            outputs=[FrameValuesSocket.Output("values"), FloatsSocket.Output("floats"), io.Image.Output("chart")],
        )

    @classmethod
    def validate_inputs(cls, text: str = _VALUES, frames: int = 16, closed_loop: bool = False) -> bool:
        values_of_text(text, frames, EASINGS[0], 0.0, closed_loop)
        return True

    @classmethod
    def execute(
        cls, text: str = _VALUES, frames: int = 16, easing: str = EASINGS[0], hold: float = 0.0, closed_loop: bool = False
    ) -> io.NodeOutput:
        values = values_of_text(text, frames, easing, hold, closed_loop)
        chart = draw_values(values)
        return io.NodeOutput(values, list(values), chart, ui=ui.PreviewImage(chart, cls=cls))


NODES = [PromptScheduleNode, ValueScheduleNode]
