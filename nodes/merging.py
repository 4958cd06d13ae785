"""Nodes that make one motion model of two."""

from __future__ import annotations

from comfy_api.latest import io

from .host.files.merged_models import merge_motion_models
from .host.motion.steered import BlockValues
from .host.types import CATEGORY, BlockValuesSocket, MotionModelSocket


class MergeMotionModelsNode(io.ComfyNode):
    """A motion model between two others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomMergeMotionModels",
            display_name="Merge Motion Models",
            category=f"{CATEGORY}/loaders",
            description="Makes a motion model between two others of the same shape, everywhere or block by block: so much of "
            "the first one's weights, the rest of the second one's. Save Motion Model keeps it in a file.",
            search_aliases=["animatediff", "animate diff", "motion module", "merge", "mix", "interpolate", "blend", "average weights"],
            inputs=[
                MotionModelSocket.Input(
                    "motion_model_1",
                    tooltip="A motion model, with whatever motion LoRAs it has. The merged one has its family, noise schedule and "
                    "positions.",
                ),
                MotionModelSocket.Input(
                    "motion_model_2", tooltip="Another one of the same base, which has a middle block where the first one has one.",
                ),
                io.Float.Input(
                    "ratio", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="Share of motion_model_1: 1 is all of it, 0 is all of motion_model_2.",
                ),
                BlockValuesSocket.Input(
                    "ratio_blocks", optional=True,
                    tooltip="Factors from Motion Blocks, which multiply the ratio in their blocks. With ratio 1 they are the ratio "
                    "of each block. The product has to be from 0 to 1.",
                ),
            ],
            outputs=[
                MotionModelSocket.Output(
                    "motion_model", display_name="motion_model", tooltip="For Apply Motion Model, Load Motion LoRA or Save Motion Model.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, motion_model_1, motion_model_2, ratio: float = 0.5, ratio_blocks: BlockValues | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(merge_motion_models(motion_model_1, motion_model_2, ratio, ratio_blocks))


NODES = [MergeMotionModelsNode]
