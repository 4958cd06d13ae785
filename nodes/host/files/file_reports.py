"""Looking into any file of ComfyUI's model folders without loading it."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
import torch
from safetensors import SafetensorError, safe_open

from ....motion_models.errors import MotionModelError
from ....motion_models.files import SAFETENSORS, check_weights_file
from ....motion_models.inspect_file import FileReport, inspect_file
from .folders import MOTION_LORAS, MOTION_MODELS
from .loading import read_weights_file

FOLDERS = (
    *(MOTION_MODELS, MOTION_LORAS, "loras", "checkpoints", "diffusion_models", "controlnet", "vae"),
    *("text_encoders", "clip_vision", "upscale_models", "embeddings"),
)
"""Ids of the folders whose files are offered, most likely first."""

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def file_names() -> list[str]:
    """All files to offer, as ``folder/name``."""
    return [f"{folder}/{name}" for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]


def file_path(choice: str) -> str:
    """Full path of an offered file.

    Raises:
        FileNotFoundError: it is gone, or was never offered.
    """
    folder, _, name = choice.partition("/")
    path = folder_paths.get_full_path(folder, name) if folder in FOLDERS else None
    if path is None:
        raise FileNotFoundError(f"'{choice}' was not found. Press R in the editor to refresh the list, and choose again.")
    return path


def inspect_path(path: str) -> FileReport:
    """Say what a file is; one that cannot be read is reported as such.

    A safetensors file is not read beyond its header. Others are mapped into memory and never run as code.
    """
    name, num_bytes = Path(path).name, os.path.getsize(path)
    try:
        if Path(path).suffix.lower() in SAFETENSORS:
            tensors, metadata = _shapes(path)
        else:
            tensors, metadata = read_weights_file(path), {}
    except MotionModelError as error:
        return FileReport(name, "a file that cannot be read", num_bytes=num_bytes, problem=str(error))
    return inspect_file(tensors, name, num_bytes, metadata)


def _shapes(path: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Each tensor of a safetensors file on the meta device, and the file's metadata."""
    check_weights_file(path)
    tensors = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():
                part = file.get_slice(key)
                dtype = _DTYPES.get(part.get_dtype(), torch.uint8)
                tensors[key] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
            return tensors, dict(file.metadata() or {})
    except SafetensorError as error:
        raise MotionModelError(f"'{Path(path).name}' cannot be read ({error}). Download it again.") from error
