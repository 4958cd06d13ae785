"""A real UNet of 32 channels in a real ComfyUI on a CPU: real classes, no checkpoint."""

from __future__ import annotations

import os
import sys

collect_ignore_glob: list[str] = []
if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before anything asks for a device
else:
    collect_ignore_glob.append("test_*.py")

import pytest
import torch

torch.set_num_threads(1)  # for networks of 32 channels, threads cost more than they bring

@pytest.fixture(autouse=True)
def _as_ComfyUI_runs_nodes():
    with torch.inference_mode():
        yield
