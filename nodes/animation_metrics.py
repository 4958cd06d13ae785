"""Nodes that measure animations."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.metrics_plot import draw_metrics, measure_clip, report, window_edges
from .host.types import CATEGORY
from .loom_node import LoomNode

_MEASURES = (
    "flicker", "motion_amount", "motion_direction", "frame_consistency", "loop_closure", "worst_seam", "colour_drift",
)  # fmt: skip


class AnimationMetricsNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomAnimationMetrics",
            category=f"{CATEGORY}/measure",
            search_aliases=["flicker", "temporal consistency", "warp error", "measure video"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images"),
                io.Int.Input("context_length", default=0, min=0, max=4096),
                io.Int.Input("context_overlap", default=4, min=0, max=4095),
            ],
            outputs=[*map(io.Float.Output, _MEASURES), io.String.Output("report"), io.Image.Output("plot")],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 0, context_overlap: int = 4) -> bool:
        if context_length:
            window_edges(1, context_length, context_overlap)
        return True

    @classmethod
    def execute(cls, images: io.Image.Type, context_length: int = 0, context_overlap: int = 4) -> io.NodeOutput:
        metrics = measure_clip(images, context_length, context_overlap)
        text, plot = report(metrics), draw_metrics(metrics)
        shown = {**ui.PreviewImage(plot, cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(*(getattr(metrics, name) for name in _MEASURES), text, plot, ui=shown)


NODES = [AnimationMetricsNode]
