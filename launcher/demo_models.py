"""The model files the demo uses when the user names none: the demo world's, see ``demo/README.md``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_folder, create_atomically, ensure_complete, missing_or_changed, require_disk_space
from .comfyui import ComfyUI, folders_of_models, program_environment
from .errors import LoomError
from .pack import PACK_ROOT, RUN
from .processes import last_lines, run_logged

_WEIGHTS = PACK_ROOT / "demo" / "weights"
_MADE_BY = ("demo/assemble.py", "demo/models.py")
_MODELS_GIB = 0.5
_UNUSED_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class DemoModels:
    """A checkpoint and a motion model that fit each other."""

    checkpoint: Path
    motion_model: Path

    def model_folders(self) -> dict[str, list[Path]]:
        """Folders of model files by ComfyUI's name for their kind, the outlined look's LoRA included."""
        return folders_of_models(self.checkpoint.parent.parent)


def demo_models(comfyui: ComfyUI, python: Path) -> DemoModels:
    """The demo world's models, in the cache; made from the shipped weights where they are missing or damaged."""
    target = cache_folder() / f"demo-models-{_key()}"
    models = _in_folder(target)

    def damage() -> str:
        for file in (models.checkpoint, models.motion_model):
            if not file.is_file():
                return f"'{file.name}' is missing"
        return missing_or_changed(target)

    ensure_complete(target, damage, lambda: _make(target, comfyui, python))
    with contextlib.suppress(OSError):  # somebody else's cache
        os.utime(target)  # in use, see remove_unused
    return models


def _in_folder(folder: Path) -> DemoModels:
    return DemoModels(
        checkpoint=folder / "checkpoints" / "loom_demo.safetensors",
        motion_model=folder / "animatediff_models" / "loom_demo_motion.safetensors",
    )


def _key() -> str:
    """Changes with the weights and with what makes files of them."""
    digest = hashlib.sha256()
    for path in (*sorted(_WEIGHTS.glob("*.safetensors")), *(PACK_ROOT / name for name in _MADE_BY)):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _make(target: Path, comfyui: ComfyUI, python: Path) -> None:
    require_disk_space(target.parent, _MODELS_GIB, "The demo's models")
    print("Making the demo's models (once) ...", flush=True)
    log_path = target.with_name(f"{target.name}.log")
    log_path.unlink(missing_ok=True)
    with create_atomically(target) as folder:
        command = [python, RUN, "demo.assemble", folder]
        if run_logged(command, log_path, environment=program_environment(comfyui.path)) != 0:
            raise LoomError("The demo's models could not be made; the end of the log:", last_lines(log_path))
    remove_unused(target)


def remove_unused(target: Path) -> None:
    """Remove models of other weights, a quarter of a gigabyte each, that no clone of the repository took for a week."""
    for path in target.parent.glob("demo-models-*"):
        if path.is_dir() and path != target and path.stat().st_mtime < time.time() - _UNUSED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
