"""Nodes for more or less of the motion than a motion model gives by itself."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.attention_shapes import AttentionShaping, ShapingInRange, shape_attention
from .host.motion.motion_guidance import PARTS, MotionGuidance, set_motion_guidance
from .host.types import CATEGORY, MotionModelSocket
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/steering"
_PARTS = list(PARTS)


def _range_inputs() -> list[io.Input]:
    return [
        io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True),
        io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True),
    ]


class MotionGuidanceNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomMotionGuidance",
            category=_CATEGORY,
            search_aliases=["stg", "skip guidance", "spatiotemporal skip guidance", "pag", "more motion", "motion strength"],
            inputs=[
                io.Model.Input("model"),
                io.Float.Input("scale", default=0.5, min=0.0, max=20.0, step=0.1, round=0.001),
                io.Combo.Input("blocks", options=_PARTS, default=_PARTS[0]),
                *_range_inputs(),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, scale: float = 0.5, blocks: str = _PARTS[0], start_percent: float = 0.0, end_percent: float = 1.0
    ) -> io.NodeOutput:
        model = model.clone()
        set_motion_guidance(model, MotionGuidance(scale, PARTS[blocks], start_percent, end_percent))
        return io.NodeOutput(model)


class TemporalAttentionNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomTemporalAttention",
            category=_CATEGORY,
            search_aliases=["enhance a video", "enhance-a-video", "vstar", "temporal knobs", "consistency", "flicker", "more motion"],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                io.Float.Input("enhance", default=0.0, min=0.0, max=64.0, step=0.5, round=0.001),
                io.Float.Input("neighbours", default=0.0, min=0.0, max=8.0, step=0.05, round=0.001),
                io.Float.Input("neighbours_width", default=2.0, min=0.1, max=256.0, step=0.1, round=0.001),
                *_range_inputs(),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def execute(
        cls, motion_model, enhance: float = 0.0, neighbours: float = 0.0, neighbours_width: float = 2.0,
        start_percent: float = 0.0, end_percent: float = 1.0,
    ) -> io.NodeOutput:  # fmt: skip
        shaping = AttentionShaping(enhance, neighbours, neighbours_width)
        return io.NodeOutput(shape_attention(motion_model, ShapingInRange(shaping, start_percent, end_percent)))


NODES = [MotionGuidanceNode, TemporalAttentionNode]
