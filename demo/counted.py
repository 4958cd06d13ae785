"""Counting how often layers work, by PyTorch's own hooks for all modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import nn

from ..motion_models.temporal_transformer import TemporalTransformer

MOTION, BLOCKS = "motion modules", "UNet blocks"


@contextmanager
def counted_calls(motion_model: nn.Module) -> Iterator[dict[str, int]]:
    """Counts calls of a motion model's modules and of any UNet's residual blocks."""
    # What a module adds to features may be asked for without its forward; its norm works once each time.
    norms = {module.norm for module in motion_model.modules() if isinstance(module, TemporalTransformer)}
    calls = {MOTION: 0, BLOCKS: 0}

    def count(module: nn.Module, args: tuple) -> None:
        calls[BLOCKS] += isinstance(module, ResBlock)
        calls[MOTION] += module in norms

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield calls
    finally:
        hook.remove()
