"""Reading any file with ComfyUI's readers; whatever goes wrong is one sentence, and code in a file is never run."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import torch
from safetensors import safe_open
from torch import Tensor

from ....motion_models.errors import UnreadableFile, UserError, shorten
from ....motion_models.files import SAFETENSORS, check_weights_file, readable_path
from ....motion_models.recognise import unwrap

Weights = tuple[dict[str, Tensor], dict[str, str]]  # without their wrappings, and a file's metadata

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_POSITION_TABLES = ("pos_encoder.pe", "pos_encoder.positional_encoding", "pos_embed.pe")
_LARGEST_TABLE = 2**23


@contextmanager
def open_weights(path: str, shapes_only: bool = False) -> Iterator[Weights]:
    """Read a weights file, and make one line that names it of whatever goes wrong with it in the body of the ``with``.

    With ``shapes_only``, only the header and the position tables of a safetensors file are read; other tensors are then
    on the meta device. A zipped pickle's tensors are mapped then, and read where they are looked at.
    """
    name = shorten(Path(path).name)
    try:
        check_weights_file(path)
        is_safe = Path(path).suffix.lower() in SAFETENSORS
        with readable_path(path) as readable:
            is_mapped = shapes_only and zipfile.is_zipfile(readable)
            weights = _read_shapes(readable) if is_safe and shapes_only else _read(readable, is_safe, is_mapped)
        yield weights
    except UserError as error:
        if str(error).startswith(f"'{name}'"):
            raise
        raise type(error)(f"'{name}': {error}") from error
    except torch.OutOfMemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise UnreadableFile(
            f"'{name}' was not loaded: it is a damaged pickle, or one that carries program code, which Loom never "
            "runs. Use a .safetensors version of the file, from a source you trust."
        ) from error
    except Exception as error:  # readers raise anything at files that are not theirs
        why = shorten(error, 150) or type(error).__name__
        raise UnreadableFile(
            f"'{name}' cannot be read ({why}). "
            "If other files load, it is damaged, or not a weights file: download it again."
        ) from error


def _read(path: str, is_safe: bool, is_mapped: bool) -> Weights:
    metadata = {}
    if is_safe:
        with safe_open(path, framework="pt") as file:  # checks the header, which core's reader for DynamicVRAM trusts
            metadata = file.metadata() or {}
    if is_mapped:
        state_dict = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    else:
        state_dict = comfy.utils.load_torch_file(path, safe_load=True)
    if not isinstance(state_dict, dict):
        raise UnreadableFile(f"it holds a {type(state_dict).__name__}, not a table of weights.")
    tensors = unwrap(state_dict)
    if any(tensor.is_meta for tensor in tensors.values()):
        raise UnreadableFile("it holds names and shapes, but no numbers.")
    return tensors, metadata


def _read_shapes(path: str) -> Weights:
    tensors = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():
            part = file.get_slice(key)
            shape, dtype = part.get_shape(), _DTYPES.get(part.get_dtype(), torch.uint8)
            is_table = key.endswith(_POSITION_TABLES) and math.prod(shape) <= _LARGEST_TABLE
            tensors[key] = file.get_tensor(key) if is_table else torch.empty(shape, dtype=dtype, device="meta")
        return unwrap(tensors), file.metadata() or {}
