"""Nodes that measure animations."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.measuring import measure_clip, report
from .host.charts.metrics_plot import draw_metrics
from .host.types import CATEGORY, InvalidInput
from .loom_node import LoomNode


class AnimationMetricsNode(LoomNode):
    """A clip in numbers: flicker, motion, consistency, loop, seams, colours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomAnimationMetrics",
            display_name="Animation Metrics",
            category=f"{CATEGORY}/measure",
            description="Measures an animation: flicker, amount and direction of motion, how well it loops, seams between "
            "context windows, colour drift. Lets you compare two settings by numbers.",
            search_aliases=[
                "animatediff", "animate diff", "motion module", "flicker", "temporal consistency", "warp error", "measure video",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames of one clip, at least two."),
                io.Int.Input(
                    "context_length", default=0, min=0, max=4096,
                    tooltip="The context_length the clip was made with, to find seams where its windows meet. 0 if it was "
                    "made in one piece.",
                ),
                io.Int.Input(
                    "context_overlap", default=4, min=0, max=4095,
                    tooltip="The context_overlap the clip was made with. Only used with a context_length.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "flicker", display_name="flicker",
                    tooltip="Change that motion does not explain, in levels from 0 to 255. 0 is none.",
                ),
                io.Float.Output(
                    "motion_amount", display_name="motion_amount",
                    tooltip="How fast moving things move, in percent of the width per frame.",
                ),
                io.Float.Output(
                    "motion_direction", display_name="motion_direction",
                    tooltip="Direction of the motion in degrees: 0 right, 90 up, 180 left, 270 down.",
                ),
                io.Float.Output(
                    "frame_consistency", display_name="frame_consistency",
                    tooltip="How similar neighbouring frames are once motion is removed. 1 is best.",
                ),
                io.Float.Output(
                    "loop_closure", display_name="loop_closure",
                    tooltip="How much the step from the last frame to the first stands out. About 1 or less is a seamless "
                    "loop.",
                ),
                io.Float.Output(
                    "worst_seam", display_name="worst_seam",
                    tooltip="How much the worst step at a window edge stands out. About 1 means no seam, 0 not measured.",
                ),
                io.Float.Output(
                    "colour_drift", display_name="colour_drift",
                    tooltip="How far the mean colour drifts over the clip, in levels from 0 to 255. 0 is none.",
                ),
                io.String.Output("report", display_name="report", tooltip="All results as text. Connect to Preview as Text."),
                io.Image.Output("plot", display_name="plot", tooltip="A chart of the results over the frames."),
            ],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 0, context_overlap: int = 4) -> bool:
        if context_length and context_overlap >= context_length:
            raise InvalidInput(
                f"context_overlap {context_overlap} is not less than context_length {context_length}. Give the values "
                "the clip was made with, or context_length 0."
            )
        return True

    @classmethod
    def execute(cls, images: io.Image.Type, context_length: int = 0, context_overlap: int = 4) -> io.NodeOutput:
        metrics = measure_clip(images, context_length, context_overlap)
        text, plot = report(metrics), draw_metrics(metrics)
        shown = {**ui.PreviewImage(plot, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(
            metrics.flicker, metrics.motion_amount, metrics.motion_direction, metrics.frame_consistency,
            metrics.loop_closure, metrics.worst_seam, metrics.colour_drift, text, plot, ui=shown,
        )


NODES = [AnimationMetricsNode]
