"""What one call of the UNet holds: how many frames, which of the clip's, and where in the run it stands."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....motion_models.errors import InvalidInput
from ..types import CLIPS_KEY, FRAMES_KEY, PICTURE_KEY
from .frame_values import Area, Picture

EVOLVED_FRAMES_KEY = "ad_params"
"""In ``transformer_options``: where AnimateDiff-Evolved, and Loom for the packs that look there, says which frames a call has."""

_PLACES = 1000  # of a noise schedule that are told apart


@dataclass(frozen=True)
class UNetCall:
    """One call of the UNet, as its ``transformer_options`` tell of it."""

    options: dict[str, Any]
    num_frames: int  # of a clip in the call's batch
    window: list[int] | None  # their numbers in the clip, if a context window is in force
    total_frames: int  # of the clip
    size: tuple[int, int] = (1, 1)  # height and width of the call's latent

    @classmethod
    def of(cls, x: Tensor, options: dict[str, Any]) -> UNetCall:
        """Read a call's batch ``x`` and its options; ``InvalidInput`` where clips and conds differ in length.

        The batch is conds times clips times frames, and perhaps more pictures of each, as tiles are. So the frames are the
        window's, or the run's. Outside of a run, and in calls with other numbers of frames, each cond and clip has a share.
        """
        batch, height, width = x.shape[0], *x.shape[-2:]
        chunks = len(options.get("cond_or_uncond", (0,))) * options.get(CLIPS_KEY, 1)
        frames, total = frames_of_window(options) or (None, None)
        num_frames = len(frames) if frames else options.get(FRAMES_KEY, batch)
        if not frames and batch % (chunks * num_frames):
            num_frames = max(batch // chunks, 1)
        if batch % (chunks * num_frames):
            raise InvalidInput(
                f"A batch of {batch} frames cannot be split evenly into {chunks} parts{' of a window' if frames else ''}. "
                "Make the number of frames a multiple of the number of clips."
            )
        return cls(options, num_frames, frames, total or num_frames, (height, width))

    def cut(self, masks: Tensor) -> tuple[Tensor, ...]:
        """Cut masks ``(f, h, w)`` of the whole picture to this call's part: one, or one for each clip of each cond."""
        picture: Picture | None = self.options.get(PICTURE_KEY)
        if picture is None or masks.shape[1:] == (1, 1):
            return (masks,)
        areas = self.areas_of(
            picture, "A mask for the motion scale, the strength or a motion LoRA is", "Use numbers instead of the mask, or sample"
        )
        if len(set(areas)) == 1:
            return (picture.cut(masks, areas[0]),)
        return tuple(picture.cut(masks, area) for area in areas for _ in range(self.options.get(CLIPS_KEY, 1)))

    def areas_of(self, picture: Picture, what: str, advice: str = "Sample") -> list[Area | None]:
        """The part of the picture that each cond of this call is for, None for all of it; ``InvalidInput`` where that is not known.

        ``what``, with its verb, begins the error, ``advice`` its last sentence.
        """
        areas = [picture.areas.get(uuid) for uuid in self.options.get("uuids", (None,))]
        height, width = areas[0][:2] if areas[0] else (picture.height, picture.width)
        if self.size != (height, width):
            raise InvalidInput(
                f"{what} as large as the picture, but another node has the model work on tiles of it "
                f"({self.size[1]}x{self.size[0]} of {width}x{height} latent pixels) and does not say where they lie. "
                f"{advice} without tiles."
            )
        return areas

    @cached_property
    def noise_levels(self) -> list[float]:
        """Sigma of now, then those of the run's steps. Loom's windows have read them from the device once for all."""
        read = getattr(self.options.get("context_window"), "noise_levels", None)
        return read_noise_levels(self.options["sigmas"], self.options) if read is None else read()

    @cached_property
    def progress(self) -> float:
        """Share of the run's steps that are done: 0 in its first step, 1 in its last; told from sigma."""
        sigma, *levels = self.noise_levels
        sigmas = np.array(levels)
        steps = len(sigmas) - 1
        if steps < 2:
            return 0.0
        sign = 1 if sigmas[0] < sigmas[-1] else -1  # numpy wants them to rise
        step = np.interp(sign * sigma, sign * sigmas, np.arange(len(sigmas)))
        return min(float(step) / (steps - 1), 1.0)

    def share_of_schedule(self, model_sampling) -> float:
        """Share of the noise schedule that is behind this call, whatever steps its run has: 0 all noise, 1 none; told from sigma."""

        def missing(place: int) -> float:
            return -float(model_sampling.percent_to_sigma(place / _PLACES))

        passed = bisect_right(range(_PLACES + 1), -self.noise_levels[0], key=missing) - 1
        return min((passed + 0.5) / _PLACES, 1.0)  # between two places, so that a jump at one is not missed by rounding

    def is_in_range(self, start_percent: float, end_percent: float, model_sampling) -> bool:
        """Whether this call lies in a part of the run; the place is told from sigma."""
        if start_percent <= 0.0 and end_percent >= 1.0:
            return True
        return is_in_range(self.noise_levels[0], start_percent, end_percent, model_sampling)


def check_range(start_percent: float, end_percent: float, otherwise: str) -> None:
    """Raise ``InvalidInput`` where a part of a run ends before it begins; ``otherwise`` is what that would come to."""
    if start_percent > end_percent:
        raise InvalidInput(
            f"start_percent {start_percent} is after end_percent {end_percent}: {otherwise}. Make start_percent the smaller one."
        )


def is_in_range(sigma: float, start_percent: float, end_percent: float, model_sampling) -> bool:
    """Whether a noise level lies in a part of a whole run."""
    start, end = (float(model_sampling.percent_to_sigma(percent)) for percent in (start_percent, end_percent))
    return end <= sigma <= start


def read_noise_levels(sigmas: Tensor, options: dict[str, Any]) -> list[float]:
    """Sigma of a call, which has one for each frame, then those of the run's steps, if any; waits for the device once."""
    run = options.get("sample_sigmas", sigmas[:0])
    return torch.cat([sigmas[:1].to(run), run]).float().tolist()


def frames_of_window(options: dict[str, Any]) -> tuple[list[int], int] | None:
    """Numbers of a context window's frames in the clip, and how many the clip has; None where no window is in force.

    ComfyUI's anchor frame, where it adds one, comes first.
    """
    window = options.get("context_window")
    if window is not None and getattr(window, "dim", 0) == 0:
        anchor = getattr(window, "causal_anchor_index", None)
        return [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list], window.total_frames
    evolved = options.get(EVOLVED_FRAMES_KEY)
    if evolved is not None and evolved["sub_idxs"] is not None and options.get(CLIPS_KEY, 1) == 1:
        return evolved["sub_idxs"], evolved["full_length"]
    return None
