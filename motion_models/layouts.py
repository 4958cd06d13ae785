"""The key layouts that motion models are stored in, and the one that Loom works in.

That is AnimateDiff's own (``down_blocks.0.motion_modules.0.temporal_transformer. ...``) without the stored position
tables, which are a formula (``layers.sinusoidal_positions``). Sources: AnimateDiff's released files; HotshotXL's
``hsxl_temporal_layers``; diffusers' ``convert_animatediff_motion_module_to_diffusers.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

import torch
from torch import Tensor

from .config import MotionModelConfig
from .errors import MotionModelError, quote
from .layers import sinusoidal_positions


class Layout(Enum):
    """How a file names its weights, by the title that users know."""

    ANIMATEDIFF = "AnimateDiff"
    HOTSHOT = "HotshotXL"
    DIFFUSERS = "Diffusers MotionAdapter"


_BLOCK = r"(?:(?:down|up)_blocks\.[0-9]|mid_block)"  # one digit: what is made for each number must stay little
_MOTION_KEY = re.compile(
    rf"^(?P<prefix>.*?)(?P<module>{_BLOCK}\.(?P<list>motion_modules|temporal_attentions)\.[0-9])\.(?P<rest>.+)$"
)
_TRANSFORMER = "temporal_transformer."
_DIFFUSERS_PARTS = ("norm.", "proj_in.", "proj_out.", "transformer_blocks.")
_NAMES: dict[Layout, dict[str, str]] = {
    Layout.ANIMATEDIFF: {},
    Layout.HOTSHOT: {
        ".temporal_attentions.": ".motion_modules.", "pos_encoder.positional_encoding": "pos_encoder.pe",
    },
    Layout.DIFFUSERS: {
        ".attn1.": ".attention_blocks.0.", ".attn2.": ".attention_blocks.1.",
        ".norm1.": ".norms.0.", ".norm2.": ".norms.1.", ".norm3.": ".ff_norm.",
    },
}  # fmt: skip
"""Parts of names, and what they are in the one layout, which alone has ``temporal_transformer.``, too."""
_POSITIONS = re.compile(r"\.(?:attention_blocks\.[01]\.pos_encoder\.pe|pos_embed\.pe)$")


def motion_weights(tensors: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor], dict[str, Tensor]]:
    """Pick out a file's motion modules: its layout, and in the one layout weights and ``(1, max_frames, c)`` positions.

    Keys of other things are left out, as is what stands before a key (``module.``, ``unet.``). Raises a
    ``MotionModelError`` where the file holds several sets of motion modules, or one in several layouts.
    """
    weights: dict[str, Tensor] = {}
    positions: dict[str, Tensor] = {}
    prefixes: set[str] = set()
    layouts: set[Layout] = set()
    for name, tensor in tensors.items():
        match = _MOTION_KEY.match(name)
        if match and (layout := _layout_of(match)):
            prefixes.add(match["prefix"])
            layouts.add(layout)
            key = f"{match['module']}.{'' if layout is Layout.ANIMATEDIFF else _TRANSFORMER}{match['rest']}"
            for theirs, ours in _NAMES[layout].items():
                key = key.replace(theirs, ours)
            (positions if _POSITIONS.search(key) else weights)[key] = tensor
    sets = sorted(prefixes) if len(prefixes) > 1 else sorted(layout.value for layout in layouts)
    if len(sets) > 1:
        raise MotionModelError(
            f"the file holds {len(sets)} sets of motion modules, under {quote(sets)}. "
            "Save just one of them to a file of its own."
        )
    return (layouts.pop() if layouts else Layout.ANIMATEDIFF), weights, positions


def _layout_of(match: re.Match[str]) -> Layout | None:
    if match["list"] == "temporal_attentions":
        return Layout.HOTSHOT
    if match["rest"].startswith(_TRANSFORMER):
        return Layout.ANIMATEDIFF
    return Layout.DIFFUSERS if match["rest"].startswith(_DIFFUSERS_PARTS) else None


def to_layout(
    config: MotionModelConfig, weights: Mapping[str, Tensor], layout: Layout = Layout.ANIMATEDIFF
) -> dict[str, Tensor]:
    """Name weights of the one layout as files of another do, with the position tables that these have.

    AnimateLCM's have none, as released, but in the diffusers layout.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stored[layout_name(name, layout)] = tensor
        if layout is Layout.DIFFUSERS:
            if name.endswith(".attention_blocks.0.to_q.weight"):
                table_name = layout_name(name, layout).replace(".attn1.to_q.weight", ".pos_embed.pe")
                stored[table_name] = _positions(config, tensor)
        elif name.endswith(".to_q.weight") and config.family.stores_positions:
            stored[layout_name(name.replace(".to_q.weight", ".pos_encoder.pe"), layout)] = _positions(config, tensor)
    return stored


def layout_name(name: str, layout: Layout) -> str:
    """Name a weight of the one layout as files of another do."""
    if layout is not Layout.ANIMATEDIFF:
        name = name.replace(f".{_TRANSFORMER}", ".")
    for theirs, ours in _NAMES[layout].items():
        name = name.replace(ours, theirs)
    return name


def _positions(config: MotionModelConfig, like: Tensor) -> Tensor:
    table = sinusoidal_positions(torch.arange(config.max_frames), like.shape[0])
    # Eight-bit floats would round the table to a quarter; formats that store weights so keep tables in half precision.
    dtype = like.dtype if like.element_size() > 1 else torch.float16
    return table[None].to(dtype)
