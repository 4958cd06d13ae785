"""Moving pictures without a motion model."""

from __future__ import annotations

from comfy_api.latest import io

from .host.runs.zero_shot_video import ANCHORS, FIRST, LAST_TIMESTEP, Text2VideoZeroSettings, apply_text2video_zero
from .host.types import CATEGORY, InvalidInput
from .loom_node import LoomNode


class Text2VideoZeroNode(LoomNode):
    """Text2Video-Zero: cross-frame attention and a warped start."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        size = "pixels of an image that is 512"
        return io.Schema(
            node_id="LoomText2VideoZero",
            display_name="Text2Video-Zero",
            category=CATEGORY,
            description="Animates without a motion model: all frames attend to an anchor frame and start from one image over "
            "which a camera moves. For SD1.5, SD2.x and SDXL, with any sampler, on its own or together with Apply Motion "
            "Model. Needs no files.",
            search_aliases=[
                "animatediff", "animate diff", "motion module", "text2video zero", "t2v-zero", "cross-frame attention",
                "training-free video",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to animate, with or without a motion model."),
                io.Combo.Input(
                    "anchor", options=ANCHORS, default=FIRST,
                    tooltip="Cross-frame attention: the frame that each frame takes its appearance from. first frame: as in "
                    "the paper, and the steadiest; previous frame: lets the image change over time; first and previous "
                    "frame: between the two; off: leaves the attention unchanged.",
                ),
                io.Boolean.Input(
                    "warp_start", default=True,
                    tooltip="Starts all frames from the first one, each shifted further by motion_x and motion_y. If off, "
                    "each starts from its own noise. Skipped automatically if the sampler starts from given frames, gets a "
                    "noise mask, or does not pass t0 and t1.",
                ),
                io.Float.Input(
                    "motion_x", default=12.0, min=-512.0, max=512.0, step=0.5, round=0.01,
                    tooltip=f"How far the camera moves right per frame, in {size} wide; scaled in proportion at other "
                    "widths. The image moves left. Negative values go the other way. The paper uses 12.",
                ),
                io.Float.Input(
                    "motion_y", default=12.0, min=-512.0, max=512.0, step=0.5, round=0.01,
                    tooltip=f"How far the camera moves down per frame, in {size} high; scaled in proportion at other "
                    "heights. The image moves up. Negative values go the other way. The paper uses 12.",
                ),
                io.Int.Input(
                    "t0", default=881, min=1, max=LAST_TIMESTEP, advanced=True,
                    tooltip="Warp start: timestep down to which the first frame is denoised alone before it is shifted. 999 "
                    "is pure noise, 1 the finished image. Must not be above t1.",
                ),
                io.Int.Input(
                    "t1", default=941, min=1, max=LAST_TIMESTEP, advanced=True,
                    tooltip="Warp start: timestep up to which the shifted frames are noised again, and from which all frames "
                    "are sampled together. The further above t0, the more freely the content moves.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.001, advanced=True,
                    tooltip="Point in the sampling at which cross-frame attention starts: 0 is the first step.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.001, advanced=True,
                    tooltip="Point in the sampling at which cross-frame attention stops: 1 is the last step.",
                ),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="The model. Connect to any sampler.")],
        )

    @classmethod
    def validate_inputs(
        cls, t0: int = 881, t1: int = 941, start_percent: float = 0.0, end_percent: float = 1.0
    ) -> bool:
        _check(t0, t1, start_percent, end_percent)
        return True

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        anchor: str = FIRST,
        warp_start: bool = True,
        motion_x: float = 12.0,
        motion_y: float = 12.0,
        t0: int = 881,
        t1: int = 941,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
    ) -> io.NodeOutput:
        _check(t0, t1, start_percent, end_percent)
        settings = Text2VideoZeroSettings(
            anchor=anchor, warp_start=warp_start, motion_x=motion_x, motion_y=motion_y, t0=t0, t1=t1,
            start_percent=start_percent, end_percent=end_percent,
        )  # fmt: skip
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
