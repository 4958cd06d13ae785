"""Nodes that make one motion model of two."""

from __future__ import annotations

from comfy_api.latest import io

from .host.files.merged_models import merge_motion_models
from .host.motion.steered import BlockValues
from .host.types import CATEGORY, BlockValuesSocket, MotionModelSocket
from .loom_node import LoomNode


class MergeMotionModelsNode(LoomNode):
    """A motion model between two others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomMergeMotionModels",
            display_name="Merge Motion Models",
            category=f"{CATEGORY}/loaders",
            description="Merges two motion models of the same shape, as a whole or block by block: the result is a weighted "
            "average of their weights. Save Motion Model writes it to a file.",
            search_aliases=["animatediff", "animate diff", "motion module", "merge", "mix", "interpolate", "blend", "average weights"],
            inputs=[
                MotionModelSocket.Input(
                    "motion_model_1",
                    tooltip="A motion model, including its motion LoRAs. The result has its family, noise schedule and "
                    "positions.",
                ),
                MotionModelSocket.Input(
                    "motion_model_2",
                    tooltip="Another one for the same base model. Either both have a mid block or neither does.",
                ),
                io.Float.Input(
                    "ratio", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="Share of motion_model_1: 1 is only motion_model_1, 0 only motion_model_2.",
                ),
                BlockValuesSocket.Input(
                    "ratio_blocks", optional=True,
                    tooltip="Factors from Motion Blocks, which multiply ratio in their blocks. With ratio 1, they are the "
                    "ratio of each block. The product must be from 0 to 1.",
                ),
            ],
            outputs=[
                MotionModelSocket.Output(
                    "motion_model", display_name="motion_model",
                    tooltip="Connect to Apply Motion Model, Load Motion LoRA or Save Motion Model.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, motion_model_1, motion_model_2, ratio: float = 0.5, ratio_blocks: BlockValues | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(merge_motion_models(motion_model_1, motion_model_2, ratio, ratio_blocks))


NODES = [MergeMotionModelsNode]
