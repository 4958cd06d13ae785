"""The pack under a fixed name, whatever its folder is called, and without running its ComfyUI entry point."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _register(name: str, path: Path) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package


_register("pack", ROOT)
_register("launcher", ROOT / "launcher")

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def comfyui_path() -> Path | None:
    """The ComfyUI to test against, as `loom.py test` names it."""
    path = os.environ.get("COMFYUI_PATH")
    return Path(path) if path else None


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    import torch

    torch.manual_seed(0)
