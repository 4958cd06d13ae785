"""What a temporal transformer does with its tokens, as one function of tensors: for ``torch.compile``, and for nothing else.

Modules would bring in what a compiler has to guard or to break off at: casts, offloading, LoRA branches, windows, and options.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_BLOCK = "transformer_blocks.0"


def transform_tokens(x: Tensor, encoding: Tensor, motion_scale: Tensor | None, weights: dict[str, Tensor], num_heads: int) -> Tensor:
    """Map tokens ``(b n) f c`` as ``TemporalTransformer.forward_tokens`` does with ``AttentionInputs(encoding, motion_scale)``.

    ``weights`` are the transformer's parameters by name; ``motion_scale`` is one number.
    """

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    b, f, c = x.shape
    for number in range(2):
        attention = f"{_BLOCK}.attention_blocks.{number}"
        tokens = norm(x, f"{_BLOCK}.norms.{number}") + encoding
        k = linear(tokens, f"{attention}.to_k")
        if motion_scale is not None:
            k = k * motion_scale
        q, v = linear(tokens, f"{attention}.to_q"), linear(tokens, f"{attention}.to_v")
        q, k, v = (each.view(b, f, num_heads, -1).transpose(1, 2) for each in (q, k, v))
        out = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, f, c)
        x = linear(out, f"{attention}.to_out.0") + x
    value, gate = linear(norm(x, f"{_BLOCK}.ff_norm"), f"{_BLOCK}.ff.net.0.proj").chunk(2, dim=-1)
    x = linear(value * functional.gelu(gate), f"{_BLOCK}.ff.net.2") + x
    return linear(x, "proj_out")
