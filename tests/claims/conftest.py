"""A real ComfyUI on the CPU, as in tests/host, with all threads: these networks are of full width."""

from __future__ import annotations

import os
import sys

import pytest

collect_ignore_glob: list[str] = []
if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
else:
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(autouse=True, scope="session")
def _all_threads():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)
