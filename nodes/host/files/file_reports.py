"""Looking into any file of ComfyUI's model folders without loading it."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ....motion_models.errors import MotionModelError, UnreadableFile, shorten
from ....motion_models.inspect_file import FileReport, inspect_file
from .folders import MOTION_LORAS, MOTION_MODEL_FILES, MOTION_MODELS
from .reading import open_weights

FOLDERS = (  # ids, most likely first
    *(MOTION_MODELS, MOTION_LORAS, "loras", "checkpoints", "diffusion_models", "controlnet", "vae"),
    *("text_encoders", "clip_vision", "upscale_models", "embeddings"),
)


def file_names() -> list[str]:
    return [f"{folder}/{name}" for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]


def file_path(choice: str) -> str:
    """Full path of an offered file; raises ``UnreadableFile`` where it is gone, or was never offered."""
    folder, _, name = choice.partition("/")
    path = folder_paths.get_full_path(folder, name) if folder in FOLDERS else None
    if path is None:
        name = shorten(choice)
        raise UnreadableFile(f"'{name}' was not found. Press R in the editor to refresh the list, and choose again.")
    return path


def inspect_path(path: str) -> FileReport:
    """Say what a file is; one that cannot be read is reported as such, and none is run as code."""
    name, num_bytes = Path(path).name, os.path.getsize(path)
    try:
        with open_weights(path, shapes_only=True) as (tensors, metadata):
            return inspect_file(tensors, name, num_bytes, metadata)
    except MotionModelError as error:
        return FileReport(name, "a file that cannot be read", num_bytes=num_bytes, problem=str(error))


def trained_frames(name: str) -> int | None:
    """How many frames an offered motion model's clips had in training; None where its file does not tell, or is gone."""
    try:
        config = inspect_path(MOTION_MODEL_FILES.path(name)).config
    except (MotionModelError, OSError):
        return None
    return None if config is None else min(config.trained_frames, config.max_frames)
