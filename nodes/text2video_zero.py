"""Moving pictures without a motion model."""

from __future__ import annotations

from comfy_api.latest import io

from .host.runs.zero_shot_video import ANCHORS, FIRST, LAST_TIMESTEP, Text2VideoZeroSettings, apply_text2video_zero
from .host.types import CATEGORY, InvalidInput
from .loom_node import LoomNode


class Text2VideoZeroNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomText2VideoZero",
            category=CATEGORY,
            search_aliases=["text2video zero", "t2v-zero", "cross-frame attention", "training-free video"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input("anchor", options=ANCHORS, default=FIRST),
                io.Boolean.Input("warp_start", default=True),
                io.Float.Input("motion_x", default=12.0, min=-512.0, max=512.0, step=0.5, round=0.01),
                io.Float.Input("motion_y", default=12.0, min=-512.0, max=512.0, step=0.5, round=0.01),
                io.Int.Input("t0", default=881, min=1, max=LAST_TIMESTEP, advanced=True),
                io.Int.Input("t1", default=941, min=1, max=LAST_TIMESTEP, advanced=True),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001, advanced=True),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001, advanced=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def validate_inputs(cls, t0: int = 881, t1: int = 941, start_percent: float = 0.0, end_percent: float = 1.0) -> bool:
        _check(t0, t1, start_percent, end_percent)
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, anchor: str = FIRST, warp_start: bool = True, motion_x: float = 12.0,
        motion_y: float = 12.0, t0: int = 881, t1: int = 941, start_percent: float = 0.0, end_percent: float = 1.0,
    ) -> io.NodeOutput:  # fmt: skip
        _check(t0, t1, start_percent, end_percent)
        settings = Text2VideoZeroSettings(anchor, warp_start, motion_x, motion_y, t0, t1, start_percent, end_percent)
        return io.NodeOutput(apply_text2video_zero(model, settings))


def _check(t0: int, t1: int, start_percent: float, end_percent: float) -> None:
    if t0 > t1:
        raise InvalidInput(
            f"t0 {t0} is above t1 {t1}: the first frame would end with more noise than the frames start with. "
            "Make t0 the smaller one; the paper's are 881 and 941."
        )
    if start_percent > end_percent:
        raise InvalidInput(
            f"start_percent {start_percent} is after end_percent {end_percent}: cross-frame attention would never "
            "run. Make start_percent the smaller one, or set anchor to off."
        )


NODES = [Text2VideoZeroNode]
