"""From any file's tensors to a motion model in one key layout, strictly checked, and back to the public ones."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .companions import Companion, companions_in, with_family_of
from .config import MotionModelConfig
from .errors import MotionModelError, one_line, quote
from .identify import kind_with_motion_modules
from .inspect_file import not_a
from .layouts import Layout, motion_weights, to_layout
from .recognise import check_dtypes, check_positions, check_shapes, detect_config, unwrap


class Converted(NamedTuple):
    """What a motion model's file holds: weights of exactly its networks, as they are in the file (dtype, memory)."""

    config: MotionModelConfig
    weights: dict[str, Tensor]
    companions: dict[Companion, dict[str, Tensor]]


def convert(state_dict: Mapping[str, object], file_name: str = "") -> Converted:
    """Recognise a motion model in what a file held, wrappings and all, and bring it to the one layout.

    ``file_name`` tells what keys can't: an AnimateLCM in the diffusers layout looks just like an AnimateDiff v2. Raises
    ``UnknownMotionModelFormat``, which names what else the file is, and ``MotionModelError`` where keys are missing or
    spare, shapes or dtypes are wrong, or weights are not finite.
    """
    tensors = unwrap(state_dict)
    if kind_with_motion_modules(tensors) is not None:
        raise not_a("motion model", tensors, file_name)
    layout, weights, positions = motion_weights(tensors)
    if not weights:
        raise not_a("motion model", tensors, file_name)
    config = detect_config(weights, positions, layout, file_name)
    check_weights(config, weights)
    check_positions(positions)
    companions = companions_in(tensors)
    for kind, its_weights in companions.items():
        _check_companion(kind, its_weights)
    return Converted(with_family_of(companions, config), weights, companions)


def _check_companion(kind: Companion, weights: Mapping[str, Tensor]) -> None:
    network = kind.network(weights, operations=torch.nn, device="meta").state_dict()
    shapes = {(name, tensor.shape) for name, tensor in weights.items()}
    wrong = sorted({name for name, _ in shapes ^ {(name, tensor.shape) for name, tensor in network.items()}})
    if wrong:
        raise MotionModelError(
            f"it contains {kind.title}, of which {quote(wrong)} are missing, unexpected or of another shape. "
            "The file is damaged: download it again."
        )
    check_dtypes(weights)
    check_finite(weights)


def check_weights(config: MotionModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise ``MotionModelError`` unless ``weights`` are just those of the config: names, shapes, dtypes, finite values.

    Loaders may not: under ComfyUI's DynamicVRAM a linear layer takes any shape and fills in what is missing.
    """
    check_shapes(config, weights)
    check_finite(weights)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``MotionModelError`` unless tensors hold numbers, and neither NaN nor infinity."""
    bad = [name for name, tensor in tensors.items() if tensor.is_meta or not _is_finite(tensor)]
    if bad:
        raise MotionModelError(
            f"{len(bad)} weights hold NaN or infinity: {quote(bad)}. "
            "The file is damaged, or its training went wrong; it would only give black frames."
        )


def _is_finite(tensor: Tensor) -> bool:
    # A sum is one pass without a mask of the tensor's size; NaN and infinity survive it. Eight-bit floats can't sum.
    if tensor.element_size() == 1:
        tensor = tensor.float()
    return math.isfinite(tensor.sum(dtype=torch.float32).item())


def save(
    path: str | Path, config: MotionModelConfig, weights: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None, layout: Layout = Layout.ANIMATEDIFF,
    companions: Mapping[Companion, Mapping[str, Tensor]] | None = None,
) -> None:  # fmt: skip
    """Write a motion model as safetensors in a public layout, with its companions.

    Raises ``MotionModelError`` where ``weights`` are not those of ``config`` or the file cannot be written.
    """
    check_weights(config, weights)
    public = {name: tensor.contiguous() for name, tensor in to_layout(config, weights, layout).items()}
    for kind, its_weights in (companions or {}).items():
        public |= {f"{kind.prefix}{name.removeprefix(kind.inner)}": tensor.contiguous() for name, tensor in its_weights.items()}
    try:
        mode = _mode_of_new_files(Path(path))
        said = {"format": "pt", **(metadata or {}), **config.to_metadata()}
        save_file(public, str(path), metadata={one_line(key): one_line(value) for key, value in said.items()})
        os.chmod(path, mode)  # safetensors lets only their owner read its files
    except (OSError, SafetensorError) as error:
        raise MotionModelError(
            f"'{path}' cannot be written ({error}). Make room on the disk or choose another folder, then run it again."
        ) from error


def _mode_of_new_files(path: Path) -> int:
    """The permissions that the umask leaves, told from a new file: reading a umask sets that of all threads."""
    probe = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        probe.touch()
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)
