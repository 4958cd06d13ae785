"""The key layouts and kinds of LoRAs: what a file of any of them adds to some weights.

Sources: Hu et al. 2021, arXiv:2106.09685; LoHa, LoKr and their keys: Yeh et al. 2023, arXiv:2309.14859, and LyCORIS;
DoRA: Liu et al. 2024, arXiv:2402.09353. The layouts are those of AnimateDiff's released motion LoRAs and its domain
adapter (attention processors), ADMotionDirector, diffusers and PEFT, kohya's scripts, LyCORIS and A1111.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    **{name: rf"\.{name}" for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{name: rf"\.{name}" for name in ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_w1", "lokr_w2")},
}
_KEY = re.compile(rf"^(?P<path>.+?)(?:{'|'.join(f'(?P<{part}>{text})' for part, text in _PARTS.items())})$")
_BLOCK = re.compile(r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)_")

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
class MergedAddition:
    """What a file adds to one weight ``(out, in)`` otherwise than as ``up @ down``, so that it can only be merged.

    A ``LoRA`` is one product of matrices, a ``LoHa`` two, multiplied number by number, a ``LoKr`` their Kronecker
    product. A DoRA's ``magnitude`` is the length that each row ``(out, 1)`` or column ``(1, in)`` gets.
    """

    kind: str
    products: tuple[tuple[Tensor, ...], ...]
    alpha: float | None
    magnitude: Tensor | None

    @property
    def title(self) -> str:
        return self.kind if self.magnitude is None else "DoRA"


Addition = LowRank | MergedAddition


def layer_path(name: str) -> str:
    """Name a layer as all layouts do once dots are underscores, prefixes are gone, and processors are their layers."""
    path = name.replace(".", "_").replace("_processor_", "_")
    block = _BLOCK.search(path)
    return path[block.start() :] if block else path


def refuse_unsupported(left_out: Iterable[str], layers: Mapping[str, Addition]) -> None:
    """Raise an error that names the kind of a LoRA that ``read_layers`` cannot read, by the keys it left out."""
    keys = list(left_out)
    for kind, marks in _UNSUPPORTED.items():
        if any(mark in key for key in keys for mark in marks) and (kind == _TUCKER or not layers):
            raise UnknownMotionModelFormat(
                f"it is {kind}, which is not supported: {quote(keys[:1])}. "
                "Use one that was trained as LoRA, LoHa, LoKr or DoRA."
            )


def alpha_of_metadata(metadata: Mapping[str, str]) -> float | None:
    """PEFT's ``lora_alpha`` (``UnknownMotionModelFormat`` if it is not all that scales), which diffusers writes into the metadata of files whose keys have no alpha."""
    try:
        packed = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        settings = {key.removeprefix("unet."): value for key, value in packed.items()}
        alpha = float(settings["lora_alpha"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    for name in ("use_rslora", "alpha_pattern"):
        if settings.get(name):
            wrong = f"its metadata asks for {name}, another scale for each layer, which is not supported."
            raise UnknownMotionModelFormat(f"{wrong} Use one that was trained without.")
    return alpha if math.isfinite(alpha) else None


def read_layers(
    tensors: Mapping[str, Tensor], weights: Mapping[str, str], shapes: Mapping[str, Size], alpha: float | None = None
) -> tuple[dict[str, Addition], list[str]]:
    """Find what a file adds to each of ``weights``, given by ``layer_path``, and the keys that are for none of them.

    ``alpha`` is for a file that has none. Raises ``IncompatibleMotionModel`` where shapes are not those of the weights,
    and ``MotionModelError`` where a part is missing or there twice, or values are no finite numbers.
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
    kind, names = _products(keys)
    missing = [name for product in names for name in product if name not in keys]
    if missing:
        raise MotionModelError(
            f"{quote(list(keys.values())[:1])} has no matching {missing[0]} matrix. "
            "The file is incomplete: download it again."
        )
    products = tuple(tuple(_as_matrix(tensors[keys[name]]) for name in product) for product in names)
    if not all(matrix.numel() for product in products for matrix in product):
        raise MotionModelError(
            f"{quote(keys.values())} have no values. The file is damaged, or its training went wrong."
        )
    if _shape_of(kind, products) != tuple(shape):
        sizes = " and ".join(str(tuple(matrix.shape)) for product in products for matrix in product)
        raise IncompatibleMotionModel(
            f"{quote(keys[name] for product in names for name in product)} have shapes {sizes}, "
            f"but the weight that they are for is {tuple(shape)}. "
            "It was made for another base model: take one that was made for this one."
        )
    check_dtypes({key: tensors[key] for part, key in keys.items() if part != "alpha"})
    alpha = _alpha(keys["alpha"], tensors[keys["alpha"]]) if "alpha" in keys else alpha
    check_finite({key: tensors[key] for key in keys.values()})
    if kind == "LoRA" and "magnitude" not in keys:
        ((up, down),) = products
        return LowRank(down, up, alpha)
    magnitude = _magnitude(keys["magnitude"], tensors[keys["magnitude"]], shape) if "magnitude" in keys else None
    return MergedAddition(kind, products, alpha, magnitude)


def _products(parts: Collection[str]) -> tuple[str, Sequence[tuple[str, ...]]]:
    """The kind of an addition, and which of its parts are multiplied with each other."""
    if any(part.startswith("hada") for part in parts):
        return "LoHa", [("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b")]
    if any(part.startswith("lokr") for part in parts):
        return "LoKr", [(w,) if w in parts else (f"{w}_a", f"{w}_b") for w in ("lokr_w1", "lokr_w2")]
    return "LoRA", [("up", "down")]


def _as_matrix(tensor: Tensor) -> Tensor:
    """Matrices are stored as 1 x 1 convolutions, too."""
    return tensor.reshape(tensor.shape[:2]) if tensor.ndim > 2 and tensor.shape[2:].numel() == 1 else tensor


def _shape_of(kind: str, products: tuple[tuple[Tensor, ...], ...]) -> tuple[int, int] | None:
    """Shape of what matrices make; None if they cannot be multiplied."""
    shapes = []
    for product in products:
        if any(matrix.ndim != 2 for matrix in product) or any(a.shape[1] != b.shape[0] for a, b in pairwise(product)):
            return None
        shapes.append((product[0].shape[0], product[-1].shape[1]))
    if kind == "LoKr":
        (a, b), (c, d) = shapes
        return a * c, b * d
    return shapes[0] if len(set(shapes)) == 1 else None


def _alpha(key: str, alpha: Tensor) -> float:
    if alpha.numel() != 1 or alpha.dtype not in (*FLOATS, torch.int64, torch.int32):
        raise MotionModelError(
            f"{quote([key])} has {alpha.numel()} values of {str(alpha.dtype).removeprefix('torch.')}, expected one "
            "number. The file is damaged."
        )
    return float(alpha.item())


def _magnitude(key: str, magnitude: Tensor, shape: Size) -> Tensor:
    if magnitude.numel() == shape[1] and magnitude.shape[0] == 1:
        return magnitude.reshape(1, -1)
    if magnitude.numel() == shape[0]:
        return magnitude.reshape(-1, 1)
    raise IncompatibleMotionModel(
        f"{quote([key])} has shape {tuple(magnitude.shape)}, which does not fit the weight's {tuple(shape)}. "
        "Take a file that was made for this base model."
    )
