"""What one call of the UNet holds: how many frames, which of the clip's, and where in the run it stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....motion_models.errors import InvalidInput
from ..types import CLIPS_KEY


@dataclass(frozen=True)
class UNetCall:
    """One call of the UNet, as its ``transformer_options`` tell of it.

    Attributes:
        options: the ``transformer_options``.
        num_frames: frames in the call's batch, of one clip.
        window: their numbers in the clip if a context window is in force; ComfyUI's anchor frame, where it adds one, comes
            first.
        total_frames: of the clip.
    """

    options: dict[str, Any]
    num_frames: int
    window: list[int] | None
    total_frames: int

    @classmethod
    def of(cls, x: Tensor, options: dict[str, Any]) -> UNetCall:
        """Read a call's batch ``x``, which is conds times clips times frames, and its options.

        Raises:
            InvalidInput: the batch does not hold the same number of frames for each.
        """
        chunks = len(options.get("cond_or_uncond", (0,))) * options.get(CLIPS_KEY, 1)
        if x.shape[0] % chunks:
            raise InvalidInput(
                f"A batch of {x.shape[0]} frames cannot be split evenly into {chunks} parts. "
                "Make the number of frames a multiple of the number of clips."
            )
        num_frames = x.shape[0] // chunks
        window = options.get("context_window")
        if window is None:
            return cls(options, num_frames, None, num_frames)
        return cls(options, num_frames, _window_frames(window, num_frames), window.total_frames)

    @cached_property
    def noise_levels(self) -> list[float]:
        """Sigma of now, then those of the run's steps. Windows of Loom's have read them from the device once for all."""
        read = getattr(self.options.get("context_window"), "noise_levels", None)
        return read_noise_levels(self.options["sigmas"], self.options) if read is None else read()

    @cached_property
    def progress(self) -> float:
        """Share of the run's steps that lie behind: 0 in its first step, 1 in its last; told from sigma."""
        sigma, *levels = self.noise_levels
        sigmas = np.array(levels)
        steps = len(sigmas) - 1
        if steps < 2:
            return 0.0
        sign = 1 if sigmas[0] < sigmas[-1] else -1  # numpy wants them to rise
        step = np.interp(sign * sigma, sign * sigmas, np.arange(len(sigmas)))
        return min(float(step) / (steps - 1), 1.0)

    def is_in_range(self, start_percent: float, end_percent: float, model_sampling) -> bool:
        """Whether this call lies in a part of the run; the place is told from sigma."""
        if start_percent <= 0.0 and end_percent >= 1.0:
            return True
        sigma = self.noise_levels[0]
        start = float(model_sampling.percent_to_sigma(start_percent))
        end = float(model_sampling.percent_to_sigma(end_percent))
        return end <= sigma <= start


def read_noise_levels(sigmas: Tensor, options: dict[str, Any]) -> list[float]:
    """Sigma of a call, which has one for each frame, then those of the run's steps, if it is a run; waits for the device once."""
    run = options.get("sample_sigmas", sigmas[:0])
    return torch.cat([sigmas[:1].to(run), run]).float().tolist()


def _window_frames(window, num_frames: int) -> list[int]:
    frames = list(window.index_list)
    anchor = getattr(window, "causal_anchor_index", None)
    if anchor is not None and len(frames) == num_frames - 1:
        frames.insert(0, anchor)
    return frames
