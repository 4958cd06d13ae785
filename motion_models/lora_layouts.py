"""The key layouts and kinds of LoRAs: what a file of any of them adds to some weights.

Sources: Hu et al. 2021, arXiv:2106.09685; LoHa, LoKr and their keys: Yeh et al. 2023, arXiv:2309.14859, and LyCORIS; DoRA:
Liu et al. 2024, arXiv:2402.09353. The layouts are those of AnimateDiff's released motion LoRAs and its domain adapter
(attention processors), of ADMotionDirector, of diffusers and PEFT, and of kohya's scripts, LyCORIS and A1111.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Size, Tensor

from .checkpoint import check_finite
from .companions.low_rank import LowRank
from .errors import IncompatibleMotionModel, MotionModelError, UnknownMotionModelFormat, quote
from .recognise import FLOATS, check_dtypes

_PARTS = {
    "down": r"[._]lora(?:_linear_layer)?[._](?:down|A)(?:(?:\.\w+)?\.weight)?",  # PEFT may name its adapter
    "up": r"[._]lora(?:_linear_layer)?[._](?:up|B)(?:(?:\.\w+)?\.weight)?",
    "alpha": r"(?:[._]lora)?\.alpha",
    "magnitude": r"\.(?:dora_scale|lora_magnitude_vector(?:\.\w+)*)",
    **{name: rf"\.{name}" for kind in ("hada", "lokr") for name in (f"{kind}_w{i}_{side}" for i in "12" for side in "ab")},
    **{name: rf"\.{name}" for name in ("lokr_w1", "lokr_w2")},
}
_KEY = re.compile(rf"^(?P<path>.+?)(?:{'|'.join(f'(?P<{part}>{text})' for part, text in _PARTS.items())})$")
_BLOCK = re.compile(r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)_")

_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_TUCKER = "a LoRA of convolutions in Tucker form"
_UNSUPPORTED = {
    _TUCKER: ("lora_mid", "hada_t", "lokr_t"),
    "an OFT": ("oft_blocks", "oft_diag", ".oft_"),
    "a GLoRA": (".a1.weight", ".b1.weight"),
    "an IA3": (".on_input",),
    "a difference of whole weights": (".diff", ".diff_b", ".w_norm", ".b_norm", ".set_weight"),
}
"""Kinds of LoRAs that are not read, told by the keys that no other kind has."""


@dataclass(frozen=True)
class OtherAddition:
    """What a file adds to one weight ``(out, in)`` otherwise than as ``up @ down``: it can be merged, but not run beside.

    Attributes:
        kind: ``LoHa``, ``LoKr`` or ``DoRA``.
        parts: by LyCORIS's names: ``hada_w1_a`` and so on.
        low_rank: of a DoRA of low rank.
        alpha: None where a file has none.
        magnitude: of a DoRA, ``(out, 1)`` or ``(1, in)``: the lengths of the rows or columns of the changed weight.
    """

    kind: str
    parts: Mapping[str, Tensor]
    low_rank: LowRank | None
    alpha: float | None
    magnitude: Tensor | None


Addition = LowRank | OtherAddition


def layer_path(name: str) -> str:
    """Name a layer as all layouts do once dots are underscores, prefixes are gone, and processors count as their layers."""
    path = name.replace(".", "_").replace("_processor_", "_")
    block = _BLOCK.search(path)
    return path[block.start() :] if block else path


def refuse_unsupported(left_out: Iterable[str], layers: Mapping[str, Addition]) -> None:
    """Name the kind of a LoRA that cannot be read, by the keys that were left out and what was found besides.

    Raises:
        UnknownMotionModelFormat: nothing was found, or what was left out belongs to it.
    """
    keys = list(left_out)
    kind = next((kind for kind, marks in _UNSUPPORTED.items() if any(mark in key for key in keys for mark in marks)), None)
    if kind is not None and (kind == _TUCKER or not layers):
        raise UnknownMotionModelFormat(
            f"it is {kind}, which is not supported: {quote(keys[:1])}. Take one that was trained as LoRA, LoHa, LoKr or DoRA."
        )


def alpha_of_metadata(metadata: Mapping[str, str]) -> float | None:
    """PEFT's ``lora_alpha``, which diffusers writes into the metadata of files whose keys have no alpha."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        return next((float(value) for key, value in settings.items() if re.fullmatch(r"(?:unet\.)?lora_alpha", key)), None)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def read_layers(
    tensors: Mapping[str, Tensor], weights: Mapping[str, str], shapes: Mapping[str, Size], alpha: float | None = None
) -> tuple[dict[str, Addition], list[str]]:
    """Put a LoRA's matrices together, and find the weights that they are for.

    Args:
        tensors: a file's.
        weights: names of the weights, by ``layer_path``.
        shapes: ``(out, in)`` of each weight.
        alpha: where the file has none.

    Returns:
        What is added to each weight, and the keys that belong to none of them.

    Raises:
        MotionModelError: a part of an addition is missing or there twice, or values are no finite numbers.
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
        part = next(part for part in _PARTS if match[part])
        if part in keys:
            raise MotionModelError(f"{quote((keys[part], key))} are for the same weight. Save just one LoRA to a file.")
        keys[part] = key
    return {weight: _addition(tensors, keys, shapes[weight], alpha) for weight, keys in found.items()}, others


def _addition(tensors: Mapping[str, Tensor], keys: Mapping[str, str], shape: Size, alpha: float | None) -> Addition:
    parts = {part: _as_matrix(tensors[key]) for part, key in keys.items() if part not in ("alpha", "magnitude")}
    _check_whole(keys, parts)
    if _shape_of(parts) != tuple(shape):
        names = sorted(parts, reverse=True)
        sizes = " and ".join(str(tuple(parts[part].shape)) for part in names)
        raise IncompatibleMotionModel(
            f"{quote(keys[part] for part in names)} have shapes {sizes}, but the weight that they are for is {tuple(shape)}. It "
            "was made for another base model: take one that was made for this one."
        )
    check_dtypes({key: tensors[key] for part, key in keys.items() if part != "alpha"})
    alpha = _alpha(keys["alpha"], tensors[keys["alpha"]]) if "alpha" in keys else alpha
    check_finite({key: tensors[key] for key in keys.values()})
    magnitude = _magnitude(keys["magnitude"], tensors[keys["magnitude"]], shape) if "magnitude" in keys else None
    low_rank = LowRank(parts["down"], parts["up"], alpha) if "down" in parts else None
    if low_rank is not None and magnitude is None:
        return low_rank
    kind = "DoRA" if magnitude is not None else "LoHa" if "hada_w1_a" in parts else "LoKr"
    return OtherAddition(kind, parts, low_rank, alpha, magnitude)


def _as_matrix(tensor: Tensor) -> Tensor:
    """Matrices are stored as 1 x 1 convolutions, too."""
    return tensor.reshape(tensor.shape[:2]) if tensor.ndim > 2 and tensor.shape[2:].numel() == 1 else tensor


def _check_whole(keys: Mapping[str, str], parts: Mapping[str, Tensor]) -> None:
    if any(part.startswith("hada") for part in parts):
        needed = set(_LOHA)
    elif any(part.startswith("lokr") for part in parts):
        halves = [{f"lokr_w{i}"} if f"lokr_w{i}" in parts else {f"lokr_w{i}_a", f"lokr_w{i}_b"} for i in "12"]
        needed = set.union(*halves)
    else:
        needed = {"down", "up"}
    missing = sorted(needed - parts.keys())
    if missing:
        raise MotionModelError(
            f"{quote(list(keys.values())[:1])} lacks its other half, the {missing[0]} matrix. The file is incomplete: download "
            "it again."
        )
    empty = [keys[part] for part, matrix in parts.items() if not matrix.numel()]
    if empty:
        raise MotionModelError(f"{quote(empty)} have no numbers in them. The file is damaged, or its training went wrong.")


def _shape_of(parts: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Shape of what matrices that belong together make; None if they don't go together."""
    if any(part.ndim != 2 for part in parts.values()):
        return None
    if "down" in parts:
        return _shape_of_product(parts["up"], parts["down"])
    kind = "hada" if "hada_w1_a" in parts else "lokr"
    one, other = (
        _shape_of_product(parts.get(f"{kind}_w{i}"), parts.get(f"{kind}_w{i}_a"), parts.get(f"{kind}_w{i}_b")) for i in "12"
    )
    if kind == "hada":
        return one if one == other else None
    return (one[0] * other[0], one[1] * other[1]) if one and other else None


def _shape_of_product(*factors: Tensor | None) -> tuple[int, int] | None:
    shapes = [factor.shape for factor in factors if factor is not None]
    fits = all(one[1] == other[0] for one, other in pairwise(shapes))
    return (shapes[0][0], shapes[-1][1]) if fits else None


def _alpha(key: str, alpha: Tensor) -> float:
    if alpha.numel() != 1 or alpha.dtype not in (*FLOATS, torch.int64, torch.int32):
        raise MotionModelError(
            f"{quote([key])} has {alpha.numel()} values of {str(alpha.dtype).removeprefix('torch.')}, expected one number. The "
            "file is damaged."
        )
    return float(alpha.item())


def _magnitude(key: str, magnitude: Tensor, shape: Size) -> Tensor:
    if magnitude.numel() == shape[1] and magnitude.shape[0] == 1:
        return magnitude.reshape(1, -1)
    if magnitude.numel() == shape[0]:
        return magnitude.reshape(-1, 1)
    raise IncompatibleMotionModel(
        f"{quote([key])} has shape {tuple(magnitude.shape)}, which does not fit the weight's {tuple(shape)}. Take a file that "
        "was made for this base model."
    )
