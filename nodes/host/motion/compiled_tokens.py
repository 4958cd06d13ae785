"""Temporal transformers through ``torch.compile``, each width in a graph of its own; the UNet is not compiled."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ....motion_models.attention_inputs import AttentionInputs
from ....motion_models.temporal_transformer import TemporalTransformer
from ....motion_models.token_function import transform_tokens
from ..types import NOTE, logger

_MOST_PIXELS = 2**15  # CUDA's attention fails above 65,535, and ComfyUI's own splits here
_WORTH_SAYING = 2.0  # seconds


class CompiledTokens:
    """What one run uses in place of ``TemporalTransformer.forward_tokens``; it lives in the run's ``transformer_options``.

    Whatever is no plain function of tokens and weights runs as it is: windows inside the motion modules, LoRAs and motion scales
    that vary, cameras, weights that are not on the device, and users' own attention. So does everything once compiling has failed.
    """

    def __init__(self, backend: str = "inductor"):
        self.backend = backend
        self.has_failed = False
        self._first_calls: dict[tuple, float] = {}  # seconds, by what graphs differ in

    def __call__(self, transformer: TemporalTransformer, tokens: Tensor, inputs: AttentionInputs) -> Tensor:
        if self.has_failed or not _is_plain(tokens, inputs):
            return transformer.forward_tokens(tokens, inputs)
        weights = _weights_in_place(transformer, tokens)
        if weights is None:
            return transformer.forward_tokens(tokens, inputs)
        kind, began = (tokens.shape[-1], tokens.dtype, tokens.device, inputs.motion_scale == 1.0), time.perf_counter()
        try:
            out = self._run(transformer, tokens, inputs, weights)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, OSError, ImportError) as error:
            self.has_failed = True
            logger.warning(
                "compile of Apply Motion Model has no effect: torch.compile failed with %s. On a CPU it needs a C++ compiler, on a "
                "graphics card Triton. Install it, or turn compile off.", f"{type(error).__name__}: {str(error)[:200]}",
            )  # fmt: skip
            return transformer.forward_tokens(tokens, inputs)
        self._first_calls.setdefault(kind, time.perf_counter() - began)
        return out

    def _run(self, transformer: TemporalTransformer, tokens: Tensor, inputs: AttentionInputs, weights: dict[str, Tensor]) -> Tensor:
        scale = None if inputs.motion_scale == 1.0 else torch.tensor(inputs.motion_scale, device=tokens.device)
        parts = []
        for part in tokens.split(_MOST_PIXELS):
            encoding = inputs.encoding.clone()  # marks stay on a tensor, and this one is the call's
            part = part.view(part.shape)
            for tensor, dims in ((part, (0, 1)), (encoding, (0,))):
                for dim in dims:
                    torch._dynamo.mark_dynamic(tensor, dim)
            parts.append(_compiled(self.backend)(part, encoding, scale, weights, transformer.num_heads))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def report(self) -> None:
        """Say how long compiling took, where it was long enough to be noticed."""
        seconds = sum(self._first_calls.values())
        if not self.has_failed and seconds > _WORTH_SAYING:
            logger.info(
                "Compiling the motion modules took %.0f s. ComfyUI keeps the result until it is closed.", seconds, extra=NOTE
            )


@functools.cache
def _compiled(backend: str) -> Callable[..., Tensor]:
    import torch._dynamo

    return torch.compile(transform_tokens, backend=backend, dynamic=False)


def _is_plain(tokens: Tensor, inputs: AttentionInputs) -> bool:
    pixels, frames, _ = tokens.shape
    attention = (inputs.views, inputs.shaping, inputs.boxes)
    varies = attention != (None,) * 3 or inputs.loras or inputs.merges or isinstance(inputs.motion_scale, Tensor)
    # Of dimensions of 1, and of parts of one pixel, torch.compile would make graphs of their own.
    return not varies and "optimized_attention_override" not in inputs.options and frames > 1 and pixels % _MOST_PIXELS > 1


def _weights_in_place(transformer: nn.Module, tokens: Tensor) -> dict[str, Tensor] | None:
    """A transformer's weights in the dtype of its tokens; None where ComfyUI has to bring them in or change them at each use."""
    changes: list[Any] = []
    for layer in transformer.modules():
        changes += [hasattr(layer, "_v"), *getattr(layer, "weight_function", ()), *getattr(layer, "bias_function", ())]
    weights = dict(transformer.named_parameters())
    if any(changes) or any(weight.device != tokens.device for weight in weights.values()):
        return None
    return {name: weight.to(tokens.dtype) for name, weight in weights.items()}
