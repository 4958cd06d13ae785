"""Positions between and beyond the whole frames that a motion model was trained on: motion slowed down, eased or repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class Repeat(Enum):
    """What becomes of positions behind the repeated stretch."""

    NONE = "none"
    LOOP = "loop"
    PING_PONG = "ping-pong"


@dataclass(frozen=True)
class Retime:
    """Which position each frame gets; the defaults give frame k position k.

    Attributes:
        speed: positions a frame; 0.5 spreads the motion of 16 frames over 32.
        offset: position of the first frame.
        ease: maps the share of the clip's frames, 0 to 1, to the share of its positions; None leaves it.
        repeat: how positions start again after ``repeat_frames``.
        repeat_frames: frames' worth of positions that are repeated, counted from ``offset``.
        extend: whether positions past those a motion model stores may be used; they follow from the formula.
    """

    speed: float = 1.0
    offset: float = 0.0
    ease: Callable[[float], float] | None = None
    repeat: Repeat = Repeat.NONE
    repeat_frames: int = 16
    extend: bool = False

    def positions(self, num_frames: int) -> Tensor:
        """Positions of a clip's, or of a context window's, frames, ``(f,)`` in float32."""
        frames = torch.arange(num_frames, dtype=torch.float32)
        if self.ease is not None and num_frames > 1:
            last = num_frames - 1
            frames = torch.tensor([self.ease(k / last) * last for k in range(num_frames)], dtype=torch.float32)
        positions = frames * self.speed
        if self.repeat is Repeat.LOOP:
            positions = positions.remainder(self.repeat_frames)
        elif self.repeat is Repeat.PING_PONG and self.repeat_frames > 1:
            there_and_back = positions.remainder(2 * (self.repeat_frames - 1))
            positions = torch.minimum(there_and_back, 2 * (self.repeat_frames - 1) - there_and_back)
        return positions + self.offset
