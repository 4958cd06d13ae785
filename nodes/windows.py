"""Nodes for clips that are longer than what a motion model sees at a time."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.context_windows import FUSE_METHODS, SCHEDULES, set_windows, windowing
from .host.motion.view_windows import set_view_windows
from .host.runs.starting_noise import set_freenoise
from .host.types import CATEGORY, logger
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/windows"
_ALIASES = ["animatediff", "animate diff", "motion module", "long animation", "sliding window", "context options", "infinite length"]
_LENGTH_TOOLTIP = (
    "Frames that the motion model sees at a time. Use as many as it was trained on: 16 for most, 8 for HotshotXL, 32 or 64 "
    "for LongAnimateDiff."
)
_FUSE_TOOLTIP = (
    "How overlapping windows are weighted: pyramid and relative favour the middle of a window, flat weights all frames "
    "equally, overlap-linear crossfades over the overlap."
)


class ContextWindowsNode(LoomNode):
    """A MODEL that samples a long clip in windows of frames that overlap."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomContextWindows",
            display_name="Context Windows (AnimateDiff)",
            category=_CATEGORY,
            description="Makes animations of any length: the model works on one window of frames at a time, and the "
            "overlapping windows are blended. Memory use is that of one window. ControlNet images, masks, prompts and "
            "per-frame values follow the windows.",
            search_aliases=_ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The animated model. This node works before or after Apply Motion Model."),
                io.Int.Input("context_length", default=16, min=1, max=4096, tooltip=_LENGTH_TOOLTIP),
                io.Int.Input(
                    "context_overlap", default=4, min=0, max=4095,
                    tooltip="Frames that each window shares with the one before it; must be less than context_length. More "
                    "is smoother, but slower.",
                ),
                io.Combo.Input(
                    "context_schedule", options=SCHEDULES, default=SCHEDULES[0],
                    tooltip="How windows are placed over the clip. standard_static: the same at every step; "
                    "standard_uniform: shifted from step to step; looped_uniform: shifted, and wrapping around the end of "
                    "the clip; batched: without overlap.",
                ),
                io.Combo.Input("fuse_method", options=FUSE_METHODS, default=FUSE_METHODS[0], tooltip=_FUSE_TOOLTIP),
                io.Int.Input(
                    "context_stride", default=1, min=1, max=16, advanced=True,
                    tooltip="2 adds windows of every 2nd frame, 3 also of every 4th, and so on: distant frames agree better, "
                    "but it takes longer. Only used by the uniform schedules.",
                ),
                io.Boolean.Input(
                    "closed_loop", default=False,
                    tooltip="Adds windows across the end of the clip, so that the last frame leads back to the first. Not used "
                    "by batched.",
                ),
                io.Boolean.Input(
                    "freenoise", default=False,
                    tooltip="Starts all windows from related noise, so that they show the same scene. No window contains the "
                    "same noise twice.",
                ),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="Connect to any sampler.")],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 16, context_overlap: int = 4) -> bool:
        windowing(context_length, context_overlap)
        return True

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        context_length: int = 16,
        context_overlap: int = 4,
        context_schedule: str = SCHEDULES[0],
        fuse_method: str = FUSE_METHODS[0],
        context_stride: int = 1,
        closed_loop: bool = False,
        freenoise: bool = False,
    ) -> io.NodeOutput:
        windows = windowing(context_length, context_overlap, context_schedule, fuse_method, context_stride, closed_loop)
        has_stride = "uniform" in context_schedule
        if closed_loop and not windows.is_closed:
            logger.warning("closed_loop has no effect with context_schedule batched, whose windows don't overlap. Choose another one.")
        if context_stride > 1 and not has_stride:
            logger.warning("context_stride has no effect with context_schedule %s. Choose a uniform one.", context_schedule)
        model = model.clone()
        set_windows(model, windows)
        if freenoise:
            set_freenoise(model, context_length, context_overlap, windows.wraps, context_stride if has_stride else 1)
        return io.NodeOutput(model)


class ViewWindowsNode(LoomNode):
    """A MODEL whose motion modules see a window of frames at a time, while its other layers see all."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomViewWindows",
            display_name="View Windows",
            category=_CATEGORY,
            description="Makes longer animations in one piece: only the motion modules see the frames window by window. The "
            "windows meet at every layer, so they agree better than those of Context Windows, but all frames must fit into "
            "memory together.",
            search_aliases=[*_ALIASES, "view options", "freenoise"],
            inputs=[
                io.Model.Input("model", tooltip="The animated model. This node works before or after Apply Motion Model."),
                io.Int.Input("view_length", default=16, min=1, max=4096, tooltip=_LENGTH_TOOLTIP),
                io.Int.Input(
                    "view_overlap", default=4, min=0, max=4095,
                    tooltip="Frames that each window shares with the one before it; must be less than view_length. The "
                    "FreeNoise paper uses 12 of 16.",
                ),
                io.Combo.Input("fuse_method", options=FUSE_METHODS, default=FUSE_METHODS[0], tooltip=_FUSE_TOOLTIP),
                io.Boolean.Input(
                    "closed_loop", default=False,
                    tooltip="Lets windows wrap around the end of the clip, so that the last frame leads back to the first.",
                ),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="Connect to any sampler.")],
        )

    @classmethod
    def validate_inputs(cls, view_length: int = 16, view_overlap: int = 4) -> bool:
        windowing(view_length, view_overlap)
        return True

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        view_length: int = 16,
        view_overlap: int = 4,
        fuse_method: str = FUSE_METHODS[0],
        closed_loop: bool = False,
    ) -> io.NodeOutput:
        windows = windowing(view_length, view_overlap, fuse=fuse_method, closed_loop=closed_loop)
        model = model.clone()
        set_view_windows(model, windows)
        return io.NodeOutput(model)


NODES = [ContextWindowsNode, ViewWindowsNode]
