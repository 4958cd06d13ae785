"""Pictures to look at: many frames as one image, and loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor


def contact_sheet(rows: Sequence[Tensor], labels: Sequence[str], enlarge: int = 1) -> Image.Image:
    """Lay out images in rows with a line of text above each.

    Args:
        rows: ``(f, 3, h, w)`` RGB from 0 to 1 each.
        labels: one for each row.
        enlarge: whole-number factor.
    """
    text_height, gap = 14, 2
    height = sum(row.shape[2] * enlarge + text_height + gap for row in rows)
    width = max(len(row) * (row.shape[3] * enlarge + gap) for row in rows)
    sheet = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for row, label in zip(rows, labels, strict=True):
        draw.text((2, top), label, fill="black")
        top += text_height
        for i, frame in enumerate(row):
            image = Image.fromarray((frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
            image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST)
            sheet.paste(image, (i * (image.width + gap), top))
        top += row.shape[2] * enlarge + gap
    return sheet


def loss_curve(losses: Sequence[tuple[int, float]], title: str, path: Path) -> None:
    """Draw a loss curve, on a logarithmic scale, as a small PNG."""
    width, height, left, bottom = 480, 200, 46, 22
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    steps, values = torch.tensor([step for step, _ in losses]).float(), torch.tensor([loss for _, loss in losses]).log10()
    low, high = values.min().item(), values.max().item()
    xs = left + steps / steps.max() * (width - left - 10)
    ys = height - bottom - (values - low) / max(high - low, 1e-9) * (height - bottom - 26)
    draw.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=(40, 90, 200), width=2)
    draw.line([(left, 20), (left, height - bottom), (width - 8, height - bottom)], fill="black")
    for value, y in ((high, 20), (low, height - bottom - 10)):
        draw.text((2, y), f"{10**value:.3g}", fill="black")
    draw.text((left, 4), title, fill="black")
    draw.text((width - 70, height - 16), f"step {int(steps.max())}", fill="black")
    image.save(path)
