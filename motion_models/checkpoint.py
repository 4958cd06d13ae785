"""From any file's tensors to a motion model in one key layout, and back to the public one.

The one layout is AnimateDiff's own (``down_blocks.0.motion_modules.0.temporal_transformer. ...``) without the stored
position tables, which are a formula (``layers.sinusoidal_positions``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .config import Family, MotionModelConfig
from .errors import MotionModelError, UnknownMotionModelFormat
from .identify import describe_other_file, has_motion_modules_of_another_kind, name_unsupported_family
from .layers import sinusoidal_positions
from .motion_model import MotionModel

_MOTION_KEY = re.compile(
    r"^(?P<prefix>.*?)(?P<key>(?:(?:down|up)_blocks\.\d+|mid_block)\.motion_modules\.\d+\.temporal_transformer\..+)$"
)
_MODULE = re.compile(r"^(?P<block>(?P<part>down|up|mid)_blocks?(?:\.(?P<level>\d+))?)\.motion_modules\.(?P<layer>\d+)\.")
_POSITIONS = re.compile(r"\.attention_blocks\.[01]\.pos_encoder\.pe$")


def unwrap(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """Take the tensors out of a file's wrappings: ``state_dict`` or one-entry dicts, and entries that are no tensors.

    Training output has epoch and step beside the weights, released files an ``animatediff_config``.
    """
    while True:
        inner = state_dict.get("state_dict")
        if not isinstance(inner, Mapping) and len(state_dict) == 1:
            (inner,) = state_dict.values()
        if not isinstance(inner, Mapping):
            break
        state_dict = inner
    return {key: value for key, value in state_dict.items() if isinstance(value, Tensor)}


def convert(state_dict: Mapping[str, object]) -> tuple[MotionModelConfig, dict[str, Tensor]]:
    """Recognise a motion model and bring it to the one layout; strict about keys, shapes and values.

    Args:
        state_dict: what a file held, wrappings and all.

    Returns:
        The config and the weights of exactly its ``MotionModel``, as they are in the file (dtype, memory).

    Raises:
        UnknownMotionModelFormat: the file is something else (named), or a family Loom does not support (named).
        MotionModelError: keys are missing or spare, shapes are wrong, or weights are not finite.
    """
    tensors = unwrap(state_dict)
    unsupported = name_unsupported_family(tensors)
    if unsupported is not None:
        raise UnknownMotionModelFormat(
            f"{unsupported} motion model: not supported yet. Use an AnimateDiff v1, v2 or v3 file."
        )
    weights = _motion_weights(tensors)
    if not weights or has_motion_modules_of_another_kind(tensors):
        raise UnknownMotionModelFormat(f"not a motion model: {describe_other_file(tensors)}")
    positions = {key: weights.pop(key) for key in list(weights) if _POSITIONS.search(key)}
    config = detect_config(weights, positions)
    check_weights(config, weights)
    _check_positions(positions)
    return config, weights


def _motion_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the motion modules' entries, without what stands before them (``module.``, ``unet.``)."""
    weights: dict[str, Tensor] = {}
    prefixes: set[str] = set()
    for name, tensor in tensors.items():
        match = _MOTION_KEY.match(name)
        if match is None:
            continue
        prefixes.add(match["prefix"])
        weights[match["key"]] = tensor
    if len(prefixes) > 1:
        raise MotionModelError(
            f"the file holds {len(prefixes)} sets of motion modules, under {_some(sorted(prefixes))}. "
            "Save just one of them to a file of its own."
        )
    return weights


def detect_config(weights: Mapping[str, Tensor], positions: Mapping[str, Tensor]) -> MotionModelConfig:
    """Read family and shape off the keys of an AnimateDiff-layout motion model.

    Args:
        weights: entries of the motion modules, without position tables.
        positions: the position tables, ``(1, max_frames, c)`` each.

    Raises:
        UnknownMotionModelFormat: the modules are no AnimateDiff arrangement.
    """
    modules = {(m["part"], int(m["level"] or 0), int(m["layer"])) for m in map(_MODULE.match, weights) if m}
    levels = 1 + max((level for part, level, _ in modules if part == "down"), default=-1)
    layers = 1 + max((layer for part, _, layer in modules if part == "down"), default=-1)
    has_mid_block = any(part == "mid" for part, _, _ in modules)
    expected = {("down", level, layer) for level in range(levels) for layer in range(layers)}
    expected |= {("up", level, layer) for level in range(levels) for layer in range(layers + 1)}
    expected |= {("mid", 0, 0)} if has_mid_block else set()
    if modules != expected or not levels:
        absent = [_module_name(*module) for module in sorted(expected - modules)]
        spare = [_module_name(*module) for module in sorted(modules - expected)]
        raise UnknownMotionModelFormat(
            "its motion modules do not form a whole motion model"
            + (f"; missing: {_some(absent)}" if absent else "")
            + (f"; not expected: {_some(spare)}" if spare else "")
            + ". The file is incomplete or of a kind that Loom does not know."
        )
    widths = tuple(_width(weights, f"down_blocks.{level}.motion_modules.0") for level in range(levels))
    lengths = {table.shape[1] for table in positions.values() if table.ndim == 3}
    if len(lengths) != 1:
        raise UnknownMotionModelFormat(
            f"its position tables have {_some(sorted(map(str, lengths)), 'no')} lengths; expected one for all."
        )
    max_frames = lengths.pop()
    return MotionModelConfig(
        family=_family(has_mid_block, max_frames),
        block_channels=widths,
        layers_per_block=layers,
        has_mid_block=has_mid_block,
        max_frames=max_frames,
    )


def _family(has_mid_block: bool, max_frames: int) -> Family:
    if has_mid_block:
        return Family.V2
    return Family.V1 if max_frames == 24 else Family.V3


def _width(weights: Mapping[str, Tensor], module: str) -> int:
    tensor = weights.get(f"{module}.temporal_transformer.proj_in.weight")
    if tensor is None or tensor.ndim != 2:
        raise UnknownMotionModelFormat(f"'{module}.temporal_transformer.proj_in.weight' is missing or no matrix.")
    return tensor.shape[0]


def _module_name(part: str, level: int, layer: int) -> str:
    return f"{'mid_block' if part == 'mid' else f'{part}_blocks.{level}'}.motion_modules.{layer}"


def expected_shapes(config: MotionModelConfig) -> dict[str, torch.Size]:
    """Names and shapes of all weights of a motion model, from the network itself."""
    model = MotionModel(config, operations=torch.nn, attention=_no_attention, device="meta")
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _no_attention(*args: object, **kwargs: object) -> Tensor:
    raise AssertionError("a model on the meta device is for its shapes only")


def check_weights(config: MotionModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Check that ``weights`` are exactly those of the config's ``MotionModel``: names, shapes, finite values.

    Loaders may not: under ComfyUI's DynamicVRAM a linear layer takes any shape and fills in what is missing.

    Raises:
        MotionModelError: naming the first few offenders.
    """
    shapes = expected_shapes(config)
    missing = sorted(shapes.keys() - weights.keys())
    spare = sorted(weights.keys() - shapes.keys())
    if missing or spare:
        raise MotionModelError(
            f"the file does not hold a whole {config.family.title} motion model"
            + (f"; {len(missing)} weights are missing: {_some(missing)}" if missing else "")
            + (f"; {len(spare)} are not expected: {_some(spare)}" if spare else "")
            + ". Download it again."
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise MotionModelError(
                f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(shape)} "
                f"for a {config.family.title} motion model. The file is damaged or not what it seems."
            )
    bad = [name for name in shapes if not _is_finite(weights[name])]
    if bad:
        raise MotionModelError(
            f"{len(bad)} weights hold NaN or infinity: {_some(bad)}. The file is damaged, or its training "
            "went wrong; it would only give black frames."
        )


def _is_finite(tensor: Tensor) -> bool:
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


def to_public_layout(config: MotionModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the position tables back, ``(1, max_frames, c)`` each: the layout that other programs read."""
    public = dict(weights)
    for name, tensor in weights.items():
        if name.endswith(".to_q.weight"):
            table = sinusoidal_positions(torch.arange(config.max_frames), tensor.shape[0])
            public[name.replace(".to_q.weight", ".pos_encoder.pe")] = table[None].to(tensor.dtype)
    return public


def save(
    path: str | Path, config: MotionModelConfig, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a motion model as safetensors in AnimateDiff's public layout.

    Raises:
        MotionModelError: ``weights`` are not those of ``config``, or the file cannot be written.
    """
    check_weights(config, weights)
    public = {name: tensor.contiguous() for name, tensor in to_public_layout(config, weights).items()}
    try:
        save_file(public, str(path), metadata={"format": "pt", **(metadata or {})})
    except (OSError, SafetensorError) as error:
        raise MotionModelError(
            f"'{path}' cannot be written ({error}). Make room on the disk or choose another folder, then run it again."
        ) from error


def _some(names: Iterable[str], none: str = "") -> str:
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:3]) or none
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
