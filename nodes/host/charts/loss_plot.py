"""A small picture of the loss while it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _MARGIN = 512, 256, 14
_PAPER, _QUIET, _LINE, _EACH, _MEAN = "#17191d", "#9aa2ad", "#3a3f47", "#34506b", "#5aa9f0"
_POINTS = 240


def draw_losses(losses: Sequence[float], steps: int) -> Image.Image:
    """Draw the losses of the steps done, out of ``steps``: each of them pale, their running mean bright."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(picture)
    group = -(-len(losses) // _POINTS)
    points = [sum(part) / len(part) for part in (losses[i : i + group] for i in range(0, len(losses), group))]
    means = running_mean(points)
    low, high = min(points), max(points)

    def place(number: int, value: float) -> tuple[float, float]:
        x = _MARGIN + (number + 1) * group / max(steps, group) * (_WIDTH - 2 * _MARGIN)
        share = (value - low) / (high - low) if high > low else 0.5
        return x, _HEIGHT - _MARGIN - share * (_HEIGHT - 4 * _MARGIN)

    for y in (_HEIGHT - _MARGIN, 3 * _MARGIN):
        draw.line((_MARGIN, y, _WIDTH - _MARGIN, y), fill=_LINE)
    for values, colour, width in ((points, _EACH, 1), (means, _MEAN, 2)):
        draw.line([place(number, value) for number, value in enumerate(values)], fill=colour, width=width)
    text = f"step {len(losses)} of {steps}    loss {means[-1]:.4f}    lowest {low:.4f}, highest {high:.4f}"
    draw.text((_MARGIN, _MARGIN), text, fill=_QUIET, font=ImageFont.load_default(13))
    return picture


def running_mean(values: Sequence[float], share: float = 0.1) -> list[float]:
    """Follow the values by a tenth of the difference each time; the first ones by more, so that it starts among them."""
    means: list[float] = []
    for value in values:
        before = means[-1] if means else value
        means.append(before + (value - before) * max(share, 1 / (len(means) + 1)))
    return means
