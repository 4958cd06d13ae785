"""The model files the demo uses when the user names none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .cache import cache_folder, lock, made_whole, require_disk_space
from .comfyui import ComfyUI, environment_for
from .errors import LoomError
from .processes import last_lines, run_logged

_VERSION = 1  # one more whenever random_models.py writes something else
_SCRIPT = Path(__file__).with_name("random_models.py")
_MODELS_GIB = 0.5


@dataclass(frozen=True)
class DemoModels:
    """A checkpoint and a motion model that fit each other."""

    checkpoint: Path
    motion_model: Path

    def model_folders(self) -> dict[str, list[Path]]:
        return {
            "checkpoints": [self.checkpoint.parent],
            "animatediff_models": [self.motion_model.parent],
        }


def random_models(comfyui: ComfyUI, python: Path) -> DemoModels:
    """Tiny models with random weights, in the cache; written the first time."""
    target = cache_folder() / f"models-random-{_VERSION}"
    models = _in_folder(target)
    if not target.is_dir():
        with lock(target):
            if not target.is_dir():
                require_disk_space(target.parent, _MODELS_GIB, "The demo's models")
                _write(target, comfyui, python)
    return models


def _in_folder(folder: Path) -> DemoModels:
    return DemoModels(
        checkpoint=folder / "checkpoints" / "loom_random_weights.safetensors",
        motion_model=folder / "animatediff_models" / "loom_random_motion.safetensors",
    )


def _write(target: Path, comfyui: ComfyUI, python: Path) -> None:
    print("Writing the demo's models with random weights (once) ...", flush=True)
    log_path = target.with_name(f"{target.name}.log")
    log_path.unlink(missing_ok=True)
    with made_whole(target) as folder:
        models = _in_folder(folder)
        models.checkpoint.parent.mkdir()
        models.motion_model.parent.mkdir()
        command = [python, _SCRIPT, comfyui.path, models.checkpoint, models.motion_model]
        if run_logged(command, log_path, environment=environment_for(comfyui.path)) != 0:
            raise LoomError(
                "The demo's models could not be written; the end of the log:",
                last_lines(log_path),
            )
