"""Noise for clips longer than a context window: FreeNoise, for windows at any place.

Source: Qiu et al. 2023, "FreeNoise", arXiv:2310.15169. Frames after the first window hold the first window's noise
again, in another order, so that windows sampled by themselves still show one animation. The paper and ComfyUI shuffle
windows at fixed places; one elsewhere may then hold a noise twice. Here the order is drawn so that this cannot happen.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from .errors import InvalidInput


class Shuffle(Enum):
    """For windows at any place, or the published one, of ComfyUI and AnimateDiff-Evolved, too: for windows at fixed places."""

    ANY_WINDOW = "any window"
    PUBLISHED = "as published"


@dataclass(frozen=True)
class FreeNoise:
    """Which noise each frame holds, for context windows of ``length`` frames; more ``overlap`` makes frames vary less.

    No two frames of a window have the same noise. A window is any ``length`` frames one after the other, with
    ``closed_loop`` also over the seam from the last to the first, and with a ``stride`` of 2 or more also every 2nd, 4th
    ... 2^(stride - 1)-th frame. Windows that cannot be are refused with ``InvalidInput``.

    The first ``length`` frames keep their noise. A frame's noise does not depend on how many frames follow, but for
    those of a closed loop whose windows reach over the seam: with stride 1, the last ``length - 1``. A clip of one window
    keeps all of its noise, and so does a loop shorter than two, where any two frames may share a window.

    None of this but the first window's noise holds for the published ``shuffle``: it takes the ``length - overlap`` frames
    at the beginning of each window and puts them behind it, shuffled. It does not know of loops and strides.
    """

    length: int = 16
    overlap: int = 4
    closed_loop: bool = False
    stride: int = 1
    shuffle: Shuffle = Shuffle.ANY_WINDOW

    def __post_init__(self) -> None:
        if self.length < 1 or self.stride < 1:
            raise InvalidInput(
                f"FreeNoise got context_length {self.length} and context_stride {self.stride}; both must be 1 or more."
            )
        if not 0 <= self.overlap < self.length:
            raise InvalidInput(
                f"context_overlap {self.overlap} does not fit windows of {self.length} frames. Use 0 to {self.length - 1}."
            )

    def order(self, frames: int, seed: int = 0, check: Callable[[], object] = lambda: None) -> list[int]:
        """For each of a clip's frames, the frame whose noise it holds: itself, or an earlier one.

        Thousands of frames in windows of as many take seconds; ``check`` is called for each frame and may raise.
        """
        if self.shuffle is Shuffle.PUBLISHED:
            return self._published_order(frames, seed, check)
        # Between two frames of one window.
        steps = sorted({k << double for k in range(1, self.length) for double in range(self.stride)})
        reach = max(steps, default=0)
        # Each frame has one noise more than these spares to choose from. The paper shuffles groups of
        # g = length - overlap frames, which is g! orders, or about g / 3 + 1 choices a frame.
        pool_size = len(steps) + 1 + max(1, (self.length - self.overlap) // 3)
        draw = random.Random(seed).random
        order: list[int] = []
        pool: list[int] = []
        for frame in range(frames):
            check()
            sharing = [frame - step for step in steps if step <= frame]  # a window with this one
            if self.closed_loop:
                sharing += [(frame + way * step) % frames for step in steps for way in (1, -1) if step % frames]
            taken = {order[i] for i in sharing if i < frame}
            free = [noise for noise in pool if noise not in taken]
            if self.closed_loop and frame + reach >= frames:
                # The noise that returns first behind the seam has to come first: then as many as can be are used again.
                noise = free[0] if free else frame
            else:
                free += [frame] if len(pool) < pool_size else []
                noise = free[int(draw() * len(free))]
            if noise == frame:
                pool.append(frame)
            order.append(noise)
        return order

    def _published_order(self, frames: int, seed: int, check: Callable[[], object]) -> list[int]:
        order, generator = list(range(frames)), torch.Generator().manual_seed(seed)
        for start in range(0, frames - self.length, self.length - self.overlap):
            check()
            end = start + self.length
            count = min(self.length - self.overlap, frames - end)
            order[end : end + count] = [order[start + i] for i in torch.randperm(count, generator=generator).tolist()]
        return order
