"""Latents of clips some of whose frames are given images."""

from __future__ import annotations

from typing import Any

import torch
from comfy.sd import VAE
from torch import Tensor

from ....animation.held_frames import nearest_given, shares_of_frames
from ....animation.placed_images import Placement, Placing, frames_of_text
from ....animation.schedule import Easing
from ....motion_models.errors import InvalidInput
from ..motion.frame_values import NEEDS_FRAMES


def latent_of_stills(
    vae: VAE, images: Tensor, frames: int, placing: str, image_frames: str, hold: float, falloff: float
) -> dict[str, Any]:
    """A LATENT of ``frames`` frames from images ``(n, h, w, c)``, with a noise mask that holds the images' own frames.

    A sampler keeps what a noise mask holds on its own noised path, so the frames about it are sampled to fit. The others begin
    as the image nearest to them, which counts where the sampler denoises by less than 1. ``InvalidInput`` where the images
    cannot be placed.
    """
    listed = frames_of_text(image_frames, "image_frames") if Placing(placing) is Placing.LISTED else ()
    placement = Placement(Placing(placing), listed)
    placed = sorted(placement.frames_of(len(images), frames), key=lambda pair: pair[1])
    encoded = vae.encode(images[..., :3])
    given = [frame for _, frame in placed]
    held = torch.tensor(shares_of_frames(given, frames, falloff)).view(-1, 1, 1, 1) * hold
    return {
        "samples": encoded[[placed[nearest][0] for nearest in nearest_given(given, frames)]],
        "noise_mask": (1.0 - held).expand(-1, 1, *encoded.shape[-2:]).contiguous(),
    }


def falloff_about(
    image_frames: str, frames: int | None, falloff: float, easing: str, strength: float, elsewhere: float
) -> list[float]:
    """A number for each frame: ``strength`` at some, falling off to ``elsewhere``; ``InvalidInput`` where frames are wrong."""
    if frames is None:
        raise InvalidInput(f"frames is 0, and nothing tells how many frames the clip has. {NEEDS_FRAMES}")
    placement = Placement(Placing.LISTED, frames_of_text(image_frames, "image_frames"))
    given = [frame for _, frame in placement.frames_of(len(placement.frames), frames)]
    return [elsewhere + (strength - elsewhere) * share for share in shares_of_frames(given, frames, falloff, Easing(easing))]
