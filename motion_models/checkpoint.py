"""From any file's tensors to a motion model in one key layout, strictly checked, and back to the public ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .config import MotionModelConfig
from .errors import MotionModelError, UnknownMotionModelFormat
from .identify import kind_with_motion_modules
from .inspect_file import not_a
from .layers import sinusoidal_positions
from .layouts import Layout, motion_weights, to_layout
from .recognise import check_shapes, detect_config, some, unwrap


def convert(state_dict: Mapping[str, object], file_name: str = "") -> tuple[MotionModelConfig, dict[str, Tensor]]:
    """Recognise a motion model and bring it to the one layout; strict about keys, shapes and values.

    Args:
        state_dict: what a file held, wrappings and all.
        file_name: tells what keys can't: an AnimateLCM in the diffusers layout looks just like an AnimateDiff v2, but is
            called so.

    Returns:
        The config and the weights of exactly its ``MotionModel``, as they are in the file (dtype, memory).

    Raises:
        UnknownMotionModelFormat: the file is something else (named), or a family Loom does not support (named).
        MotionModelError: keys are missing or spare, shapes are wrong, or weights are not finite.
    """
    tensors = unwrap(state_dict)
    if kind_with_motion_modules(tensors) is not None:
        raise not_a("motion model", tensors, file_name)
    layout, weights, positions = motion_weights(tensors)
    if not weights:
        raise not_a("motion model", tensors, file_name)
    config = detect_config(weights, positions, layout, file_name)
    check_weights(config, weights)
    _check_positions(positions)
    return config, weights


def check_weights(config: MotionModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Check that ``weights`` are exactly those of the config's ``MotionModel``: names, shapes, finite values.

    Loaders may not: under ComfyUI's DynamicVRAM a linear layer takes any shape and fills in what is missing.

    Raises:
        MotionModelError: naming the first few offenders.
    """
    check_shapes(config, weights)
    bad = [name for name, tensor in weights.items() if not is_finite(tensor)]
    if bad:
        raise MotionModelError(
            f"{len(bad)} weights hold NaN or infinity: {some(bad)}. The file is damaged, or its training "
            "went wrong; it would only give black frames."
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    # A sum is one pass without a mask of the tensor's size; NaN and infinity survive it. Eight-bit floats can't sum.
    if tensor.element_size() == 1:
        tensor = tensor.float()
    return math.isfinite(tensor.sum(dtype=torch.float32).item())


def _check_positions(positions: Mapping[str, Tensor]) -> None:
    formulas: dict[tuple[int, int], Tensor] = {}
    for name, table in positions.items():
        _, frames, channels = table.shape
        if (frames, channels) not in formulas:
            formulas[frames, channels] = sinusoidal_positions(torch.arange(frames), channels)
        # Half precision stores the table rounded: allow that rounding of values up to 1, no more.
        tolerance = 1e-4 + (torch.finfo(table.dtype).eps if table.is_floating_point() else 0.0)
        difference = (table[0].float() - formulas[frames, channels]).abs().max().item()
        if not difference <= tolerance:
            raise UnknownMotionModelFormat(
                f"'{name}' differs from AnimateDiff's sinusoidal positions by up to {difference:.3g}. Loom computes "
                "positions by that formula and would not reproduce this file."
            )


def save(
    path: str | Path,
    config: MotionModelConfig,
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    layout: Layout = Layout.ANIMATEDIFF,
) -> None:
    """Write a motion model as safetensors in a public layout.

    Raises:
        MotionModelError: ``weights`` are not those of ``config``, or the file cannot be written.
    """
    check_weights(config, weights)
    public = {name: tensor.contiguous() for name, tensor in to_layout(config, weights, layout).items()}
    try:
        save_file(public, str(path), metadata={"format": "pt", **(metadata or {})})
    except (OSError, SafetensorError) as error:
        raise MotionModelError(
            f"'{path}' cannot be written ({error}). Make room on the disk or choose another folder, then run it again."
        ) from error
