"""Boxes and their paths, drawn over the frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import comfy.model_management
import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor

from .drawing import PAPER

_COLOURS = ("#5aa9f0", "#f0a04b", "#6fcf8b", "#e06c9f", "#b08df0", "#d8c94f")
_FINER = 2  # drawn this much larger, for smooth lines
_DIMMED = 0.55  # of the path that is ahead


def empty_frames(frames: int, height: int, width: int) -> Tensor:
    """An IMAGE to draw paths on where there are no frames yet."""
    colour = torch.tensor(ImageColor.getrgb(PAPER)) / 255
    return colour.expand(frames, height, width, 3)


def draw_paths(images: Tensor, paths: Sequence[Tensor]) -> Tensor:
    """Draw boxes ``(f, 4)`` as ``animation/path_schedule.py`` has them over an IMAGE ``(f, h, w, c)``; an IMAGE of three channels."""
    drawn = []
    for number, image in enumerate(images[..., :3]):
        comfy.model_management.throw_exception_if_processing_interrupted()
        frame = Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())
        drawn.append(torch.from_numpy(np.asarray(_draw(frame, paths, number), dtype=np.float32) / 255))
    return torch.stack(drawn)


def _draw(frame: Image.Image, paths: Sequence[Tensor], number: int) -> Image.Image:
    width, height = (side * _FINER for side in frame.size)
    sheet = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(sheet)
    line = max(2, round(min(width, height) / 160))
    for path, name in zip(paths, cycle(_COLOURS), strict=False):
        colour = ImageColor.getrgb(name)
        points = [(x * width, y * height) for x, y, _, _ in path.tolist()]
        draw.line(points, fill=(*colour, round(255 * _DIMMED)), width=line, joint="curve")
        draw.line(points[: number + 1], fill=(*colour, 255), width=line, joint="curve")
        x, y = points[number]
        across, down = path[number, 2].item() * width / 2, path[number, 3].item() * height / 2
        draw.rectangle((x - across, y - down, x + across, y + down), outline=(*colour, 255), width=line)
        draw.ellipse((x - 2 * line, y - 2 * line, x + 2 * line, y + 2 * line), fill=(*colour, 255))
    small = sheet.resize(frame.size, Image.Resampling.BOX)
    return Image.alpha_composite(frame.convert("RGBA"), small).convert("RGB")
