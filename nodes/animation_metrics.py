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
            category=f"{CATEGORY}/measure",
            search_aliases=[
                "animatediff", "animate diff", "motion module", "flicker", "temporal consistency", "warp error", "measure video",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input("images"),
                io.Int.Input("context_length", default=0, min=0, max=4096),
                io.Int.Input("context_overlap", default=4, min=0, max=4095),
            ],
            outputs=[
                io.Float.Output("flicker"),
                io.Float.Output("motion_amount"),
                io.Float.Output("motion_direction"),
                io.Float.Output("frame_consistency"),
                io.Float.Output("loop_closure"),
                io.Float.Output("worst_seam"),
                io.Float.Output("colour_drift"),
                io.String.Output("report"),
                io.Image.Output("plot"),
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
