"""Nodes that make motion vary: over frames, over steps, over the UNet's blocks, and in its tempo."""

from __future__ import annotations

from comfy_api.input import CurveInput
from comfy_api.latest import io

from .host.motion.curves import to_curve
from .host.motion.retiming import REPEATS, Repeat, Retime, retime_motion
from .host.motion.schedules import EASINGS, curve_of_text, values_of_text
from .host.motion.steered import BlockValues
from .host.types import CATEGORY, BlockValuesSocket, FrameValuesSocket, MotionModelSocket, curve_input
from .loom_node import LoomNode
from .prompts import easing_input, frames_input

_CATEGORY = f"{CATEGORY}/steering"
_ALIASES = ["animatediff", "animate diff", "motion module"]


class FrameValuesNode(LoomNode):
    """A number for each frame, from keyframes written as text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFrameValues",
            display_name="Frame Values",
            category=_CATEGORY,
            description="One number per frame of a clip, from a few keyframes. Connect it to motion_scale_values or "
            "strength_values of Apply Motion Model.",
            search_aliases=[*_ALIASES, "keyframes", "value schedule", "multival", "animate motion scale"],
            inputs=[
                io.String.Input(
                    "text", default="0: 1.0", multiline=True,
                    tooltip="Keyframes as frame: value, one per line or separated by commas. Frames count from 0; -1 is the "
                    "last frame, 50% the middle of the clip. Or numbers only, which are spread evenly over the clip.",
                ),
                frames_input(),
                easing_input("keyframe"),
            ],
            outputs=[
                FrameValuesSocket.Output(
                    "values", display_name="values", tooltip="One number per frame, for Apply Motion Model."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str = "0: 1.0", frames: int = 16) -> bool:
        values_of_text(text, frames, EASINGS[0], inside=True)
        return True

    @classmethod
    def execute(cls, text: str = "0: 1.0", frames: int = 16, easing: str = EASINGS[0]) -> io.NodeOutput:
        return io.NodeOutput(values_of_text(text, frames, easing, inside=True))


class StepCurveNode(LoomNode):
    """A curve over the steps of a run, from keyframes written as text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomStepCurve",
            display_name="Step Curve",
            category=_CATEGORY,
            description="A curve over the sampling steps, from a few keyframes. Connect it to motion_scale_steps or "
            "strength_steps of Apply Motion Model. Where the curve is 0, the motion model costs nothing. Like ComfyUI's "
            "Curve Editor, but with any numbers.",
            search_aliases=[*_ALIASES, "keyframes", "timestep schedule", "curve", "strength over steps"],
            inputs=[
                io.String.Input(
                    "text", default="0%: 1.0\n100%: 1.0", multiline=True,
                    tooltip="Keyframes as position: value, one per line or separated by commas. 0% is the first step of the "
                    "run, 100% the last; 0.5 is the same as 50%. Or numbers only, which are spread evenly over the run.",
                ),
                easing_input("keyframe"),
            ],
            outputs=[
                io.Curve.Output(
                    "curve", display_name="curve",
                    tooltip="For the steps inputs of Apply Motion Model. In its values inputs, the curve spans the clip.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str = "0%: 1.0\n100%: 1.0") -> bool:
        curve_of_text(text, EASINGS[0])
        return True

    @classmethod
    def execute(cls, text: str = "0%: 1.0\n100%: 1.0", easing: str = EASINGS[0]) -> io.NodeOutput:
        return io.NodeOutput(curve_of_text(text, easing))


class MotionBlocksNode(LoomNode):
    """A factor for each part, and each level, of the UNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def level(part: str, number: int) -> io.Float.Input:
            notes = {1: ", the outermost one, with the finest features", 4: ", which SDXL doesn't have"}
            return io.Float.Input(
                f"{part}_{number}", default=1.0, min=0.0, max=10.0, step=0.01, advanced=True,
                tooltip=f"Multiplies {part} at level {number}{notes.get(number, '')}.",
            )

        return io.Schema(
            node_id="LoomMotionBlocks",
            display_name="Motion Blocks",
            category=_CATEGORY,
            description="Scales a motion model separately in each block of the UNet. Connect it to motion_scale_blocks or "
            "strength_blocks of Apply Motion Model.",
            search_aliases=[*_ALIASES, "per block", "block weights", "layers"],
            inputs=[
                io.Float.Input(
                    "down", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Factor for the down (encoder) blocks. A strength of 0 skips the motion model there.",
                ),
                io.Float.Input(
                    "mid", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Factor for the mid block. Only v2, AnimateLCM and LongAnimateDiff have a motion module there.",
                ),
                io.Float.Input(
                    "up", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Factor for the up (decoder) blocks. A strength of 0 skips the motion model there.",
                ),
                *(level("down", number) for number in range(1, 5)),
                *(level("up", number) for number in range(1, 5)),
            ],
            outputs=[
                BlockValuesSocket.Output(
                    "blocks", display_name="blocks", tooltip="One factor per block, for Apply Motion Model."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, down: float = 1.0, mid: float = 1.0, up: float = 1.0,
        down_1: float = 1.0, down_2: float = 1.0, down_3: float = 1.0, down_4: float = 1.0,
        up_1: float = 1.0, up_2: float = 1.0, up_3: float = 1.0, up_4: float = 1.0,
    ) -> io.NodeOutput:  # fmt: skip
        down_levels = tuple(down * level for level in (down_1, down_2, down_3, down_4))
        up_levels = tuple(up * level for level in (up_1, up_2, up_3, up_4))
        return io.NodeOutput(BlockValues(down_levels, mid, up_levels))


class RetimeMotionNode(LoomNode):
    """A motion model whose motion is slower, faster, eased or repeated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomRetimeMotion",
            display_name="Retime Motion",
            category=_CATEGORY,
            description="Slows down, speeds up, shifts, eases or repeats motion: the motion model sees the frames at "
            "positions other than 0, 1, 2 and so on. Put it between Load Motion Model and Apply Motion Model.",
            search_aliases=[*_ALIASES, "positional encoding", "stretch pe", "slow motion", "speed", "loop", "ping-pong"],
            inputs=[
                MotionModelSocket.Input("motion_model", tooltip="From Load Motion Model."),
                io.Float.Input(
                    "speed", default=1.0, min=0.0, max=8.0, step=0.05, round=0.001,
                    tooltip="Positions from one frame to the next. 1 is as trained; 0.5 spreads the motion of 16 frames over "
                    "32.",
                ),
                io.Float.Input(
                    "offset", default=0.0, min=0.0, max=4096.0, step=0.5, round=0.001,
                    tooltip="Position of the first frame. 0 is as trained.",
                ),
                io.Combo.Input(
                    "repeat", options=REPEATS, default=REPEATS[0],
                    tooltip="What happens after repeat_frames positions. none: they continue; loop: they start over; "
                    "ping-pong: they go back and forth.",
                ),
                io.Int.Input(
                    "repeat_frames", default=16, min=2, max=4096,
                    tooltip="Number of positions to repeat. Not used if repeat is none.",
                ),
                io.Boolean.Input(
                    "extend", default=False,
                    tooltip="Allows positions beyond those that the motion model has. They follow the same formula, but it "
                    "was never trained on them, so how well it moves there is not known.",
                ),
                io.Boolean.Input(
                    "across_windows", default=False,
                    tooltip="Continues the positions from one context window to the next, so that one movement spans the "
                    "whole of a long clip or repeats at an even pace. If off, they start over in each window.",
                ),
                curve_input(
                    "ease",
                    "Eases the tempo over the clip: a curve from Step Curve or Curve Editor. x is the share of the frames "
                    "and y the share of the motion, usually from 0 to 1.",
                ),
            ],
            outputs=[
                MotionModelSocket.Output("motion_model", display_name="motion_model", tooltip="Connect to Apply Motion Model."),
            ],
        )

    @classmethod
    def execute(
        cls, motion_model, speed: float = 1.0, offset: float = 0.0, repeat: str = REPEATS[0], repeat_frames: int = 16,
        extend: bool = False, across_windows: bool = False, ease: CurveInput | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        curve = to_curve(ease, "ease")
        retime = Retime(
            speed, offset, None if curve is None else curve.interp, Repeat(repeat), repeat_frames, extend, across_windows
        )
        return io.NodeOutput(retime_motion(motion_model, retime))


NODES = [FrameValuesNode, StepCurveNode, MotionBlocksNode, RetimeMotionNode]
