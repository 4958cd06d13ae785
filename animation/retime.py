"""Positions between and beyond the whole frames that a motion model was trained on: motion slowed down, eased or repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from .errors import InvalidInput


class Repeat(Enum):
    """What becomes of positions after the repeated ones."""

    NONE = "none"
    LOOP = "loop"
    PING_PONG = "ping-pong"


@dataclass(frozen=True)
class Stretch:
    """The first stored positions spread over more frames or fewer, as a row of pixels is resized: linearly, from edge to edge.

    Source: PyTorch's ``interpolate`` with ``bilinear``, with which AnimateDiff-Evolved stretches a file's table.
    """

    positions: int
    frames: int

    def between(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """For each frame the stored position before it, and the share that the next one has in what it gets."""
        places = ((frames + 0.5) * (self.positions / self.frames) - 0.5).clamp(0, self.positions - 1)
        return places.floor(), places.frac()


@dataclass(frozen=True)
class Retime:
    """Which position each frame gets; the defaults give frame k position k."""

    speed: float = 1.0  # positions a frame
    offset: float = 0.0  # position of the first frame
    ease: Callable[[float], float] | None = None  # from the share of the frames, 0 to 1, to that of positions
    repeat: Repeat = Repeat.NONE
    repeat_frames: int = 16  # from offset on, 2 or more. Of 4, a loop is 0 1 2 3 0 1, a ping-pong 0 1 2 3 2 1 0
    extend: bool = False  # whether positions past those a motion model stores may be used; they follow from the formula
    across_windows: bool = False  # whether positions go on from one context window to the next, or start again in each
    stretch: Stretch | None = None  # then positions are frames of it

    def __post_init__(self) -> None:
        if self.repeat_frames < 2:
            raise InvalidInput(f"repeat_frames is {self.repeat_frames}; it must be 2 or more.")

    def positions(self, num_frames: int) -> Tensor:
        """Positions of as many frames, ``(f,)`` in float32."""
        frames = torch.arange(num_frames, dtype=torch.float64)
        if self.ease is not None and num_frames > 1:
            last = num_frames - 1
            frames = torch.tensor([self.ease(k / last) * last for k in range(num_frames)], dtype=torch.float64)
        # Rounded, or 100 frames at speed 0.29 would fall just short of a repeat of 29 and not start again.
        positions = (frames * self.speed).round(decimals=9)
        if self.repeat is Repeat.LOOP:
            positions = positions.remainder(self.repeat_frames)
        elif self.repeat is Repeat.PING_PONG:
            turn = self.repeat_frames - 1
            positions = turn - (positions.remainder(2 * turn) - turn).abs()
        return (positions + self.offset).float()

    def positions_in_window(self, window: Sequence[int], total_frames: int) -> Tensor:
        """Positions of a context window's frames, given by their numbers in the clip, ``(f,)`` in float32."""
        return self.positions(total_frames)[list(window)] if self.across_windows else self.positions(len(window))
