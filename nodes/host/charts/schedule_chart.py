"""Schedules as pictures: the weights of prompts, and values, over the frames of a clip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

from torch import Tensor

from .drawing import QUIET, TEXT, Canvas, round_up, text_width

_LEFT, _RIGHT, _FLOOR, _CEILING = 66, 606, 206, 56
_COLOURS = ("#5aa9f0", "#f0a04b", "#6fcf8b", "#e06c9f", "#b08df0", "#d8c94f", "#5fd0c8", "#c98f6b")
_ROW, _MOST_ROWS = 22, 8


def draw_weights(weights: Mapping[str, Mapping[int, float]], frames: int, shared: tuple[str, str] = ("", "")) -> Tensor:
    """Draw a line for each prompt, and the prompts below; an IMAGE, ``(1, height, 640, 3)``.

    ``weights`` has, by prompt, those above 0 by frame; ``shared`` is the words before every prompt, and those after it.
    """
    rows = [(text or "(empty)", colour) for colour, text in zip(cycle(_COLOURS), weights, strict=False)]
    if len(rows) > _MOST_ROWS:
        rows[_MOST_ROWS - 1 :] = [(f"and {len(rows) - _MOST_ROWS + 1} more", None)]
    for where, text in zip(("before", "after"), shared, strict=True):
        if text:
            rows.append((f"{where} each: {text}", None))
    lines = [(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")]
    picture = _Chart(_FLOOR + 60 + _ROW * len(rows), "Weight of each prompt", lines, frames)
    for colour, numbers in zip(cycle(_COLOURS), weights.values(), strict=False):
        picture.curve(numbers, colour)
    for row, (text, row_colour) in enumerate(rows):
        picture.legend(_FLOOR + 40 + _ROW * row, text, row_colour)
    return picture.to_image()


def draw_values(values: Sequence[float]) -> Tensor:
    """Draw numbers over the frames; an IMAGE, ``(1, 254, 640, 3)``."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high)) or 1.0
    if high - low < 1e-6 * size:  # all the same
        low, high = low - size / 2, high + size / 2
    step = round_up((high - low) / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    lines = [((number - first) / (last - first), f"{number * step:.5g}") for number in range(first, last + 1)]
    picture = _Chart(_FLOOR + 48, "Value at each frame", lines, len(values))
    picture.curve({frame: (value / step - first) / (last - first) for frame, value in enumerate(values)}, _COLOURS[0])
    return picture.to_image()


class _Chart(Canvas):
    """Lines over the frames, whose heights are shares of the plot's."""

    def __init__(self, height: int, title: str, lines: Sequence[tuple[float, str]], frames: int) -> None:
        super().__init__(640, height)
        self._frames = frames
        self.card(14, 14, 626, height - 14, title)
        for share, label in lines:
            y = self._y(share)
            self.line(_LEFT, y, _RIGHT, y)
            self.text(_LEFT - 8, y, label, anchor="rm")
        step = int(round_up(max(frames - 1, 10) / 10))
        marked = [*range(0, frames - 1, step), frames - 1]
        if len(marked) > 2 and marked[-1] - marked[-2] < 0.7 * step:
            del marked[-2]  # too near to the last frame's
        for frame in marked:
            x = self._x(frame)
            self.line(x, _FLOOR, x, _FLOOR + 4)
            self.text(x, _FLOOR + 8, str(frame), anchor="ma")

    def curve(self, heights: Mapping[int, float], colour: str) -> None:
        """Join the heights of frames; those that have none are on the floor, and are not joined with one another."""
        for frame in sorted({*heights, *(frame + 1 for frame in heights if frame + 1 < self._frames)}):
            x, y = self._x(frame), self._y(heights.get(frame, 0.0))
            if frame:
                self.line(self._x(frame - 1), self._y(heights.get(frame - 1, 0.0)), x, y, colour=colour, width=2)
            if frame in heights:
                self.circle(x, y, 2.6 if self._frames <= 40 else 1, colour)

    def legend(self, y: float, text: str, colour: str | None) -> None:
        if colour is not None:
            self.rectangle(_LEFT, y + 4, _LEFT + 14, y + 14, colour)
        shown = text = " ".join(text.split())[:200]
        while text_width(shown, 14) > _RIGHT - _LEFT - 24:
            text = text[:-1]
            shown = f"{text.rstrip()} ..."
        self.text(_LEFT + 24, y, shown, size=14, colour=QUIET if colour is None else TEXT)

    def _x(self, frame: int) -> float:
        share = frame / (self._frames - 1) if self._frames > 1 else 0.5
        return _LEFT + 6 + (_RIGHT - _LEFT - 12) * share

    def _y(self, share: float) -> float:
        return _FLOOR + (_CEILING - _FLOOR) * share
