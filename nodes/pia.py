"""Nodes for PIA: a clip animated from an image."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.image_inputs import PRESETS, animated_image, set_image
from .host.motion.steered import FrameInput
from .host.types import CATEGORY, FRAME_INPUTS, MotionModelSocket
from .loom_node import LoomNode


class PiaImageNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomPiaImage",
            category=f"{CATEGORY}/images",
            search_aliases=["image to video", "animate image", "apply animatediff pia", "pia input", "personalized image animator"],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                io.Image.Input("image"),
                io.Vae.Input("vae"),
                io.Int.Input("frame", default=0, min=-4096, max=4095),
                io.Combo.Input("motion", options=PRESETS, default=PRESETS[1]),
                io.MultiType.Input("similarity_values", types=FRAME_INPUTS, optional=True),
                io.Float.Input("similarity", default=1.0, min=0.0, max=2.0, step=0.01, optional=True, advanced=True),
                io.Boolean.Input("hold_last_value", default=False, optional=True, advanced=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def execute(
        cls, motion_model, image: io.Image.Type, vae: io.Vae.Type, frame: int = 0, motion: str = PRESETS[1],
        similarity_values: FrameInput = None, similarity: float = 1.0, hold_last_value: bool = False,
    ) -> io.NodeOutput:  # fmt: skip
        animated = animated_image(image, vae, frame, motion, similarity_values, similarity, hold_last_value)
        return io.NodeOutput(set_image(motion_model, animated))


NODES = [PiaImageNode]
