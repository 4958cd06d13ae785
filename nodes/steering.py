"""Nodes that make motion vary: over frames, over steps, over the UNet's blocks, and in its tempo."""

from __future__ import annotations

from comfy_api.input import CurveInput
from comfy_api.latest import io

from .host.motion.curves import EASINGS, check_values, curve_of_text, to_curve, values_of_text
from .host.motion.frame_values import frames_of_clip
from .host.motion.retiming import REPEATS, Repeat, Retime, retime_motion, stretch_of
from .host.motion.steered import BlockValues
from .host.types import CATEGORY, BlockValuesSocket, FrameValuesSocket, MotionModelSocket, curve_input
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/steering"


class FrameValuesNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFrameValues",
            category=_CATEGORY,
            search_aliases=["keyframes", "value schedule", "multival", "animate motion scale"],
            inputs=[
                io.String.Input("text", default="0: 1.0", multiline=True),
                io.Int.Input("frames", default=16, min=0, max=4096),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
                io.Latent.Input("latent", optional=True),
            ],
            outputs=[FrameValuesSocket.Output("values")],
        )

    @classmethod
    def validate_inputs(cls, text: str = "0: 1.0") -> bool:
        check_values(text)
        return True

    @classmethod
    def execute(
        cls, text: str = "0: 1.0", frames: int = 16, easing: str = EASINGS[0], latent: io.Latent.Type | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(values_of_text(text, frames_of_clip(frames, latent), easing, inside=True))


class StepCurveNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomStepCurve",
            category=_CATEGORY,
            search_aliases=["keyframes", "timestep schedule", "curve", "strength over steps"],
            inputs=[
                io.String.Input("text", default="0%: 1.0\n100%: 1.0", multiline=True),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
            ],
            outputs=[io.Curve.Output("curve")],
        )

    @classmethod
    def validate_inputs(cls, text: str = "0%: 1.0\n100%: 1.0") -> bool:
        curve_of_text(text, EASINGS[0])
        return True

    @classmethod
    def execute(cls, text: str = "0%: 1.0\n100%: 1.0", easing: str = EASINGS[0]) -> io.NodeOutput:
        return io.NodeOutput(curve_of_text(text, easing))


class MotionBlocksNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def factor(part: str, advanced: bool | None = None) -> io.Float.Input:
            return io.Float.Input(part, default=1.0, min=0.0, max=10.0, step=0.01, advanced=advanced)

        return io.Schema(
            node_id="LoomMotionBlocks",
            category=_CATEGORY,
            search_aliases=["per block", "block weights", "layers"],
            inputs=[
                *(factor(part) for part in ("down", "mid", "up")),
                *(factor(f"{part}_{level}", advanced=True) for part in ("down", "up") for level in range(1, 5)),
            ],
            outputs=[BlockValuesSocket.Output("blocks")],
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
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomRetimeMotion",
            category=_CATEGORY,
            search_aliases=["positional encoding", "stretch pe", "slow motion", "speed", "loop", "seamless loop", "ping-pong"],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                io.Float.Input("speed", default=1.0, min=0.0, max=8.0, step=0.05, round=0.001),
                io.Float.Input("offset", default=0.0, min=0.0, max=4096.0, step=0.5, round=0.001),
                io.Combo.Input("repeat", options=REPEATS, default=REPEATS[0]),
                io.Int.Input("repeat_frames", default=16, min=2, max=4096),
                io.Boolean.Input("extend", default=False),
                io.Boolean.Input("across_windows", default=False),
                curve_input("ease"),
                io.Int.Input("stretch", default=0, min=-4095, max=4096, optional=True, advanced=True),
                io.Int.Input("stretch_from", default=0, min=0, max=4096, optional=True, advanced=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def execute(
        cls, motion_model, speed: float = 1.0, offset: float = 0.0, repeat: str = REPEATS[0], repeat_frames: int = 16,
        extend: bool = False, across_windows: bool = False, ease: CurveInput | None = None,
        stretch: int = 0, stretch_from: int = 0,
    ) -> io.NodeOutput:  # fmt: skip
        curve = to_curve(ease, "ease")
        easing = None if curve is None else curve.interp
        retime = Retime(
            speed, offset, easing, Repeat(repeat), repeat_frames, extend, across_windows, stretch_of(motion_model, stretch, stretch_from)
        )
        return io.NodeOutput(retime_motion(motion_model, retime))


NODES = [FrameValuesNode, StepCurveNode, MotionBlocksNode, RetimeMotionNode]
