"""AnimateDiff Loom: ComfyUI's way into the pack, and nothing else."""

import comfyui_version

if tuple(map(int, comfyui_version.__version__.split(".")[:2])) < (0, 30):
    raise ImportError(
        f"AnimateDiff Loom needs ComfyUI 0.30.0 or newer; this is {comfyui_version.__version__}. Update ComfyUI."
    )

from .nodes import LoomExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> LoomExtension:
    """Give ComfyUI the pack's nodes."""
    return LoomExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
