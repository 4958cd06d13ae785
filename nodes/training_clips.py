"""Nodes that make clips ready to train on."""

from __future__ import annotations

from comfy_api.latest import io

from .host.training.encoded_clips import ClipSettings, clip_folders, folder_state, load_training_clips
from .host.types import CATEGORY, TrainingClipsSocket
from .loom_node import LoomNode


class LoadTrainingClipsNode(LoomNode):
    """A folder of videos as latents with text embeddings, encoded once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadTrainingClips",
            display_name="Load Training Clips",
            category=f"{CATEGORY}/training",
            description="Prepares a folder of videos for training a motion model: reads the clips and their captions and "
            "encodes them. The encoded clips stay on disk, so this is done only once. Connect it to Train Motion Model.",
            search_aliases=["animatediff", "animate diff", "motion module", "dataset", "training data", "video folder"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=clip_folders(),
                    tooltip="A folder in ComfyUI's input folder. It contains videos (mp4, webm, gif, webp and others), or "
                    "one folder of numbered images per clip. Captions are text files with the same names, or one csv file.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the model to train with. It encodes the frames."),
                io.Clip.Input("clip", tooltip="The text encoder of the model to train with. It encodes the captions."),
                io.Int.Input(
                    "width", default=256, min=64, max=2048, step=8,
                    tooltip="Training width in pixels. Frames are scaled to cover width and height, then centre-cropped. "
                    "AnimateDiff was trained at 256 x 256; larger sizes need much more memory.",
                ),
                io.Int.Input("height", default=256, min=64, max=2048, step=8, tooltip="Training height in pixels."),
                io.Int.Input(
                    "frames", default=16, min=2, max=128,
                    tooltip="Frames per training sample. AnimateDiff's models were trained on 16.",
                ),
                io.Int.Input(
                    "stride", default=4, min=1, max=64,
                    tooltip="Uses every n-th frame of the video: 4, as in AnimateDiff, for videos with 24 to 30 frames per "
                    "second; 1 for animations that were made at a low frame rate.",
                ),
                io.Boolean.Input(
                    "flip", default=True,
                    tooltip="Also trains on mirrored clips, except those whose captions name a side, such as left or "
                    "clockwise. Turn it off if the clips show text or anything else that must not be mirrored.",
                ),
                io.String.Input(
                    "default_caption", default="",
                    tooltip="Caption for clips that have none of their own.",
                ),
            ],
            outputs=[
                TrainingClipsSocket.Output("training_clips", display_name="training_clips", tooltip="Connect to Train Motion "
                "Model."),
                io.String.Output(
                    "report", display_name="report",
                    tooltip="How many clips there are, which were skipped and why, and where their latents are stored.",
                ),
                io.Image.Output(
                    "preview", display_name="preview",
                    tooltip="The first frames of the first clip, as used for training.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_others: object) -> str:
        return "" if folder is None else folder_state(folder)

    @classmethod
    def execute(
        cls,
        folder: str,
        vae: io.Vae.Type,
        clip: io.Clip.Type,
        width: int = 256,
        height: int = 256,
        frames: int = 16,
        stride: int = 4,
        flip: bool = True,
        default_caption: str = "",
    ) -> io.NodeOutput:
        settings = ClipSettings(width, height, frames, stride)
        return io.NodeOutput(*load_training_clips(folder, vae, clip, settings, flip, default_caption))


NODES = [LoadTrainingClipsNode]
