"""A small picture of the loss while it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from PIL import Image

from .drawing import BLUE, PALE_BLUE, Canvas

_POINTS = 240
_LEFT, _RIGHT, _FLOOR, _CEILING = 14, 498, 242, 42


def draw_losses(losses: Sequence[float], steps: int) -> Image.Image:
    """Draw the losses of the steps done, out of ``steps``: each of them pale, their running mean bright."""
    group = -(-len(losses) // _POINTS)
    points = [fmean(losses[i : i + group]) for i in range(0, len(losses), group)]
    means = running_mean(points)
    low, high = min(points), max(points)
    picture = Canvas(512, 256)
    for y in (_FLOOR, _CEILING):
        picture.line(_LEFT, y, _RIGHT, y)
    for values, colour, width in ((points, PALE_BLUE, 1), (means, BLUE, 2)):
        line: list[float] = []
        for number, value in enumerate(values, 1):
            share = (value - low) / (high - low) if high > low else 0.5
            x = _LEFT + (_RIGHT - _LEFT) * number * group / max(steps, group)
            line += [x, _FLOOR + (_CEILING - _FLOOR) * share]
        picture.line(*line, colour=colour, width=width)
    text = f"step {len(losses)} of {steps}    loss {means[-1]:.4f}    lowest {low:.4f}, highest {high:.4f}"
    picture.text(_LEFT, 14, text, size=13)
    return picture.to_pil()


def running_mean(values: Sequence[float], share: float = 0.1) -> list[float]:
    """Follow the values by a tenth of the difference each time; the first ones by more, so that it starts among them."""
    means: list[float] = []
    for value in values:
        before = means[-1] if means else value
        means.append(before + (value - before) * max(share, 1 / (len(means) + 1)))
    return means
