"""The temporal transformer: what AnimateDiff runs after each spatial layer so that frames see one another.

Source: Guo et al. 2023, arXiv:2307.04725, and the layout of its released checkpoints. Attribute names are the
checkpoint's keys.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .attention_inputs import AttentionInputs, per_token
from .companions.low_rank import linear
from .layers import FeedForward


class TemporalAttention(nn.Module):
    """Self-attention over the frames of one pixel."""

    def __init__(self, channels: int, num_heads: int, *, operations: Any, attention: Callable, dtype=None, device=None):
        super().__init__()
        self.num_heads, self.attention = num_heads, attention
        linear = functools.partial(operations.Linear, channels, channels, dtype=dtype, device=device)
        self.to_q, self.to_k, self.to_v = linear(bias=False), linear(bias=False), linear(bias=False)
        self.to_out = nn.ModuleList([linear(), nn.Identity()])

    def forward(self, x: Tensor, inputs: AttentionInputs) -> Tensor:
        """Attend over dim 1 of ``x``, ``(b n) f c``."""
        k = linear(self.to_k, x, inputs.loras)
        if isinstance(inputs.motion_scale, Tensor) or inputs.motion_scale != 1.0:
            k = k * inputs.motion_scale
        q, v = linear(self.to_q, x, inputs.loras), linear(self.to_v, x, inputs.loras)
        bias = None if inputs.boxes is None else inputs.boxes.bias().to(q.dtype)
        if inputs.shaping is not None:
            x = inputs.shaping.attend(q, k, v, self.num_heads, inputs.clips, bias)
        elif bias is not None:
            x = self.attention(q, k, v, self.num_heads, mask=bias, transformer_options=inputs.options)
        else:
            x = self.attention(q, k, v, self.num_heads, transformer_options=inputs.options)
        return linear(self.to_out[0], x, inputs.loras)


class TemporalTransformerBlock(nn.Module):
    """Temporal self-attentions and a feed-forward, each on normed tokens and added to the tokens.

    Every motion model has two attentions, SparseCtrl's and CameraCtrl's own temporal parts one.
    """

    def __init__(
        self, channels: int, num_heads: int, *, operations: Any, attention: Callable, num_attentions: int = 2, dtype=None, device=None
    ):
        super().__init__()
        options = {"operations": operations, "dtype": dtype, "device": device}
        norm = functools.partial(operations.LayerNorm, channels, dtype=dtype, device=device)
        attentions = (TemporalAttention(channels, num_heads, attention=attention, **options) for _ in range(num_attentions))
        self.attention_blocks = nn.ModuleList(attentions)
        self.norms = nn.ModuleList(norm() for _ in range(num_attentions))
        self.ff = FeedForward(channels, **options)
        self.ff_norm = norm()

    def forward(self, x: Tensor, inputs: AttentionInputs) -> Tensor:
        """Map ``x``, ``(b n) f c``; with views, the attentions run in each, and their outputs are summed by their weights."""
        if inputs.views is None:
            x = self._attend(x, inputs)
        else:
            fused = torch.zeros_like(x)
            for view in inputs.views.windows:
                part = self._attend(view.take(x, 1), inputs.of_view(view))
                view.add_to(fused, part * view.weights[:, None].to(part.dtype), 1)
            x = fused
        return self.ff(self.ff_norm(x), inputs.loras).add_(x)

    def _attend(self, x: Tensor, inputs: AttentionInputs) -> Tensor:
        # Added in place only to what a norm or a linear layer has just made: no gradient needs that.
        for number, (norm, attention) in enumerate(zip(self.norms, self.attention_blocks, strict=True)):
            tokens = norm(x).add_(inputs.encoding)
            if number in inputs.merges:
                tokens = inputs.merges[number].into(tokens)
            x = attention(tokens, inputs).add_(x)
        return x


class TemporalTransformer(nn.Module):
    """A transformer over the frames of each pixel, whose output is added to its input.

    With ``norm_over_frames``, the group norm's statistics are those of all frames of a clip, else each frame's own.
    """

    def __init__(self, channels: int, num_heads: int, *, norm_over_frames: bool = False, **options: Any):
        super().__init__()
        self.norm_over_frames, self.num_heads = norm_over_frames, num_heads
        operations, weights = options["operations"], {"dtype": options.get("dtype"), "device": options.get("device")}
        self.norm = operations.GroupNorm(num_groups=32, num_channels=channels, eps=1e-6, **weights)
        self.proj_in = operations.Linear(channels, channels, **weights)
        self.transformer_blocks = nn.ModuleList([TemporalTransformerBlock(channels, num_heads, **options)])
        self.proj_out = operations.Linear(channels, channels, **weights)

    def forward(
        self, hidden_states: Tensor, inputs: AttentionInputs, *, strength: float | Tensor = 1.0, **options: Any
    ) -> Tensor:  # fmt: skip
        """Let the frames of each clip see one another: ``(b f) c h w`` to the same shape and dtype.

        ``strength`` 0 leaves the UNet's features unchanged, 1 is the trained motion; it may be for each pixel, as in
        ``AttentionInputs``. ``options`` are those of ``residual``.
        """
        return add_residual(hidden_states, self.residual(hidden_states, inputs, **options), inputs.num_frames, strength)

    def residual(
        self, hidden_states: Tensor, inputs: AttentionInputs, *, block_tokens: int | None = None, norm_over_frames: bool = False,
        forward_tokens: Callable[[TemporalTransformer, Tensor, AttentionInputs], Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """What is added to ``(b f) c h w`` at strength 1, as tokens ``(b n) f c``.

        ``block_tokens`` are worked on at a time, or all. Pixels do not see one another here, so this changes no number; on a
        CPU, blocks whose inner features fit the cache are faster. Only attention that is shaped looks at all pixels of a clip,
        and so at all tokens at once. ``norm_over_frames`` is for this call what it is for the whole network, and another
        ``forward_tokens`` what the method of that name is.
        """
        run = forward_tokens or TemporalTransformer.forward_tokens
        f, (bf, _, h, w) = inputs.num_frames, hidden_states.shape
        b, n = bf // f, h * w
        inputs, over_frames = inputs.for_tokens(b, n), norm_over_frames or self.norm_over_frames
        pixels = b * n if block_tokens is None or inputs.shaping is not None else max(1, block_tokens // f)
        if pixels >= b * n:
            # What goes into proj_in must not stay in memory until run is done. So it has no name here, nor is it an argument of
            # run's: callers keep those where torch.compile takes over Python's calls, which it goes on doing once it has failed.
            return run(self, linear(self.proj_in, self._to_tokens(hidden_states, f, over_frames), inputs.loras), inputs)
        tokens = self._to_tokens(hidden_states, f, over_frames)
        blocks = (slice(start, start + pixels) for start in range(0, b * n, pixels))
        parts = ((tokens[block], inputs.of_pixels(block)) for block in blocks)
        return torch.cat([run(self, linear(self.proj_in, part, of_part.loras), of_part) for part, of_part in parts])

    def _to_tokens(self, hidden_states: Tensor, num_frames: int, norm_over_frames: bool) -> Tensor:
        bf, c, h, w = hidden_states.shape
        clips = (bf // num_frames, num_frames, c, h * w)
        if norm_over_frames:
            x = self.norm(hidden_states.reshape(clips).transpose(1, 2).contiguous()).permute(0, 3, 2, 1)
        else:
            x = self.norm(hidden_states).view(clips).permute(0, 3, 1, 2)
        return x.reshape(-1, num_frames, c)

    def forward_tokens(self, x: Tensor, inputs: AttentionInputs) -> Tensor:
        """Map what ``proj_in`` gives, ``(b n) f c``, to what is added to the features at strength 1, in the same shape."""
        for block in self.transformer_blocks:
            x = block(x, inputs)
        return linear(self.proj_out, x, inputs.loras)


def add_residual(hidden_states: Tensor, residual: Tensor, num_frames: int, strength: float | Tensor = 1.0) -> Tensor:
    """Add ``strength`` times what ``TemporalTransformer.residual`` gives, ``(b n) f c``, to features ``(b f) c h w``."""
    f, (bf, c, h, w) = num_frames, hidden_states.shape
    b, n = bf // f, h * w
    if isinstance(strength, Tensor):
        residual = residual * per_token(strength, f, b, n)
    elif strength != 1.0:
        residual = residual * strength
    features = hidden_states.view(b, f, c, n)
    return (features + residual.view(b, n, f, c).permute(0, 2, 3, 1)).view(bf, c, h, w)
