"""Nodes that make latents."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from .host.types import CATEGORY
from .loom_node import LoomNode

_LATENT_CHANNELS = 4
_PIXELS_PER_LATENT = 8


class EmptyAnimationLatentNode(LoomNode):
    """As many empty latents as the animation has frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomEmptyAnimationLatent",
            category=CATEGORY,
            search_aliases=["animatediff", "animate diff", "empty latent video", "frames", "motion module"],
            inputs=[
                io.Int.Input("width", default=512, min=16, max=16384, step=8),
                io.Int.Input("height", default=512, min=16, max=16384, step=8),
                io.Int.Input("frames", default=16, min=1, max=4096),
            ],
            outputs=[io.Latent.Output("latent")],
        )

    @classmethod
    def execute(cls, width: int = 512, height: int = 512, frames: int = 16) -> io.NodeOutput:
        samples = torch.zeros(
            (frames, _LATENT_CHANNELS, height // _PIXELS_PER_LATENT, width // _PIXELS_PER_LATENT),
            device=comfy.model_management.intermediate_device(),
            dtype=comfy.model_management.intermediate_dtype(),
        )
        return io.NodeOutput({"samples": samples, "downscale_ratio_spacial": _PIXELS_PER_LATENT})


NODES = [EmptyAnimationLatentNode]
