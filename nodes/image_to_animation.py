"""Animating images that there are, with any motion model."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.curves import EASINGS
from .host.motion.frame_values import frames_of_clip
from .host.motion.sparse_control import PLACINGS
from .host.runs.still_frames import falloff_about, latent_of_stills
from .host.types import CATEGORY, FrameValuesSocket
from .loom_node import LoomNode


class ImageToAnimationNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomImageToAnimation",
            category=CATEGORY,
            search_aliases=["image to video", "i2v", "img2vid", "animate image", "first frame", "last frame", "still", "vae encode"],
            inputs=[
                io.Vae.Input("vae"),
                io.Image.Input("images"),
                io.Int.Input("frames", default=16, min=1, max=4096),
                io.Combo.Input("placement", options=PLACINGS, default=PLACINGS[0]),
                io.String.Input("image_frames", default="0, -1"),
                io.Float.Input("hold", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True),
                io.Float.Input("falloff", default=0.0, min=0.0, max=4096.0, step=0.5, round=0.001, advanced=True),
            ],
            outputs=[io.Latent.Output("latent")],
        )

    @classmethod
    def execute(
        cls, vae: io.Vae.Type, images: io.Image.Type, frames: int = 16, placement: str = PLACINGS[0], image_frames: str = "0, -1",
        hold: float = 1.0, falloff: float = 0.0,
    ) -> io.NodeOutput:  # fmt: skip
        return io.NodeOutput(latent_of_stills(vae, images, frames, placement, image_frames, hold, falloff))


class FrameFalloffNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFrameFalloff",
            category=f"{CATEGORY}/steering",
            search_aliases=["latent keyframe", "keyframe weights", "ipadapter weights", "controlnet weights", "neighbours", "fade"],
            inputs=[
                io.String.Input("image_frames", default="0, -1"),
                io.Int.Input("frames", default=16, min=0, max=4096),
                io.Float.Input("falloff", default=4.0, min=0.0, max=4096.0, step=0.5, round=0.001),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01, round=0.001),
                io.Float.Input("elsewhere", default=0.0, min=-10.0, max=10.0, step=0.01, round=0.001),
                io.Latent.Input("latent", optional=True),
            ],
            # Other packs' weights per frame are lists over FLOAT.
            outputs=[FrameValuesSocket.Output("values"), io.Float.Output("floats")],
        )

    @classmethod
    def execute(
        cls, image_frames: str = "0, -1", frames: int = 16, falloff: float = 4.0, easing: str = EASINGS[0], strength: float = 1.0,
        elsewhere: float = 0.0, latent: io.Latent.Type | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        values = falloff_about(image_frames, frames_of_clip(frames, latent), falloff, easing, strength, elsewhere)
        return io.NodeOutput(values, values)


NODES = [ImageToAnimationNode, FrameFalloffNode]
