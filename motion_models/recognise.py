"""Which motion model a table of tensors, maybe on the meta device, is: its family, its shape, whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from .config import SDXL_LEVELS, Family, MotionModelConfig
from .errors import MotionModelError, UnknownMotionModelFormat, UnreadableFile, quote, shorten
from .layers import sinusoidal_positions
from .layouts import Layout
from .motion_model import MotionModel

_MODULE = re.compile(
    r"^(?P<module>(?:(?P<part>down|up)_blocks\.(?P<level>[0-9])|mid_block)\.motion_modules\.(?P<layer>[0-9]))\."
)
_COMPUTED_POSITIONS = 64  # that AnimateLCM's code makes, whose files store none
_MOST_POSITIONS = 4096
_NORM_GROUPS = 32

# More than any model has: bounds of what a hostile file can make a loader do.
_MOST_TABLES_DEEP = 10
_MOST_ENTRIES = 100_000
_LONGEST_KEY = 500
_MOST_USES_OF_A_NUMBER = 4

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
"""What weights are stored in; whatever else there is holds quantized numbers or none."""


def unwrap(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """Take the tensors out of a file's wrappings: ``state_dict`` or one-entry dicts, and entries that are no tensors.

    Training output has epoch and step besides the weights, released files an ``animatediff_config``. Where there are
    several tables and none is called ``state_dict``, as in CameraCtrl's file, each table's name stands before its keys.
    Raises ``UnreadableFile`` at what no program saves and what would take for ever to read.
    """
    for _ in range(_MOST_TABLES_DEEP):
        inner = state_dict.get("state_dict")
        if not isinstance(inner, Mapping) and len(state_dict) == 1:
            (inner,) = state_dict.values()
        if not isinstance(inner, Mapping):
            break
        state_dict = inner
    else:
        raise UnreadableFile(f"its tables are nested more than {_MOST_TABLES_DEEP} levels deep. The file is damaged.")
    tensors: dict[str, Tensor] = {}
    for number, (name, value) in enumerate(_entries(state_dict)):
        if number == _MOST_ENTRIES or len(name) > _LONGEST_KEY:
            wrong = f"more than {number:,} entries" if number == _MOST_ENTRIES else f"a key of {len(name):,} characters"
            raise UnreadableFile(f"it has {wrong}, which no model has. The file is damaged.")
        if isinstance(value, Tensor):
            tensors[name] = value
    _check_storage(tensors)
    return tensors


def _entries(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", inside) for name, inside in value.items() if isinstance(name, str))
        else:
            yield key, value


def _check_storage(tensors: Mapping[str, Tensor]) -> None:
    used, storages = 0, {}
    for name, tensor in tensors.items():
        if tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided:
            raise UnreadableFile(f"'{shorten(name)}' is a sparse, nested or quantized tensor, which Loom cannot read.")
        if not tensor.is_meta:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            used += tensor.nbytes
    stored = sum(storages.values())
    if used > _MOST_USES_OF_A_NUMBER * stored:
        raise UnreadableFile(f"its shapes need {used:,} bytes, but it has {stored:,}. The file is damaged.")


def detect_config(
    weights: Mapping[str, Tensor], positions: Mapping[str, Tensor],
    layout: Layout = Layout.ANIMATEDIFF, file_name: str = "",
) -> MotionModelConfig:  # fmt: skip
    """Read family and shape off weights and positions as ``motion_weights`` returns them, and a file's name.

    Raises ``UnknownMotionModelFormat`` where the modules are no AnimateDiff arrangement.
    """
    found = [match for match in map(_MODULE.match, weights) if match]
    modules = {match["module"] for match in found}
    levels = 1 + max((int(match["level"]) for match in found if match["part"] == "down"), default=-1)
    layers = 1 + max((int(match["layer"]) for match in found if match["part"] == "down"), default=-1)
    has_mid_block = any(match["part"] is None for match in found)
    expected = {f"down_blocks.{level}.motion_modules.{layer}" for level in range(levels) for layer in range(layers)}
    expected |= {f"up_blocks.{level}.motion_modules.{layer}" for level in range(levels) for layer in range(layers + 1)}
    expected |= {"mid_block.motion_modules.0"} if has_mid_block else set()
    if modules != expected or not levels:
        absent, spare = sorted(expected - modules), sorted(modules - expected)
        raise UnknownMotionModelFormat(
            "its motion modules do not form a whole motion model"
            + (f"; missing: {quote(absent)}" if absent else "")
            + (f"; not expected: {quote(spare)}" if spare else "")
            + ". The file is incomplete or of a kind that Loom does not recognise."
        )
    widths = tuple(_width(weights, f"down_blocks.{level}.motion_modules.0") for level in range(levels))
    max_frames = frames_of_tables(positions, widths)
    if not max_frames and not has_mid_block:
        wrong = "it has no position tables, without which frames have no order. The file is incomplete."
        raise UnknownMotionModelFormat(wrong)
    is_lcm = not max_frames or (layout is Layout.DIFFUSERS and has_mid_block and "lcm" in file_name.lower())
    family = Family.LCM if is_lcm else _family(levels, has_mid_block, max_frames)
    return MotionModelConfig(family, widths, layers, has_mid_block, max_frames or _COMPUTED_POSITIONS)


def frames_of_tables(positions: Mapping[str, Tensor], widths: tuple[int, ...]) -> int:
    """For how many frames position tables are, 0 without any; ``UnknownMotionModelFormat`` where their shapes are no such."""
    shapes = {tuple(table.shape) for table in positions.values()}
    lengths = {shape[1] if len(shape) == 3 and shape[0] == 1 and shape[2] in widths else 0 for shape in shapes}
    if len(lengths) > 1 or any(not 0 < length <= _MOST_POSITIONS for length in lengths):
        raise UnknownMotionModelFormat(
            f"its position tables have the shapes {quote(sorted(shapes))}; expected 1 x frames x channels, "
            f"with one number of frames, up to {_MOST_POSITIONS}, for all."
        )
    return lengths.pop() if lengths else 0


def _family(levels: int, has_mid_block: bool, max_frames: int) -> Family:
    if has_mid_block:
        return Family.LONG if max_frames > 32 else Family.V2
    if levels == SDXL_LEVELS:
        return Family.HOTSHOT if max_frames == 24 else Family.SDXL
    return Family.V1 if max_frames == 24 else Family.V3


def _width(weights: Mapping[str, Tensor], module: str) -> int:
    tensor = weights.get(f"{module}.temporal_transformer.proj_in.weight")
    if tensor is None or tensor.ndim != 2:
        raise UnknownMotionModelFormat(f"'{module}.temporal_transformer.proj_in.weight' is missing or not a matrix.")
    width = tensor.shape[0]
    if not width or width % _NORM_GROUPS:
        raise UnknownMotionModelFormat(f"'{module}' is {width} channels wide; expected a multiple of {_NORM_GROUPS}.")
    return width


@lru_cache(maxsize=16)
def expected_shapes(config: MotionModelConfig) -> Mapping[str, torch.Size]:
    """Names and shapes of a motion model's weights, from the network itself."""
    attention = torch.nn.functional.scaled_dot_product_attention  # which is not run
    model = MotionModel(config, operations=torch.nn, attention=attention, device="meta")
    return MappingProxyType({name: tensor.shape for name, tensor in model.state_dict().items()})


def check_shapes(config: MotionModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Check names, shapes and dtypes, as ``check_weights`` does."""
    shapes = expected_shapes(config)
    missing = sorted(shapes.keys() - weights.keys())
    spare = sorted(weights.keys() - shapes.keys())
    if missing or spare:
        raise MotionModelError(
            f"the file does not hold a whole {config.family.title} motion model"
            + (f"; {len(missing)} weights are missing: {quote(missing)}" if missing else "")
            + (f"; {len(spare)} are not expected: {quote(spare)}" if spare else "")
            + ". Download it again."
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise MotionModelError(
                f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(shape)} "
                f"for a {config.family.title} motion model. The file is damaged, or not what it seems."
            )
    check_dtypes(weights)


def check_dtypes(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``MotionModelError`` unless the dtypes are ``FLOATS``."""
    others = [name for name, tensor in tensors.items() if tensor.dtype not in FLOATS]
    if others:
        dtype = str(tensors[others[0]].dtype).removeprefix("torch.")
        raise MotionModelError(
            f"{quote(others)}: stored as {dtype}, so quantized or damaged. "
            "Use a file with float16, bfloat16, float32 or float8 numbers."
        )


def check_positions(positions: Mapping[str, Tensor]) -> None:
    """Raise ``MotionModelError`` unless tables are the formula that replaces them; those on the meta device pass."""
    check_dtypes(positions)
    real = {name: table for name, table in positions.items() if not table.is_meta}
    shapes = {table.shape for table in real.values()}
    formulas = {shape: sinusoidal_positions(torch.arange(shape[1]), shape[2])[None] for shape in shapes}
    for name, table in real.items():
        formula, table = formulas[table.shape], table.float()
        if not any(_is_rounded(table, formula, dtype) for dtype in FLOATS):
            raise UnknownMotionModelFormat(
                f"'{shorten(name)}' differs from AnimateDiff's sinusoidal positions by up to "
                f"{(table - formula).abs().max().item():.3g}. Loom computes positions by that formula and would not "
                "reproduce this file."
            )


def _is_rounded(table: Tensor, formula: Tensor, dtype: torch.dtype) -> bool:
    """Whether a table is the formula's as a dtype stores it: many a float32 file was a float16 file once."""
    info = torch.finfo(dtype)
    # Twice the rounding error, for it may have been rounded twice.
    tolerance = 1e-4 + info.eps / 2 * formula.abs().clamp(min=info.smallest_normal)
    return bool(torch.equal(table.to(dtype).float(), table) and ((table - formula).abs() <= tolerance).all())
