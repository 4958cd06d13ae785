"""Weights and inputs that follow from their names alone, so that two programs make the same ones."""

from __future__ import annotations

import zlib

import torch

BLOCK_CHANNELS = (32, 64, 128, 128)
CONTEXT_DIM, SPATIAL_HEADS = 16, 8
BATCH, FRAMES, SIZE, TIMESTEP = 2, 5, 16, 601

# use_inflated_groupnorm, motion_module_mid_block, temporal_position_encoding_max_len of inference-v1/v2/v3.yaml
FAMILIES = {"V1": (False, False, 24), "V2": (True, True, 32), "V3": (True, False, 32)}


def seeded(name: str, shape: tuple[int, ...], is_norm_weight: bool = False) -> torch.Tensor:
    """A tensor drawn from a generator seeded with its name; matrices scaled by fan-in."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator)
    if len(shape) < 2:
        return values * 0.1 + float(is_norm_weight)
    return values * torch.Size(shape[1:]).numel() ** -0.5


def is_norm_weight(name: str) -> bool:
    return "norm" in name and name.endswith(".weight")


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Latents ``b f c h w`` and text embeddings ``b n c``."""
    return seeded("latents", (BATCH, FRAMES, 4, SIZE, SIZE)) * 16, seeded("context", (BATCH, 7, CONTEXT_DIM)) * 5


MODULE_CHANNELS = 64


def module_input() -> torch.Tensor:
    """Features ``b f c h w`` for one motion module; each frame has another brightness, so that norms over frames tell."""
    frames = torch.linspace(0.5, 2.0, FRAMES).view(1, FRAMES, 1, 1, 1)
    return seeded("features", (BATCH, FRAMES, MODULE_CHANNELS, 4, 3)) * 24 * frames + frames


SPARSE = ("rgb", "scribble")
SPARSE_FRAMES, SPARSE_SIZE, SPARSE_PLACES = 4, 8, (1, 3)


def sparse_inputs(kind: str) -> tuple[torch.Tensor, ...]:
    """For SparseCtrl: latents, images or their latents and mask ``1 f c h w``, text embeddings ``1 n c``, and a timestep."""
    channels, size = (4, SPARSE_SIZE) if kind == "rgb" else (3, 8 * SPARSE_SIZE)
    mask = torch.zeros(1, SPARSE_FRAMES, 1, size, size)
    mask[:, list(SPARSE_PLACES)] = 1.0
    images = seeded("images", (1, SPARSE_FRAMES, channels, size, size)) * (SPARSE_FRAMES * channels) ** 0.5 * size * mask
    latents = seeded("latents", (1, SPARSE_FRAMES, 4, SPARSE_SIZE, SPARSE_SIZE)) * 16
    return latents, images, mask, seeded("context", (1, 7, CONTEXT_DIM)) * 5, torch.tensor(TIMESTEP)


def pia_weights() -> dict[str, torch.Tensor]:
    """PIA's own weights besides its motion modules'; what is for the model's own channels and the bias are not used."""
    channels = BLOCK_CHANNELS[0]
    return {"conv_in.weight": seeded("pia.conv_in.weight", (channels, 9, 3, 3)), "conv_in.bias": seeded("pia.conv_in.bias", (channels,))}


def pia_image() -> tuple[torch.Tensor, int, int]:
    """The image's latent ``1 c h w``, the frame that it is, and the number of a preset in PIA's list."""
    return seeded("image", (1, 4, SIZE, SIZE)) * 32, 1, 2


I2V_DRIFT, I2V_SIZE = 0.8, (9, 7)


def i2v_images(size: tuple[int, int] = (SIZE, SIZE)) -> torch.Tensor:
    """AnimateLCM-I2V's images as latents ``b c h w``, one for each clip."""
    return seeded("images", (BATCH, 4, *size)) * (BATCH * 4 * size[0] * size[1]) ** 0.5


CAMERA_PICTURE = (24, 16)  # height and width, in pixels, of rays that are recorded as they are
CAMERA_WAY = ((0.0, 0.0, 0.0), (0.1, -0.2, 0.3), (0.4, -0.3, 0.9), (0.6, 0.1, 1.4), (0.5, 0.4, 2.0))


def camera_text() -> str:
    """A path of a camera as RealEstate10K writes it: an address, then a line for each frame."""
    lines = ["https://example.org/video"]
    for frame, way in enumerate(CAMERA_WAY):
        rotation, upper = torch.linalg.qr(torch.eye(3) + 0.15 * frame * seeded("camera", (3, 3)))
        rotation = rotation * upper.diagonal().sign()
        matrix = torch.cat([rotation, torch.tensor(way)[:, None] + 0.5], dim=1)
        numbers = [0.47 + 0.01 * frame, 0.84, 0.5, 0.5, 0.0, 0.0, *matrix.flatten().tolist()]
        lines.append(f"{frame * 33333} " + " ".join(f"{number:.9f}" for number in numbers))
    return "\n".join(lines)
