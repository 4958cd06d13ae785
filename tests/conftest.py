"""The pack under a fixed name, whatever its folder is called, and without running its ComfyUI entry point."""

from __future__ import annotations

import os
import signal
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


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def pytest_configure() -> None:
    # A run that is ended ends its servers, as on Ctrl-C. Pytest takes SystemExit for a failure of the test, and goes on.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _interrupt)
    # Shells start background jobs with Ctrl-C ignored, which children would inherit; the launcher's tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    import torch

    torch.manual_seed(0)
