"""Whether a Python's PyTorch sees a device that is faster than the CPU."""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import subprocess
import sys
from pathlib import Path

from .cache import cache_folder, write_atomically
from .processes import clean_environment

_QUESTION = """
import torch
xpu = getattr(torch, "xpu", None)
print(
    torch.cuda.is_available()
    or torch.backends.mps.is_available()
    or bool(xpu and xpu.is_available())
)
"""


@functools.lru_cache
def has_accelerator(python: Path) -> bool:
    """Ask PyTorch once for CUDA (also ROCm), MPS and XPU.

    Importing PyTorch takes seconds, so the answer is kept until this machine's devices change.
    """
    memory = cache_folder() / "accelerators.json"
    key = memory_key(python)
    answers = _remembered(memory)
    if not isinstance(answers.get(key), bool):
        answer = subprocess.run(
            [str(python), "-I", "-c", _QUESTION],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            return False  # ComfyUI's own log will say better what is wrong with this PyTorch
        answers[key] = answer.stdout.split()[-1:] == ["True"]
        with contextlib.suppress(OSError):  # somebody else's cache, or a full disk
            write_atomically(memory, json.dumps(answers, indent=1))
    return answers[key]


def _remembered(memory: Path) -> dict[str, bool]:
    try:
        answers = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return answers if isinstance(answers, dict) else {}


def memory_key(python: Path) -> str:
    """What an answer is kept under: the Python, and this machine's devices now."""
    return json.dumps([str(python), *_visible_devices()])


def _visible_devices() -> list[str]:
    """Changes when a graphics card or its driver is added or removed."""
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR")
    seen = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    if sys.platform == "win32":
        system = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32")
        libraries = ("nvcuda.dll", "amdhip64.dll", "ze_loader.dll")
        return seen + [name for name in libraries if os.path.exists(os.path.join(system, name))]
    patterns = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dri/render*", "/dev/dxg")
    return seen + [path for pattern in patterns for path in sorted(glob.glob(pattern))]
