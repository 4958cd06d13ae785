"""Nodes that read files."""

from __future__ import annotations

import os

from comfy_api.latest import io

from .host import folders
from .host.loading import load_motion_model
from .host.types import CATEGORY, MotionModelSocket


class LoadMotionModel(io.ComfyNode):
    """A motion-model file, ready to animate any model of its base."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadMotionModel",
            display_name="Load Motion Model",
            category=f"{CATEGORY}/loaders",
            description="Loads an AnimateDiff motion model: the part that makes frames move. Connect it to Apply "
            "Motion Model. One motion model animates any checkpoint or LoRA of the base model it was made for.",
            search_aliases=["animatediff", "animate diff", "motion module", "mm_sd_v15_v2", "v3_sd15_mm", "load animatediff"],
            inputs=[
                io.Combo.Input(
                    "motion_model_name",
                    options=folders.motion_model_names(),
                    tooltip="File in models/animatediff_models: AnimateDiff v1, v2 and v3, AnimateDiff-SDXL, HotshotXL, "
                    "AnimateLCM, LongAnimateDiff, AnimateDiff-Lightning, and models trained from them.",
                ),
            ],
            outputs=[
                MotionModelSocket.Output("motion_model", display_name="motion_model", tooltip="For Apply Motion Model."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, motion_model_name: str | None = None) -> tuple:
        if motion_model_name is None:
            return ()
        status = os.stat(folders.motion_model_path(motion_model_name))
        return motion_model_name, status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, motion_model_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_motion_model(folders.motion_model_path(motion_model_name)))


NODES = [LoadMotionModel]
