"""Which motion model a table of tensors is, from names and shapes alone: its family, its shape, whether it is whole.

The tensors may be on the meta device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from .config import SDXL_LEVELS, Family, MotionModelConfig
from .errors import MotionModelError, UnknownMotionModelFormat
from .layouts import Layout
from .motion_model import MotionModel

_MODULE = re.compile(r"^(?P<block>(?P<part>down|up|mid)_blocks?(?:\.(?P<level>\d+))?)\.motion_modules\.(?P<layer>\d+)\.")
_COMPUTED_POSITIONS = 64
"""Positions that AnimateLCM's code makes, whose files store none."""


def unwrap(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """Take the tensors out of a file's wrappings: ``state_dict`` or one-entry dicts, and entries that are no tensors.

    Training output has epoch and step beside the weights, released files an ``animatediff_config``. Where there are several
    tables and none is called ``state_dict``, as in CameraCtrl's file, each table's name stands before its keys.
    """
    while True:
        inner = state_dict.get("state_dict")
        if not isinstance(inner, Mapping) and len(state_dict) == 1:
            (inner,) = state_dict.values()
        if not isinstance(inner, Mapping):
            break
        state_dict = inner
    tensors: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        table = {f"{key}.{inside}": tensor for inside, tensor in value.items()} if isinstance(value, Mapping) else {key: value}
        tensors |= {name: tensor for name, tensor in table.items() if isinstance(tensor, Tensor)}
    return tensors


def detect_config(
    weights: Mapping[str, Tensor],
    positions: Mapping[str, Tensor],
    layout: Layout = Layout.ANIMATEDIFF,
    file_name: str = "",
) -> MotionModelConfig:
    """Read family and shape off a motion model's keys and shapes; the tensors may be on the meta device.

    Args:
        weights: entries of the motion modules in the one layout, without position tables.
        positions: the position tables, ``(1, max_frames, c)`` each.
        layout: of the file.
        file_name: see ``checkpoint.convert``.

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
            + (f"; missing: {some(absent)}" if absent else "")
            + (f"; not expected: {some(spare)}" if spare else "")
            + ". The file is incomplete or of a kind that Loom does not know."
        )
    widths = tuple(_width(weights, f"down_blocks.{level}.motion_modules.0") for level in range(levels))
    max_frames = _max_frames(positions)
    if not max_frames and not has_mid_block:
        raise UnknownMotionModelFormat("it has no position tables, without which frames have no order. The file is incomplete.")
    family = _family(levels, has_mid_block, max_frames)
    if layout is Layout.DIFFUSERS and has_mid_block and "lcm" in file_name.lower():
        family = Family.LCM
    return MotionModelConfig(
        family=family,
        block_channels=widths,
        layers_per_block=layers,
        has_mid_block=has_mid_block,
        max_frames=max_frames or _COMPUTED_POSITIONS,
    )


def _max_frames(positions: Mapping[str, Tensor]) -> int:
    """Number of positions in the tables; 0 if there are none."""
    lengths = {table.shape[1] if table.ndim == 3 else 0 for table in positions.values()}
    if len(lengths) > 1 or 0 in lengths:
        raise UnknownMotionModelFormat(
            f"its position tables have {some(sorted(map(str, lengths)))} lengths; expected one for all."
        )
    return lengths.pop() if lengths else 0


def _family(levels: int, has_mid_block: bool, max_frames: int) -> Family:
    if not max_frames:
        return Family.LCM
    if has_mid_block:
        return Family.LONG if max_frames > 32 else Family.V2
    if levels == SDXL_LEVELS:
        return Family.HOTSHOT if max_frames == 24 else Family.SDXL
    return Family.V1 if max_frames == 24 else Family.V3


def _width(weights: Mapping[str, Tensor], module: str) -> int:
    tensor = weights.get(f"{module}.temporal_transformer.proj_in.weight")
    if tensor is None or tensor.ndim != 2:
        raise UnknownMotionModelFormat(f"'{module}.temporal_transformer.proj_in.weight' is missing or no matrix.")
    return tensor.shape[0]


def _module_name(part: str, level: int, layer: int) -> str:
    return f"{'mid_block' if part == 'mid' else f'{part}_blocks.{level}'}.motion_modules.{layer}"


@lru_cache(maxsize=16)
def expected_shapes(config: MotionModelConfig) -> Mapping[str, torch.Size]:
    """Names and shapes of all weights of a motion model, from the network itself."""
    model = MotionModel(config, operations=torch.nn, attention=_no_attention, device="meta")
    return MappingProxyType({name: tensor.shape for name, tensor in model.state_dict().items()})


def _no_attention(*args: object, **kwargs: object) -> Tensor:
    raise AssertionError("a model on the meta device is for its shapes only")


def check_shapes(config: MotionModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Check names and shapes, as ``check_weights`` does; the weights may be on the meta device.

    Raises:
        MotionModelError: naming the first few offenders.
    """
    shapes = expected_shapes(config)
    missing = sorted(shapes.keys() - weights.keys())
    spare = sorted(weights.keys() - shapes.keys())
    if missing or spare:
        raise MotionModelError(
            f"the file does not hold a whole {config.family.title} motion model"
            + (f"; {len(missing)} weights are missing: {some(missing)}" if missing else "")
            + (f"; {len(spare)} are not expected: {some(spare)}" if spare else "")
            + ". Download it again."
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise MotionModelError(
                f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(shape)} "
                f"for a {config.family.title} motion model. The file is damaged or not what it seems."
            )


def some(names: Iterable[str]) -> str:
    """Quote the first three names, for messages."""
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
