"""The key layouts that LoRAs are stored in, and what a LoRA is in all of them: a low-rank addition to some weights.

Source: Hu et al. 2021, arXiv:2106.09685. The layouts are those of AnimateDiff's released motion LoRAs and its domain
adapter (attention processors), of ADMotionDirector, of diffusers and PEFT, and of kohya's scripts and A1111.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Size, Tensor

from .checkpoint import is_finite
from .companions.low_rank import LowRank
from .errors import IncompatibleMotionModel, MotionModelError
from .recognise import some

_KEY = re.compile(
    r"^(?P<path>.+?)(?:"
    r"[._]lora(?:_linear_layer)?[._](?:(?P<down>down|A)|(?P<up>up|B))(?:\.\w+)?\.weight"  # PEFT may name its adapter
    r"|(?:[._]lora)?\.(?P<alpha>alpha)"
    r")$"
)
_BLOCK = re.compile(r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)_")


def layer_path(name: str) -> str:
    """Name a layer as all layouts do once dots are underscores, prefixes are gone, and processors count as their layers."""
    path = name.replace(".", "_").replace("_processor_", "_")
    block = _BLOCK.search(path)
    return path[block.start() :] if block else path


def read_layers(
    tensors: Mapping[str, Tensor], weights: Mapping[str, str], shapes: Mapping[str, Size]
) -> tuple[dict[str, LowRank], list[str]]:
    """Pair a LoRA's matrices, and find the weights that they are for.

    Args:
        tensors: a file's.
        weights: names of the weights, by ``layer_path``.
        shapes: ``(out, in)`` of each weight.

    Returns:
        What is added to each weight, and the keys that belong to none of them.

    Raises:
        MotionModelError: half of a pair is missing or there twice, or values are not finite.
        IncompatibleMotionModel: shapes are not those of the weights.
    """
    found: dict[str, dict[str, str]] = {}
    others = []
    for key in tensors:
        match = _KEY.match(key)
        weight = weights.get(layer_path(match["path"])) if match else None
        if match is None or weight is None:
            others.append(key)
            continue
        keys = found.setdefault(weight, {})
        part = next(part for part, text in match.groupdict().items() if part != "path" and text)
        if part in keys:
            raise MotionModelError(f"'{keys[part]}' and '{key}' are for the same weight. Save just one LoRA to a file.")
        keys[part] = key
    return {weight: _layer(tensors, keys, weight, shapes[weight]) for weight, keys in found.items()}, others


def _layer(tensors: Mapping[str, Tensor], keys: Mapping[str, str], weight: str, shape: Size) -> LowRank:
    missing = {"down", "up"} - keys.keys()
    if missing:
        raise MotionModelError(
            f"'{next(iter(keys.values()))}' lacks its other half, the {missing.pop()} matrix. The file is incomplete: "
            "download it again."
        )
    down, up = tensors[keys["down"]], tensors[keys["up"]]
    if down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0] or (up.shape[0], down.shape[1]) != tuple(shape):
        raise IncompatibleMotionModel(
            f"'{keys['up']}' and '{keys['down']}' have shapes {tuple(up.shape)} and {tuple(down.shape)}, but the weight "
            f"that they are for is {tuple(shape)}. It was made for another base model: take one that was made for this one."
        )
    damaged = [key for key in keys.values() if not is_finite(tensors[key])]
    if damaged:
        raise MotionModelError(
            f"{some(damaged)} hold NaN or infinity. The file is damaged, or its training went wrong; it would only give "
            "black frames."
        )
    alpha = tensors[keys["alpha"]] if "alpha" in keys else None
    if alpha is not None and alpha.numel() != 1:
        raise MotionModelError(f"'{keys['alpha']}' has {alpha.numel()} values, expected one. The file is damaged.")
    return LowRank(down, up, None if alpha is None else alpha.item())
