"""Nodes for AnimateLCM-I2V: a clip animated from an image."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.motion.reference_images import NEVER_USED, reference_images, set_reference
from .host.motion.steered import FrameInput, Steered
from .host.motion.unet_call import check_range
from .host.types import CATEGORY, FRAME_INPUTS, MotionModelSocket
from .loom_node import LoomNode


class AnimateLcmImageNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomAnimateLcmImage",
            category=f"{CATEGORY}/images",
            search_aliases=["image to video", "i2v", "animate image", "apply animatelcm-i2v model", "inject i2v", "ref_drift", "reference image"],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                io.MultiType.Input("image", types=[io.Image, io.Latent]),
                io.Float.Input("drift", default=0.8, min=0.0, max=10.0, step=0.05, round=0.001),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01, round=0.001),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True),
                io.Vae.Input("vae", optional=True),
                io.MultiType.Input("strength_values", types=FRAME_INPUTS, optional=True),
                MotionModelSocket.Input("image_encoder", optional=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float = 0.0, end_percent: float = 1.0) -> bool:
        check_range(start_percent, end_percent, NEVER_USED)
        return True

    @classmethod
    def execute(
        cls, motion_model, image: Any, drift: float = 0.8, strength: float = 1.0, start_percent: float = 0.0, end_percent: float = 1.0,
        vae: io.Vae.Type | None = None, strength_values: FrameInput = None, image_encoder=None,
    ) -> io.NodeOutput:  # fmt: skip
        steered = Steered.of("strength", strength, strength_values)
        references = reference_images(image, vae, drift, steered, start_percent, end_percent)
        return io.NodeOutput(set_reference(motion_model, references, image_encoder))


NODES = [AnimateLcmImageNode]
