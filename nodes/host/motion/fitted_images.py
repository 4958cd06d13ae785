"""Images that a few frames are conditioned on, fitted to the picture that is sampled and to SD1.5's latents."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from ....motion_models.errors import InvalidInput
from .frame_values import Area, Picture

PIXELS_PER_LATENT = 8


def fit(pixels: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle of the wanted shape out of images ``(n, c, h, w)`` and resize it, as AnimateDiff's script does."""
    rows, columns = pixels.shape[-2:]
    cut_rows, cut_columns = min(rows, round(columns * height / width)), min(columns, round(rows * width / height))
    top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
    pixels = pixels[..., top : top + max(cut_rows, 1), left : left + max(cut_columns, 1)]
    if pixels.shape[-2:] == (height, width):
        return pixels
    return functional.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)


def encode_sd15(vae: Any, pixels: Tensor, what: str) -> Tensor:
    """Encode images ``(n, 3, h, w)`` as ``(n, 4, h/8, w/8)``, not scaled yet; ``InvalidInput`` if the VAE is no SD1.5's.

    ``what``, in the genitive, is named in the error.
    """
    latents = vae.encode(pixels.movedim(1, -1))
    expected = (4, *(size // PIXELS_PER_LATENT for size in pixels.shape[-2:]))
    if latents.shape[1:] != expected:
        raise InvalidInput(
            f"The VAE makes latents of shape {tuple(latents.shape[1:])} of {what}, but expected is {expected}. "
            "Connect the VAE of an SD1.5 checkpoint."
        )
    return latents


def cut(images: Tensor, picture: Picture, area: Area | None) -> Tensor:
    """The part of images ``(n, c, h, w)`` of the whole picture that lies in an area."""
    return images if area is None else picture.cut(images.flatten(0, 1), area).unflatten(0, images.shape[:2])
