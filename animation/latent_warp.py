"""The warp start of Text2Video-Zero: frames that begin as one picture, each moved on a little further.

Source: Khachatryan et al. 2023, "Text2Video-Zero", arXiv:2303.13439, section 3.3.1.

The paper scales latents so that their variance stays 1. Here, as in ComfyUI, a latent is ``x = x0 + sigma * noise``: the
paper's, divided by ``sqrt(alpha_bar)``, with ``sigma = sqrt((1 - alpha_bar) / alpha_bar)``. A warp only moves pixels, so
it is the same for both; the forward process from t0 to t1,
``sqrt(a) x + sqrt(1 - a) noise`` with ``a = alpha_bar_1 / alpha_bar_0``, becomes ``x + sqrt(sigma_1^2 - sigma_0^2) noise``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_REFERENCE_SIZE = 512  # pixels of a side of the picture in which the paper counts motion


class WarpSchedule(NamedTuple):
    """A sampler's sigmas with stops at t0 and t1."""

    sigmas: Tensor
    steps_before: int  # how many of its steps lie before t1
    from_t1_to_t0: Tensor  # the first frame's way on to t0

    @property
    def to_t1(self) -> Tensor:
        """The first frame's way to t1; one sigma alone, which is no step, where the run starts there."""
        return self.sigmas[: self.steps_before + 1]

    @property
    def from_t1(self) -> Tensor:
        """All frames' way from t1 to the end."""
        return self.sigmas[self.steps_before :]


def plan_warp_start(sigmas: Tensor, sigma_0: float, sigma_1: float) -> WarpSchedule | None:
    """Put stops at t1 and t0 into a sampler's falling sigmas; ``sigma_1`` is not below ``sigma_0``.

    The sigma nearest to each is moved onto it, so that no step gets tiny; only the very first stays, and then t1 is one
    more. Where a run starts below t1, t1 is its start. None if it starts below t0 or ends above t1, and so has no place
    for a warp start.
    """
    start = float(sigmas[0])
    sigma_1 = min(sigma_1, start)
    if start <= sigma_0 or float(sigmas[-1]) >= sigma_1:
        return None
    place_1, place_0 = _nearest(sigmas[:-1], sigma_1), _nearest(sigmas, sigma_0)
    before = sigmas[: max(place_1, 1)]
    before = before[before > sigma_1]
    stop_0, stop_1 = sigmas.new_tensor([sigma_0]), sigmas.new_tensor([sigma_1])
    return WarpSchedule(
        sigmas=torch.cat([before, stop_1, sigmas[place_1 + 1 :]]),
        steps_before=len(before),
        from_t1_to_t0=torch.cat([stop_1, sigmas[place_1 + 1 : place_0], stop_0]),
    )


def _nearest(sigmas: Tensor, sigma: float) -> int:
    return int((sigmas.log() - sigmas.new_tensor(sigma).log()).abs().argmin())


def warp(latents: Tensor, num_frames: int, motion_x: float, motion_y: float) -> Tensor:
    """Move a camera steadily over a picture ``b c h w`` for each clip: ``b f c h w``, of which frame 0 is the picture.

    From frame to frame it goes ``motion_x`` 512ths of the width to the right and ``motion_y`` of the height down; the
    picture's edges are mirrored.
    """
    height, width = latents.shape[-2:]
    frames = [latents]
    for frame in range(1, num_frames):
        rows = _moved_places(height, frame * motion_y, latents.device)
        columns = _moved_places(width, frame * motion_x, latents.device)
        frames.append(latents[..., rows[:, None], columns])
    return torch.stack(frames, dim=1)


def _moved_places(size: int, motion: float, device: torch.device) -> Tensor:
    # As the paper's code finds them: half a pixel of 512 less, then to the nearest whole latent pixel.
    shift = round((motion - 0.5) * size / _REFERENCE_SIZE)
    places = (torch.arange(size, device=device) + shift) % (2 * size)
    return torch.where(places < size, places, 2 * size - 1 - places)


def add_noise(latents: Tensor, noise: Tensor, sigma_0: float, sigma_1: float) -> Tensor:
    """Take latents from sigma_0 up to sigma_1 by the forward process; ``noise`` has variance 1."""
    return latents + noise * max(sigma_1**2 - sigma_0**2, 0.0) ** 0.5
