"""Views: windows of frames that the temporal attention sees at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Some frames of a clip, taken out of tensors and put back without waiting for the device."""

    frames: tuple[int, ...]  # none twice
    index: Tensor  # the same, (l,) in int64
    weights: Tensor  # how much each counts, (l,) in float32

    @property
    def is_run(self) -> bool:
        """Whether the frames are neighbours, so that a slice is enough."""
        return self.frames[-1] - self.frames[0] == len(self.frames) - 1 and self.frames == tuple(sorted(self.frames))

    def take(self, x: Tensor, dim: int) -> Tensor:
        """These frames of ``x``; a view of it where they are neighbours."""
        if self.is_run:
            return x.narrow(dim, self.frames[0], len(self.frames))
        # What is elsewhere, as a rule on the CPU, gets an index made there: copying the device's would wait for it.
        index = self.index if self.index.device == x.device else torch.tensor(self.frames, device=x.device)
        return x.index_select(dim, index)

    def add_to(self, total: Tensor, part: Tensor, dim: int) -> None:
        """Add to these frames of ``total``, in place."""
        if self.is_run:
            total.narrow(dim, self.frames[0], len(self.frames)).add_(part)
        else:
            total.index_add_(dim, self.index, part.to(total.dtype))


@dataclass(frozen=True)
class Views:
    """The windows of one call of the UNet, all of one length; each frame's weights sum to 1."""

    num_frames: int  # of the clip
    windows: tuple[Window, ...]


def place_windows(
    windows: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], device: torch.device
) -> tuple[Window, ...]:
    """Bring windows to a device, all in one copy."""
    sizes = [len(window) for window in windows]
    index = torch.tensor([frame for window in windows for frame in window]).to(device, non_blocking=True)
    flat = torch.tensor([weight for values in weights for weight in values]).to(device, non_blocking=True)
    return tuple(map(Window, map(tuple, windows), index.split(sizes), flat.split(sizes)))
