"""Drawing for small pictures of numbers: their colours, and lines that come out smooth."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_FINER = 3  # drawn this much larger, then made smaller, for smooth lines
PAPER, CARD, LINE = "#17191d", "#212429", "#3a3f47"
TEXT, QUIET = "#eef0f3", "#9aa2ad"
BLUE, PALE_BLUE, ORANGE, PALE_ORANGE = "#5aa9f0", "#34506b", "#f0a04b", "#7a5a36"


class Canvas:
    """Drawing in pixels of the final picture."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._image = Image.new("RGB", (width * _FINER, height * _FINER), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def to_pil(self) -> Image.Image:
        return self._image.resize(self._size, Image.Resampling.BOX)

    def to_image(self) -> Tensor:
        """An IMAGE, ``(1, h, w, 3)``."""
        return torch.from_numpy(np.asarray(self.to_pil(), dtype=np.float32) / 255)[None]

    def card(self, left: float, top: float, right: float, bottom: float, title: str = "") -> None:
        self._draw.rounded_rectangle(_larger(left, top, right, bottom), 8 * _FINER, fill=CARD)
        self.text(left + 14, top + 10, title, size=14)

    def text(self, x: float, y: float, text: str, size: int = 12, colour: str = QUIET, anchor: str = "la") -> None:
        self._draw.text(_larger(x, y), text, fill=colour, font=_font(size), anchor=anchor)

    def line(self, *points: float, colour: str = LINE, width: int = 1) -> None:
        self._draw.line(_larger(*points), fill=colour, width=width * _FINER)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self._draw.rectangle(_larger(left, top, right, bottom), fill=colour)

    def polygon(self, *points: float, colour: str) -> None:
        self._draw.polygon(_larger(*points), fill=colour)

    def circle(self, x: float, y: float, radius: float, colour: str | None, outline: str | None = None) -> None:
        corners = _larger(x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse(corners, fill=colour, outline=outline, width=2 * _FINER)


def text_width(text: str, size: int) -> float:
    return _font(size).getlength(text) / _FINER


def round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size * _FINER)  # unpacks the font at each call


def _larger(*coordinates: float) -> list[float]:
    return [coordinate * _FINER for coordinate in coordinates]
