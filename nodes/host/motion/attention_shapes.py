"""Attention maps of a motion model that are shaped for a part of the run."""

from __future__ import annotations

from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher

from ....motion_models.attention_shaping import AttentionShaping
from ..types import KEY
from .unet_call import UNetCall, check_range

_SHAPING_KEY = f"{KEY}_attention_shaping"


@dataclass(frozen=True)
class ShapingInRange:
    shaping: AttentionShaping
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        check_range(self.start_percent, self.end_percent, "nothing would change")


def shape_attention(motion_patcher: ModelPatcher, shaping: ShapingInRange) -> ModelPatcher:
    """A clone of a motion model whose attention is shaped; an earlier setting is replaced."""
    motion_patcher = motion_patcher.clone()
    is_off = not (shaping.shaping.enhance or shaping.shaping.neighbours)
    motion_patcher.set_attachments(_SHAPING_KEY, None if is_off else shaping)
    return motion_patcher


def shaping_in_call(motion_patcher: ModelPatcher, call: UNetCall, model_sampling) -> AttentionShaping | None:
    setting: ShapingInRange | None = motion_patcher.get_attachment(_SHAPING_KEY)
    if setting is None or not call.is_in_range(setting.start_percent, setting.end_percent, model_sampling):
        return None
    return setting.shaping
