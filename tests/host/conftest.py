"""A real UNet of 32 channels in a real ComfyUI on a CPU: real classes, no checkpoint."""

from __future__ import annotations

import os
import sys

collect_ignore_glob: list[str] = []
if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before anything asks for a device
    comfy.cli_args.args.use_pytorch_cross_attention = True  # as on graphics cards, and faster than what a CPU gets by itself
else:
    collect_ignore_glob.append("test_*.py")

import comfy.model_management
import pytest
import torch

from . import dynamic_vram

torch.set_num_threads(1)  # for networks of 32 channels, threads cost more than they bring

@pytest.fixture(autouse=True)
def _as_ComfyUI_runs_nodes():
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True, scope="module")
def patchers(request):
    """ComfyUI's plain patchers, or with ``world.BOTH`` once more those of DynamicVRAM."""
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request, "param", os.environ.get("LOOM_DYNAMIC")) == "dynamic":
            dynamic_vram.switch_on(patch)
        yield
        comfy.model_management.unload_all_models()
