"""What the pack's small pictures are drawn with."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FINER = 3  # drawn this much larger, then made smaller, for smooth lines
PAPER, CARD, LINE = "#17191d", "#212429", "#3a3f47"
TEXT, QUIET = "#eef0f3", "#9aa2ad"


class Picture:
    """Drawing in pixels of the final picture."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * FINER, height * FINER), PAPER)
        self.draw = ImageDraw.Draw(self._image)

    def to_image(self) -> Tensor:
        """An IMAGE, ``(1, height, width, 3)``."""
        small = self._image.resize((self.width, self.height), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None]

    def card(self, left: float, top: float, right: float, bottom: float) -> None:
        self.draw.rounded_rectangle(larger(left, top, right, bottom), 8 * FINER, fill=CARD)

    def text(self, x: float, y: float, text: str, size: int = 14, colour: str = TEXT, anchor: str = "la") -> None:
        self.draw.text(larger(x, y), text, fill=colour, font=ImageFont.load_default(size * FINER), anchor=anchor)

    def text_width(self, text: str, size: int = 14) -> float:
        return ImageFont.load_default(size * FINER).getlength(text) / FINER


def larger(*coordinates: float) -> list[float]:
    """Coordinates of the final picture as those of the larger one that is drawn."""
    return [coordinate * FINER for coordinate in coordinates]


def round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
