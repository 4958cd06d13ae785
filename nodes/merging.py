"""Nodes that make one motion model of two."""

from __future__ import annotations

from comfy_api.latest import io

from .host.files.merged_models import merge_motion_models
from .host.motion.steered import BlockValues
from .host.types import CATEGORY, BlockValuesSocket, MotionModelSocket
from .loom_node import LoomNode


class MergeMotionModelsNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomMergeMotionModels",
            category=f"{CATEGORY}/loaders",
            search_aliases=["motion module", "merge", "mix", "interpolate", "blend", "average weights"],
            inputs=[
                MotionModelSocket.Input("motion_model_1"),
                MotionModelSocket.Input("motion_model_2"),
                io.Float.Input("ratio", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001),
                BlockValuesSocket.Input("ratio_blocks", optional=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def execute(
        cls, motion_model_1, motion_model_2, ratio: float = 0.5, ratio_blocks: BlockValues | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(merge_motion_models(motion_model_1, motion_model_2, ratio, ratio_blocks))


NODES = [MergeMotionModelsNode]
