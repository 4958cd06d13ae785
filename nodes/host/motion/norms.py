"""Group norms over all frames of a clip, as the first motion models were trained with.

Source: AnimateDiff's ``inference-v1.yaml`` (``use_inflated_groupnorm: false``): there the UNet's residual blocks and
its last norm see five-dimensional features and so take their statistics over frames too. The norms of spatial
transformers and of motion modules never do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor


@contextmanager
def norms_over_frames(network: torch.nn.Module, num_frames: int) -> Iterator[None]:
    """Let the residual norms of this UNet, or of this one layer, see all frames of a clip, inside the ``with`` only.

    Only this network's own instances are overridden: other models, and ``torch.nn``, are untouched.
    """
    norms = _residual_norms(network)
    before = [norm.__dict__.get("forward") for norm in norms]
    try:
        for norm in norms:
            norm.forward = functools.partial(_over_frames, norm.forward, num_frames)
        yield
    finally:
        for norm, forward in zip(norms, before, strict=True):
            norm.__dict__.pop("forward", None)
            if forward is not None:
                norm.forward = forward


def _residual_norms(network: torch.nn.Module) -> list[torch.nn.Module]:
    blocks = [module for module in network.modules() if isinstance(module, ResBlock)]
    norms = [norm for block in blocks for norm in (block.in_layers[0], block.out_layers[0])]
    if isinstance(network, UNetModel):
        norms.append(network.out[0])
    return [norm for norm in norms if isinstance(norm, torch.nn.GroupNorm)]


def _over_frames(forward: Callable[[Tensor], Tensor], num_frames: int, x: Tensor) -> Tensor:
    bf, c, h, w = x.shape
    clips = x.reshape(bf // num_frames, num_frames, c, h * w).transpose(1, 2)  # b c f n
    return forward(clips.contiguous()).transpose(1, 2).reshape(bf, c, h, w)
