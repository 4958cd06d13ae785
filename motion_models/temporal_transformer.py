"""The temporal transformer: what AnimateDiff puts behind each spatial layer so that frames see one another.

Source: Guo et al. 2023, arXiv:2307.04725, and the layout of its released checkpoints. Attribute names are the
checkpoint's keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import FeedForward
from .low_rank import SideBranches, linear
from .views import Views, Window

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

    def forward(
        self,
        x: Tensor,
        *,
        motion_scale: float | Tensor,
        side_branches: Sequence[SideBranches] = (),
        transformer_options: dict[str, Any],
    ) -> Tensor:
        """Attend over dim 1 of ``x``, ``(b n) f c``; ``motion_scale`` multiplies the keys."""
        k = linear(self.to_k, x, side_branches)
        if isinstance(motion_scale, Tensor) or motion_scale != 1.0:
            k = k * motion_scale
        q, v = linear(self.to_q, x, side_branches), linear(self.to_v, x, side_branches)
        x = self.attention(q, k, v, self.num_heads, transformer_options=transformer_options)
        return linear(self.to_out[0], x, side_branches)


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
        self,
        x: Tensor,
        encoding: Tensor,
        *,
        motion_scale: float | Tensor,
        side_branches: Sequence[SideBranches],
        transformer_options: dict[str, Any],
        views: Views | None = None,
    ) -> Tensor:
        """Map ``x``, ``(b n) f c``, to the same shape; ``encoding``, ``f c``, enters queries, keys and values alike.

        With ``views``, f of ``encoding`` is that of a view, or that of all frames. Both attentions run over a view's frames,
        and what comes out of all views is summed by their weights.
        """
        if views is None:
            x = self._attend(x, encoding, motion_scale, side_branches, transformer_options)
        else:
            fused = torch.zeros_like(x)
            for view in views.windows:
                part = self._attend(
                    view.take(x, 1),
                    encoding if len(encoding) == len(view.frames) else view.take(encoding, 0),
                    _take_frames(motion_scale, view),
                    [side.with_strength(_take_frames(side.strength, view)) for side in side_branches],
                    transformer_options,
                )
                view.add_to(fused, part * view.weights[:, None].to(part.dtype), 1)
            x = fused
        return self.ff(self.ff_norm(x), side_branches).add_(x)

    def _attend(
        self,
        x: Tensor,
        encoding: Tensor,
        motion_scale: float | Tensor,
        side_branches: Sequence[SideBranches],
        transformer_options: dict[str, Any],
    ) -> Tensor:
        # Added in place only to what a norm or a linear layer has just made: no gradient needs that.
        for norm, attention in zip(self.norms, self.attention_blocks, strict=True):
            x = attention(
                norm(x).add_(encoding),
                motion_scale=motion_scale,
                side_branches=side_branches,
                transformer_options=transformer_options,
            ).add_(x)
        return x


class TemporalTransformer(nn.Module):
    """A transformer over the frames of each pixel, whose output is added to its input.

    Args:
        channels: c.
        num_heads: of the attention.
        operations: see ``MotionModel``.
        attention: see ``MotionModel``.
        norm_over_frames: whether the group norm's statistics are those of all frames of a clip, or each frame's own.
        dtype: of the weights.
        device: of the weights.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        operations: Any,
        attention: Callable,
        norm_over_frames: bool = False,
        dtype=None,
        device=None,
    ):
        super().__init__()
        self.norm_over_frames = norm_over_frames
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
        side_branches: Sequence[SideBranches] = (),
        transformer_options: dict[str, Any] | None = None,
        block_tokens: int | None = None,
        views: Views | None = None,
    ) -> Tensor:
        """Let the frames of each clip see one another.

        Tokens stay in one layout, ``(b n) f c``, from the way in to the way out, and those two are the only copies
        that change a layout.

        Args:
            hidden_states: ``(b f) c h w`` UNet features, frames of one clip next to each other.
            encoding: ``f c`` position encodings; its first dimension tells f, which must divide ``b f``.
            motion_scale: multiplies the keys of the attention, more or less motion; a number or ``(f, h, w)``,
                where h and w may be 1.
            strength: 0 leaves the UNet's features unchanged, 1 is the trained motion; a number or ``(f, h, w)``.
            side_branches: LoRAs that are not merged into the weights, each with a strength of its own, a number or ``(f, h, w)``.
            transformer_options: handed to the attention function unread.
            block_tokens: tokens to work on at a time, or None for all. Pixels do not see one another here, so this
                changes no number; on a CPU, blocks whose inner features fit the cache are faster.
            views: windows of frames that see one another, or None where all do. With views, f is theirs, and
                ``encoding`` is that of one of them, where positions count anew in each, or that of all frames.

        Returns:
            Same shape and dtype as ``hidden_states``.
        """
        f, c = encoding.shape if views is None else (views.num_frames, encoding.shape[1])
        bf, _, h, w = hidden_states.shape
        b, n = bf // f, h * w
        scale = _per_token(motion_scale, b, n)
        sides = [side.with_strength(_per_token(side.strength, b, n)) for side in side_branches]
        options = {} if transformer_options is None else transformer_options
        pixels = b * n if block_tokens is None else max(1, block_tokens // f)
        if pixels >= b * n:
            # No name here for what goes in, or it would stay in memory until what comes out is there.
            x = self._forward_tokens(self._to_tokens(hidden_states, f), encoding, scale, sides, options, views)
        else:
            tokens, blocks = self._to_tokens(hidden_states, f), []
            for block in (slice(start, start + pixels) for start in range(0, b * n, pixels)):
                block_sides = [side.with_strength(_take(side.strength, block)) for side in sides]
                taken = _take(scale, block)
                blocks.append(self._forward_tokens(tokens[block], encoding, taken, block_sides, options, views))
            x = torch.cat(blocks)
        if isinstance(strength, Tensor) or strength != 1.0:
            x = x * _per_token(strength, b, n)
        residual = hidden_states.view(b, f, c, n)
        return (residual + x.view(b, n, f, c).permute(0, 2, 3, 1)).view(bf, c, h, w)

    def _to_tokens(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        """Norm ``(b f) c h w`` and bring it to ``(b n) f c``."""
        bf, c, h, w = hidden_states.shape
        if self.norm_over_frames:
            clips = hidden_states.reshape(bf // num_frames, num_frames, c, h * w).transpose(1, 2)
            return self.norm(clips.contiguous()).permute(0, 3, 2, 1).reshape(-1, num_frames, c)
        x = self.norm(hidden_states).view(bf // num_frames, num_frames, c, h * w)
        return x.permute(0, 3, 1, 2).reshape(-1, num_frames, c)

    def _forward_tokens(
        self,
        x: Tensor,
        encoding: Tensor,
        motion_scale: float | Tensor,
        side_branches: Sequence[SideBranches],
        transformer_options: dict[str, Any],
        views: Views | None,
    ) -> Tensor:
        x = linear(self.proj_in, x, side_branches)
        for block in self.transformer_blocks:
            x = block(
                x,
                encoding,
                motion_scale=motion_scale,
                side_branches=side_branches,
                transformer_options=transformer_options,
                views=views,
            )
        return linear(self.proj_out, x, side_branches)


def _per_token(value: float | Tensor, batch: int, num_pixels: int) -> float | Tensor:
    """Turn a value ``(f, h, w)`` into ``(b n) f 1``, to go with tokens; a number stays one."""
    if not isinstance(value, Tensor):
        return value
    pixels = value.flatten(1).t()[:, :, None]  # n f 1, or 1 f 1
    return pixels.expand(num_pixels, -1, -1).repeat(batch, 1, 1)


def _take(value: float | Tensor, pixels: slice) -> float | Tensor:
    """Take the value of some pixels; a number is that of all."""
    return value[pixels] if isinstance(value, Tensor) else value


def _take_frames(value: float | Tensor, view: Window) -> float | Tensor:
    """Take the value ``(b n) f 1`` of a view's frames; a number is that of all."""
    return view.take(value, 1) if isinstance(value, Tensor) else value
