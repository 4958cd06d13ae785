"""The key layouts that motion models are stored in, and the one that Loom works in.

The one layout is AnimateDiff's own (``down_blocks.0.motion_modules.0.temporal_transformer. ...``) without the stored
position tables, which are a formula (``layers.sinusoidal_positions``). Sources: AnimateDiff's released files; HotshotXL's
``hsxl_temporal_layers``; diffusers' ``convert_animatediff_motion_module_to_diffusers.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

import torch
from torch import Tensor

from .config import Family, MotionModelConfig
from .errors import MotionModelError, quote
from .layers import sinusoidal_positions


class Layout(Enum):
    """How a file names its weights, by the title that users know."""

    ANIMATEDIFF = "AnimateDiff"
    HOTSHOT = "HotshotXL"
    DIFFUSERS = "Diffusers MotionAdapter"

    @property
    def title(self) -> str:
        return self.value


_BLOCK = r"(?:(?:down|up)_blocks\.[0-9]|mid_block)"  # one digit: what is made for each number must stay little
_MOTION_KEY = re.compile(
    rf"^(?P<prefix>.*?)(?P<module>{_BLOCK}\.(?P<list>motion_modules|temporal_attentions)\.[0-9])\.(?P<rest>.+)$"
)
_TRANSFORMER = "temporal_transformer."
_DIFFUSERS_PARTS = ("norm.", "proj_in.", "proj_out.", "transformer_blocks.")
_DIFFUSERS_NAMES = (
    (".attn1.", ".attention_blocks.0."),
    (".attn2.", ".attention_blocks.1."),
    (".norm1.", ".norms.0."),
    (".norm2.", ".norms.1."),
    (".norm3.", ".ff_norm."),
)
_POSITIONS = re.compile(r"\.(?:attention_blocks\.[01]\.pos_encoder\.pe|pos_embed\.pe)$")


def motion_weights(tensors: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor], dict[str, Tensor]]:
    """Pick out the motion modules' entries, under the one layout's names.

    Args:
        tensors: a file's; keys of other things are left out, as is what stands before a key (``module.``, ``unet.``).

    Returns:
        The file's layout, the weights, and the position tables, ``(1, max_frames, c)`` each.

    Raises:
        MotionModelError: the file holds several sets of motion modules, or one in several layouts.
    """
    weights: dict[str, Tensor] = {}
    positions: dict[str, Tensor] = {}
    prefixes: set[str] = set()
    layouts: set[Layout] = set()
    for name, tensor in tensors.items():
        match = _MOTION_KEY.match(name)
        layout = _layout_of(match) if match else None
        if match is None or layout is None:
            continue
        prefixes.add(match["prefix"])
        layouts.add(layout)
        key = _to_one_name(match, layout)
        (positions if _POSITIONS.search(key) else weights)[key] = tensor
    if len(prefixes) > 1 or len(layouts) > 1:
        sets = sorted(prefixes) if len(prefixes) > 1 else sorted(layout.title for layout in layouts)
        raise MotionModelError(
            f"the file holds {len(sets)} sets of motion modules, under {quote(sets)}. Save just one of them to a file of its "
            "own."
        )
    return (layouts.pop() if layouts else Layout.ANIMATEDIFF), weights, positions


def _layout_of(match: re.Match[str]) -> Layout | None:
    if match["list"] == "temporal_attentions":
        return Layout.HOTSHOT
    if match["rest"].startswith(_TRANSFORMER):
        return Layout.ANIMATEDIFF
    return Layout.DIFFUSERS if match["rest"].startswith(_DIFFUSERS_PARTS) else None


def _to_one_name(match: re.Match[str], layout: Layout) -> str:
    module, rest = match["module"], match["rest"]
    if layout is Layout.HOTSHOT:
        module = module.replace("temporal_attentions", "motion_modules")
        rest = _TRANSFORMER + rest.replace("pos_encoder.positional_encoding", "pos_encoder.pe")
    elif layout is Layout.DIFFUSERS:
        for theirs, ours in _DIFFUSERS_NAMES:
            rest = rest.replace(theirs, ours)
        rest = _TRANSFORMER + rest
    return f"{module}.{rest}"


def to_layout(
    config: MotionModelConfig, weights: Mapping[str, Tensor], layout: Layout = Layout.ANIMATEDIFF
) -> dict[str, Tensor]:
    """Name a motion model's weights as other programs do, with the position tables that they expect.

    Args:
        config: of the motion model.
        weights: in the one layout.
        layout: the one to write.

    Returns:
        What a file holds. AnimateLCM's has no position tables, as released, but in the diffusers layout.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stored[layout_name(name, layout)] = tensor
        if layout is Layout.DIFFUSERS:
            if name.endswith(".attention_blocks.0.to_q.weight"):
                table = _positions(config, tensor)
                stored[layout_name(name, layout).replace(".attn1.to_q.weight", ".pos_embed.pe")] = table
        elif name.endswith(".to_q.weight") and config.family is not Family.LCM:
            stored[layout_name(name.replace(".to_q.weight", ".pos_encoder.pe"), layout)] = _positions(config, tensor)
    return stored


def layout_name(name: str, layout: Layout) -> str:
    """Name a weight as files of a layout do."""
    if layout is Layout.HOTSHOT:
        name = name.replace(".motion_modules.", ".temporal_attentions.").replace(f".{_TRANSFORMER}", ".")
        return name.replace("pos_encoder.pe", "pos_encoder.positional_encoding")
    if layout is Layout.DIFFUSERS:
        name = name.replace(f".{_TRANSFORMER}", ".")
        for theirs, ours in _DIFFUSERS_NAMES:
            name = name.replace(ours, theirs)
    return name


def _positions(config: MotionModelConfig, like: Tensor) -> Tensor:
    table = sinusoidal_positions(torch.arange(config.max_frames), like.shape[0])
    # Eight-bit floats would round the table to a quarter; formats that store weights so keep tables in half precision.
    dtype = like.dtype if like.element_size() > 1 else torch.float16
    return table[None].to(dtype)
