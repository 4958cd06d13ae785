"""Nodes that make clips ready to train on."""

from __future__ import annotations

from comfy_api.latest import io

from .host.training.encoded_clips import ClipSettings, clip_folders, folder_state, load_training_clips
from .host.types import CATEGORY, TrainingClipsSocket
from .loom_node import LoomNode


class LoadTrainingClipsNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadTrainingClips",
            category=f"{CATEGORY}/training",
            search_aliases=["dataset", "training data", "video folder"],
            inputs=[
                io.Combo.Input("folder", options=clip_folders()),
                io.Vae.Input("vae"),
                io.Clip.Input("clip"),
                io.Int.Input("width", default=256, min=64, max=2048, step=8),
                io.Int.Input("height", default=256, min=64, max=2048, step=8),
                io.Int.Input("frames", default=16, min=2, max=128),
                io.Int.Input("stride", default=4, min=1, max=64),
                io.Boolean.Input("flip", default=True),
                io.String.Input("default_caption", default=""),
            ],
            outputs=[TrainingClipsSocket.Output("training_clips"), io.String.Output("report"), io.Image.Output("preview")],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_others: object) -> str:
        return "" if folder is None else folder_state(folder)

    @classmethod
    def execute(
        cls, folder: str, vae: io.Vae.Type, clip: io.Clip.Type, width: int = 256, height: int = 256, frames: int = 16,
        stride: int = 4, flip: bool = True, default_caption: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        settings = ClipSettings(width, height, frames, stride)
        return io.NodeOutput(*load_training_clips(folder, vae, clip, settings, flip, default_caption))


NODES = [LoadTrainingClipsNode]
