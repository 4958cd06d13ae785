"""Frames that the editor plays in the sampler's node while it samples."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from comfy.cli_args import LatentPreviewMethod, args
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from ..editor import send, wants_previews

EVENT = "loom.preview"
MOST_FRAMES = 32  # shown; of a longer clip, every n-th
MOST_CLIPS = 4  # shown, side by side
LONGEST_SIDE = 96  # of a frame, in pixels
SECONDS_BETWEEN = 0.25  # at least, so that fast steps do not wait for pictures


def with_moving_preview(callback: Callable | None, model: ModelPatcher, clips: int) -> Callable | None:
    """A sampler's ``callback``, which also sends the frames so far to the editor, if one wants them.

    Where ComfyUI shows previews of its own, they are shown alone.
    """
    latent_format = model.model.latent_format
    if (
        not wants_previews()
        or args.preview_method != LatentPreviewMethod.NoPreviews
        or latent_format.latent_rgb_factors is None
    ):
        return callback
    last_sent = 0.0

    def call(step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        nonlocal last_sent
        if callback is not None:
            callback(step, x0, x, total_steps)
        if x0.ndim == 4 and time.monotonic() - last_sent >= SECONDS_BETWEEN:
            frames = frames_to_show(x0, latent_format, clips)
            send(EVENT, {"total": len(x0) // clips, "frames": len(frames), "film": as_film(frames)})
            last_sent = time.monotonic()

    return call


def frames_to_show(latents: Tensor, latent_format: LatentFormat, clips: int) -> Tensor:
    """Latents ``(clips f) c h w`` in colour, roughly: bytes ``f h w 3``, clips side by side, larger ones made smaller."""
    by_clip = latents.unflatten(0, (clips, -1))[:MOST_CLIPS]
    count = by_clip.shape[1]
    shown = min(count, MOST_FRAMES)
    x = by_clip[:, [i * count // shown for i in range(shown)]].flatten(0, 1).float()
    if (side := max(x.shape[-2:])) > LONGEST_SIDE:
        x = F.interpolate(x, size=[max(length * LONGEST_SIDE // side, 1) for length in x.shape[-2:]], mode="area")
    factors = torch.tensor(latent_format.latent_rgb_factors, device=x.device)
    bias = latent_format.latent_rgb_factors_bias
    colours = F.linear(x.movedim(1, -1), factors.T, None if bias is None else torch.tensor(bias, device=x.device))
    pixels = colours.add(1).mul(127.5).clamp(0, 255).byte().cpu()
    return torch.cat(list(pixels.unflatten(0, (-1, shown))), dim=2)


def as_film(frames: Tensor) -> str:
    """Bytes ``f h w 3`` as a JPEG, one frame below the other, in base64."""
    film = io.BytesIO()
    Image.fromarray(frames.flatten(0, 1).numpy()).save(film, "JPEG", quality=85, subsampling=0)
    return base64.b64encode(film.getvalue()).decode("ascii")
