"""Nodes that make clips, as latents or images, and change how long they are."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io

from .host.runs.run_wrappers import check_is_batch_of_frames
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


class RepeatLastFrameNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomRepeatLastFrame",
            category=CATEGORY,
            search_aliases=["repeat latent batch", "hold frame", "freeze frame", "extend clip", "image to animation"],
            inputs=[io.Latent.Input("latent"), io.Int.Input("frames", default=16, min=1, max=4096)],
            outputs=[io.Latent.Output("latent")],
        )

    @classmethod
    def execute(cls, latent: io.Latent.Type, frames: int = 16) -> io.NodeOutput:
        samples = latent["samples"]
        check_is_batch_of_frames(samples, "Repeat Last Frame")
        added = max(0, frames - samples.shape[0])
        changed: dict[str, Any] = {**latent, "samples": _held(samples, added)}
        mask, places = latent.get("noise_mask"), latent.get("batch_index")
        if mask is not None and mask.shape[0] == samples.shape[0] > 1:
            changed["noise_mask"] = _held(mask, added)
        if places is not None:
            changed["batch_index"] = [*places, *range(places[-1] + 1, places[-1] + 1 + added)]
        return io.NodeOutput(changed)


def _held(frames: torch.Tensor, added: int) -> torch.Tensor:
    return torch.cat([frames, frames[-1:].expand(added, *frames.shape[1:])])


class PingPongNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomPingPong",
            category=CATEGORY,
            search_aliases=["boomerang", "back and forth", "reverse", "loop", "video combine"],
            inputs=[io.Image.Input("images")],
            outputs=[io.Image.Output("images")],
        )

    @classmethod
    def execute(cls, images: io.Image.Type) -> io.NodeOutput:
        return io.NodeOutput(torch.cat([images, images[1:-1].flip(0)]))


NODES = [EmptyAnimationLatentNode, RepeatLastFrameNode, PingPongNode]
