"""Loom's nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import apply, latents, loaders, sampler
from .host.folders import register_folders

register_folders()


class LoomExtension(ComfyExtension):
    """AnimateDiff Loom, as ComfyUI sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return every node of the pack; the one list of them."""
        return [*loaders.NODES, *apply.NODES, *latents.NODES, *sampler.NODES]
