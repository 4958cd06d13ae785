"""Embeddings of prompts, blended for each frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from .schedule import ScheduleError

_MOST_REPEATS = 4  # as ComfyUI repeats the tokens of the shorter of two prompts
_NEARLY_PARALLEL = 0.9995


class Interpolation(Enum):
    """How two embeddings are blended."""

    LINEAR = "linear"
    SLERP = "slerp"


class Padding(Enum):
    """How embeddings get a common number of tokens."""

    REPEAT = "repeat"
    ZEROS = "zeros"


def match_lengths(embeddings: Sequence[Tensor], padding: Padding = Padding.REPEAT) -> list[Tensor]:
    """Repeat the tokens of embeddings ``(b, tokens, d)`` to a common number, or raise ScheduleError.

    Attention to every token twice is attention to each once, where zeros would take from a prompt's weight. ComfyUI's
    ``CONDCrossAttn.concat`` does the same. ``Padding.ZEROS`` puts zeros on both sides instead, as FizzNodes does.
    """
    lengths = {embedding.shape[1] for embedding in embeddings}
    if padding is Padding.ZEROS:
        return [_centred(embedding, max(lengths)) for embedding in embeddings]
    common = math.lcm(*lengths)
    if common > _MOST_REPEATS * max(lengths):
        numbers = ", ".join(map(str, sorted(lengths)))
        raise ScheduleError(f"Prompts of {numbers} tokens cannot be blended. Make their lengths more similar.")
    return [embedding.repeat(1, common // embedding.shape[1], 1) for embedding in embeddings]


def _centred(embedding: Tensor, length: int) -> Tensor:
    missing = length - embedding.shape[1]
    return torch.nn.functional.pad(embedding, (0, 0, missing // 2, missing - missing // 2))


def blend(
    embeddings: Sequence[Tensor], firsts: Sequence[int], seconds: Sequence[int], shares: Sequence[float], how: Interpolation
) -> Tensor:
    """Blend two of the embeddings ``(1, ..., d)`` for each frame, by their numbers, to ``(f, ..., d)``.

    ``shares`` are the weights of the second, 0 to 1. At 0 and 1 the result is the one embedding, bit for bit.
    """
    stacked = torch.cat(list(embeddings))
    a, b = stacked[list(firsts)], stacked[list(seconds)]
    share = torch.tensor(shares, dtype=torch.float32, device=a.device).view(-1, *[1] * (a.ndim - 1))
    return torch.lerp(a, b, share.to(a.dtype)) if how is Interpolation.LINEAR else _slerp(a, b, share)


def _slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Turn each vector of ``a`` towards that of ``b``, along the last axis; Shoemake 1985, Animating Rotation.

    Vectors that are nearly parallel or opposite are blended linearly.
    """
    dot = torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=-1).unsqueeze(-1)
    linear = dot.abs() > _NEARLY_PARALLEL
    angle = dot.masked_fill(linear, 0.0).acos()  # that of the linear ones is not used
    turned = (a * ((1 - share) * angle).sin() + b * (share * angle).sin()) / angle.sin()
    ends = (share == 0) | (share == 1)
    return torch.where(linear | ends, torch.lerp(a.float(), b.float(), share), turned).to(a.dtype)
