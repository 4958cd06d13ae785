"""The temporal transformer: what AnimateDiff puts behind each spatial layer so that frames see one another.

Source: Guo et al. 2023, arXiv:2307.04725, and the layout of its released checkpoints. Attribute names are the
checkpoint's keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .layers import FeedForward

NUM_ATTENTION_BLOCKS = 2
"""Temporal self-attention, twice, in every release."""


class TemporalAttention(nn.Module):
    """Self-attention over the frames of one pixel."""

    def __init__(self, channels: int, num_heads: int, *, operations: Any, attention: Callable, dtype=None, device=None):
        super().__init__()
        self.num_heads = num_heads
        self.attention = attention
        self.to_q = operations.Linear(channels, channels, bias=False, dtype=dtype, device=device)
        self.to_k = operations.Linear(channels, channels, bias=False, dtype=dtype, device=device)
        self.to_v = operations.Linear(channels, channels, bias=False, dtype=dtype, device=device)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels, dtype=dtype, device=device), nn.Identity()])

    def forward(self, x: Tensor, *, motion_scale: float | Tensor, transformer_options: dict[str, Any]) -> Tensor:
        """Attend over dim 1 of ``x``, ``(b n) f c``; ``motion_scale`` multiplies the keys."""
        k = self.to_k(x)
        if isinstance(motion_scale, Tensor) or motion_scale != 1.0:
            k = k * motion_scale
        x = self.attention(self.to_q(x), k, self.to_v(x), self.num_heads, transformer_options=transformer_options)
        return self.to_out[0](x)


class TemporalTransformerBlock(nn.Module):
    """Two temporal self-attentions and a feed-forward, each on normed tokens and added to the tokens."""

    def __init__(self, channels: int, num_heads: int, *, operations: Any, attention: Callable, dtype=None, device=None):
        super().__init__()
        made = {"operations": operations, "dtype": dtype, "device": device}
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, num_heads, attention=attention, **made) for _ in range(NUM_ATTENTION_BLOCKS)
        )
        self.norms = nn.ModuleList(
            operations.LayerNorm(channels, dtype=dtype, device=device) for _ in range(NUM_ATTENTION_BLOCKS)
        )
        self.ff = FeedForward(channels, **made)
        self.ff_norm = operations.LayerNorm(channels, dtype=dtype, device=device)

    def forward(
        self, x: Tensor, encoding: Tensor, *, motion_scale: float | Tensor, transformer_options: dict[str, Any]
    ) -> Tensor:
        """Map ``x``, ``(b n) f c``, to the same shape; ``encoding``, ``f c``, enters queries, keys and values alike."""
        for norm, attention in zip(self.norms, self.attention_blocks, strict=True):
            x = x + attention(
                norm(x) + encoding, motion_scale=motion_scale, transformer_options=transformer_options
            )
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nn.Module):
    """A transformer over the frames of each pixel, whose output is added to its input."""

    def __init__(self, channels: int, num_heads: int, *, operations: Any, attention: Callable, dtype=None, device=None):
        super().__init__()
        made = {"operations": operations, "dtype": dtype, "device": device}
        self.norm = operations.GroupNorm(num_groups=32, num_channels=channels, eps=1e-6, dtype=dtype, device=device)
        self.proj_in = operations.Linear(channels, channels, dtype=dtype, device=device)
        self.transformer_blocks = nn.ModuleList(
            [TemporalTransformerBlock(channels, num_heads, attention=attention, **made)]
        )
        self.proj_out = operations.Linear(channels, channels, dtype=dtype, device=device)

    def forward(
        self,
        hidden_states: Tensor,
        encoding: Tensor,
        *,
        motion_scale: float | Tensor = 1.0,
        strength: float | Tensor = 1.0,
        transformer_options: dict[str, Any] | None = None,
        block_tokens: int | None = None,
    ) -> Tensor:
        """Let the frames of each clip see one another.

        Only the group norm looks across pixels, and it looks at one frame at a time; all else concerns the frames of
        one pixel. So tokens stay in one layout, ``(b n) f c``, from the way in to the way out, and pixels can be
        taken in blocks without changing any number.

        Args:
            hidden_states: ``(b f) c h w`` UNet features, frames of one clip next to each other.
            encoding: ``f c`` position encodings; its first dimension tells f, which must divide ``b f``.
            motion_scale: multiplies the keys of the attention, more or less motion; a number or ``(f, h, w)``,
                where h and w may be 1.
            strength: 0 leaves the UNet's features unchanged, 1 is the trained motion; a number or ``(f, h, w)``.
            transformer_options: handed to the attention function unread.
            block_tokens: tokens to work on at a time, or None for all; on a CPU a block that fits the cache is faster.

        Returns:
            Same shape and dtype as ``hidden_states``.
        """
        f, c = encoding.shape
        n = hidden_states.shape[2] * hidden_states.shape[3]
        options = {} if transformer_options is None else transformer_options
        residual = _as_tokens(hidden_states, f)
        tokens = _as_tokens(self.norm(hidden_states), f)
        scale = _per_token(motion_scale, n)
        blend = _per_token(strength, n)

        out = torch.empty_like(hidden_states)
        out_tokens = _as_tokens(out, f)
        for block in _blocks(tokens.shape[0], n, f, block_tokens):
            x = tokens[block]
            y = self._forward_tokens(x.reshape(-1, f, c), encoding, _take(scale, block, x.shape[0]), options)
            y = y.view(x.shape)
            if isinstance(blend, Tensor) or blend != 1.0:
                y = y * (blend if not isinstance(blend, Tensor) else blend[:, block[1]])
            out_tokens[block] = residual[block] + y
        return out

    def _forward_tokens(
        self, x: Tensor, encoding: Tensor, motion_scale: float | Tensor, transformer_options: dict[str, Any]
    ) -> Tensor:
        x = self.proj_in(x)
        for block in self.transformer_blocks:
            x = block(x, encoding, motion_scale=motion_scale, transformer_options=transformer_options)
        return self.proj_out(x)


def _as_tokens(hidden_states: Tensor, num_frames: int) -> Tensor:
    """View ``(b f) c h w`` as ``b n f c``."""
    bf, c, h, w = hidden_states.shape
    return hidden_states.view(bf // num_frames, num_frames, c, h * w).permute(0, 3, 1, 2)


def _per_token(value: float | Tensor, num_pixels: int) -> float | Tensor:
    """Turn a value ``(f, h, w)`` into ``1 n f 1``, to go with tokens ``b n f c``; a number stays one."""
    if not isinstance(value, Tensor):
        return value
    return value.flatten(1).t()[None, :, :, None].expand(1, num_pixels, -1, 1)


def _take(value: float | Tensor, block: tuple[slice, slice], batch: int) -> float | Tensor:
    """Take a block's part of what ``_per_token`` gave, as ``(b n) f 1``."""
    if not isinstance(value, Tensor):
        return value
    return value[:, block[1]].expand(batch, -1, -1, -1).flatten(0, 1)


def _blocks(batch: int, num_pixels: int, num_frames: int, block_tokens: int | None) -> Iterator[tuple[slice, slice]]:
    """Yield slices of ``b n`` that hold about ``block_tokens`` tokens each and together cover all."""
    if block_tokens is None or batch * num_pixels * num_frames <= block_tokens:
        yield slice(None), slice(None)
        return
    step = max(1, block_tokens // num_frames)
    if step >= num_pixels:
        step //= num_pixels
        for start in range(0, batch, step):
            yield slice(start, start + step), slice(None)
        return
    # Even parts: a short last block would waste the matrix units.
    parts = -(-num_pixels // step)
    edges = [i * num_pixels // parts for i in range(parts + 1)]
    for i in range(batch):
        for start, stop in zip(edges, edges[1:], strict=False):
            yield slice(i, i + 1), slice(start, stop)
