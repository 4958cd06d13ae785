"""Nodes that make latents."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from .host.types import CATEGORY
from .loom_node import LoomNode

_PIXELS_PER_LATENT = 8


class EmptyAnimationLatentNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomEmptyAnimationLatent",
            category=CATEGORY,
            search_aliases=["empty latent video", "frames"],
            inputs=[
                io.Int.Input("width", default=512, min=16, max=16384, step=8),
                io.Int.Input("height", default=512, min=16, max=16384, step=8),
                io.Int.Input("frames", default=16, min=1, max=4096),
            ],
            outputs=[io.Latent.Output("latent")],
        )

    @classmethod
    def execute(cls, width: int = 512, height: int = 512, frames: int = 16) -> io.NodeOutput:
        device, dtype = comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
        shape = (frames, 4, height // _PIXELS_PER_LATENT, width // _PIXELS_PER_LATENT)
        samples = torch.zeros(shape, device=device, dtype=dtype)
        return io.NodeOutput({"samples": samples, "downscale_ratio_spacial": _PIXELS_PER_LATENT})


NODES = [EmptyAnimationLatentNode]
