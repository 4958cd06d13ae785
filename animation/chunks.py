"""A clip of any length in chunks that are sampled one after the other, each with the last frames of the one before."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import InvalidInput


class Chunk(NamedTuple):
    """Frames ``start`` to before ``end``; the chunk before has the first ``overlap``, too, and the next the last ``shared``."""

    start: int
    end: int
    overlap: int = 0
    shared: int = 0

    @property
    def frames(self) -> int:
        return self.end - self.start

    @property
    def finished(self) -> int:
        """How many of its first frames no later chunk changes."""
        return self.frames - self.shared


def plan_chunks(total_frames: int, length: int, overlap: int, least: int = 1) -> list[Chunk]:
    """Cover a clip with as few chunks as can be, all equally long: at most ``length`` frames, overlapping by ``overlap`` or more.

    Chunks are shortened so that the last is no longer than it has to be, but not to fewer than ``least`` frames. Numbers that
    don't fit one another are refused with ``InvalidInput``.
    """
    if total_frames < 1 or not 0 <= overlap < length:
        raise InvalidInput(f"{total_frames} frames can't be cut into chunks of {length} that overlap by {overlap}.")
    if total_frames <= length:
        return [Chunk(0, total_frames)]
    count = math.ceil((total_frames - overlap) / (length - overlap))
    length = min(length, max(least, math.ceil((total_frames + (count - 1) * overlap) / count)))
    starts = [number * (total_frames - length) // (count - 1) for number in range(count)]
    shared = [first + length - second for first, second in pairwise(starts)]
    return [Chunk(start, start + length, *both) for start, *both in zip(starts, [0, *shared], [*shared, 0], strict=True)]


def blend_overlap(earlier: Tensor, later: Tensor) -> Tensor:
    """Fade from one chunk's frames to the next one's: of ``n`` frames ``(n, ...)`` that both have, frame i is i + 0.5 : n the later's."""
    share = (torch.arange(len(later), device=later.device) + 0.5) / len(later)
    return torch.lerp(earlier.to(later), later, share.to(later.dtype).view(-1, *[1] * (later.ndim - 1)))
