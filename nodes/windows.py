"""Nodes for clips that are longer than what a motion model sees at a time."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.context_windows import (
    COUNTED_STEPS,
    EQUAL_LENGTHS,
    FUSE_METHODS,
    SCHEDULES,
    WIDE_WINDOWS,
    Schedule,
    set_windows,
    windowing,
)  # fmt: skip
from .host.motion.view_windows import set_view_windows
from .host.runs.starting_noise import FREENOISE_ORDERS, set_freenoise
from .host.types import CATEGORY, logger
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/windows"


class ContextWindowsNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomContextWindows",
            category=_CATEGORY,
            search_aliases=["context options", "long animation", "sliding window", "loop", "seamless loop", "looped uniform"],
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("context_length", default=16, min=1, max=4096),
                io.Int.Input("context_overlap", default=4, min=0, max=4095),
                io.Combo.Input("context_schedule", options=SCHEDULES, default=SCHEDULES[0]),
                io.Combo.Input("fuse_method", options=FUSE_METHODS, default=FUSE_METHODS[0]),
                io.Int.Input("context_stride", default=1, min=1, max=16, advanced=True),
                io.Boolean.Input("closed_loop", default=False),
                io.Boolean.Input("freenoise", default=False),
                io.Combo.Input("freenoise_order", options=FREENOISE_ORDERS, default=FREENOISE_ORDERS[0], optional=True, advanced=True),
                io.Combo.Input("cut_equal_length", options=EQUAL_LENGTHS, default=EQUAL_LENGTHS[0], optional=True, advanced=True),
                io.Combo.Input("wide_windows", options=WIDE_WINDOWS, default=WIDE_WINDOWS[0], optional=True, advanced=True),
                io.Combo.Input("count_steps_of", options=COUNTED_STEPS, default=COUNTED_STEPS[0], optional=True, advanced=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 16, context_overlap: int = 4) -> bool:
        windowing(context_length, context_overlap)
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, context_length: int = 16, context_overlap: int = 4, context_schedule: str = SCHEDULES[0],
        fuse_method: str = FUSE_METHODS[0], context_stride: int = 1, closed_loop: bool = False, freenoise: bool = False,
        freenoise_order: str = FREENOISE_ORDERS[0], cut_equal_length: str = EQUAL_LENGTHS[0], wide_windows: str = WIDE_WINDOWS[0],
        count_steps_of: str = COUNTED_STEPS[0],
    ) -> io.NodeOutput:  # fmt: skip
        windows = windowing(
            context_length, context_overlap, context_schedule, fuse_method, context_stride, closed_loop, cut_equal_length,
            wide_windows, count_steps_of,
        )  # fmt: skip
        has_stride = "uniform" in context_schedule
        if closed_loop and not windows.is_closed:
            logger.warning("closed_loop has no effect with context_schedule %s. Choose another one.", context_schedule)
        if context_stride > 1 and not has_stride:
            logger.warning("context_stride has no effect with context_schedule %s. Choose a uniform one.", context_schedule)
        model = model.clone()
        set_windows(model, windows)
        if freenoise and windows.schedule is not Schedule.NONE:
            stride = context_stride if has_stride else 1
            set_freenoise(model, context_length, context_overlap, windows.wraps, stride, freenoise_order)
        return io.NodeOutput(model)


class ViewWindowsNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomViewWindows",
            category=_CATEGORY,
            search_aliases=["view options", "sliding window", "infinite length", "freenoise"],
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("view_length", default=16, min=1, max=4096),
                io.Int.Input("view_overlap", default=4, min=0, max=4095),
                io.Combo.Input("fuse_method", options=FUSE_METHODS, default=FUSE_METHODS[0]),
                io.Boolean.Input("closed_loop", default=False),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def validate_inputs(cls, view_length: int = 16, view_overlap: int = 4) -> bool:
        windowing(view_length, view_overlap)
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, view_length: int = 16, view_overlap: int = 4, fuse_method: str = FUSE_METHODS[0],
        closed_loop: bool = False,
    ) -> io.NodeOutput:  # fmt: skip
        model = model.clone()
        set_view_windows(model, windowing(view_length, view_overlap, fuse=fuse_method, closed_loop=closed_loop))
        return io.NodeOutput(model)


NODES = [ContextWindowsNode, ViewWindowsNode]
