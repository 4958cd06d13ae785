"""Group norms over all frames of a clip, as the first motion models were trained with.

Source: AnimateDiff's ``inference-v1.yaml`` (``use_inflated_groupnorm: false``): there the UNet's residual blocks and
its last norm see five-dimensional features and so take their statistics over frames too. The norms of spatial
transformers and of motion modules never do. AnimateDiff-Evolved takes all of them over the frames (its ``sampling.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, IntEnum
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ....motion_models.config import MotionModelConfig


class Scope(IntEnum):
    """Which group norms take their statistics over all frames."""

    NONE = 0
    TRAINED = 1  # those of the UNet that did in the training of AnimateDiff v1
    ALL = 2  # of the UNet and of the motion modules


class GroupNorms(Enum):
    """What users choose; frozen, as part of saved workflows."""

    AS_TRAINED = "as trained"
    ALL = "all over frames"
    EVOLVED = "like AnimateDiff-Evolved"
    EVOLVED_V2_AS_V1 = "like AnimateDiff-Evolved, v2 as v1"

    def scope(self, config: MotionModelConfig) -> Scope:
        if self is GroupNorms.AS_TRAINED:
            return Scope.TRAINED if config.family.norm_over_frames else Scope.NONE
        if self is GroupNorms.ALL:
            return Scope.ALL
        # AnimateDiff-Evolved knows three kinds: v2 by its mid block, v3 by 32 positions, and v1, which is all else, and PIA.
        is_v2 = config.has_mid_block
        is_v3 = not is_v2 and not config.family.takes_image and config.base_model == "SD1.5" and config.max_frames == 32
        return Scope.NONE if is_v3 or (is_v2 and self is GroupNorms.EVOLVED) else Scope.ALL


class NormsOverFrames(TorchFunctionMode):
    """Group norms over the frames of each clip, within ``with`` and this thread only; no layer is changed for it."""

    def __init__(self, num_frames: int, scope: Scope = Scope.TRAINED):
        super().__init__()
        self.scope = scope
        self._num_frames = num_frames
        self._is_off = False

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func is functional.group_norm and not self._is_off:
            return self._over_frames(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _over_frames(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        bf, c, h, w = x.shape
        clips = x.reshape(bf // self._num_frames, self._num_frames, c, h * w).transpose(1, 2)  # b c f n
        # What the function in torch.nn calls: torch.compile would come by here again with that one itself.
        return torch.group_norm(clips.contiguous(), *args, **kwargs).transpose(1, 2).reshape(bf, c, h, w)

    def reaches(self, layer: nn.Module) -> bool:
        """Whether the norms of one of the UNet's layers are among them."""
        return self.scope is Scope.ALL or isinstance(layer, ResBlock)

    @contextmanager
    def off(self) -> Iterator[None]:
        before, self._is_off = self._is_off, True
        try:
            yield
        finally:
            self._is_off = before
