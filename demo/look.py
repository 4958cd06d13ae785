"""Judge a demo animation by rules, not by a network: which colour and shape is there, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .clips import COLOURS, DIRECTIONS, SHAPES, signed_distance


@dataclass(frozen=True)
class Judgement:
    """What is seen in an animation.

    Attributes:
        colour: the named colour nearest to the subject's, over all frames.
        shape: the shape that overlaps the subject best, over all frames.
        direction: a key of ``DIRECTIONS``, that of the path from first to last frames, or "still".
        travel: length of that path in half image widths.
    """

    colour: str
    shape: str
    direction: str
    travel: float


def judge(frames: Tensor, outlined: bool = False) -> Judgement:
    """Look at an animation.

    Args:
        frames: ``(f, 3, h, w)`` RGB from 0 to 1.
        outlined: shapes are drawn as lines, so what they enclose counts as the shape.
    """
    masks = subject_masks(frames)
    path = centroids(masks)
    return Judgement(_colour(frames, masks), _shape(_filled(masks) if outlined else masks), *_direction(path))


def subject_masks(frames: Tensor) -> Tensor:
    """Tell subject from background, which is plain: ``(f, h, w)`` from 0 to 1.

    The background is a plane of colour fitted to the frame's border; the subject is what differs by more than half of the
    largest difference.
    """
    frames = frames.float()
    *_, height, width = frames.shape
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    plane = torch.stack([torch.ones_like(xs), xs, ys], -1).reshape(-1, 3)
    pixels = frames.flatten(2).transpose(1, 2)  # f (h w) 3
    weight = torch.ones(len(frames), height * width, 1)
    for _ in range(8):  # least squares, again and again without what doesn't fit: the subject
        coefficients = torch.linalg.lstsq(plane * weight.sqrt(), pixels * weight.sqrt()).solution
        difference = (pixels - plane @ coefficients).norm(dim=-1, keepdim=True)
        spread = difference.median(dim=1, keepdim=True).values.clamp_min(0.01)
        weight = 1 / (1 + (difference / (2 * spread)) ** 4)
    difference = difference.squeeze(-1)
    strongest = difference.quantile(0.98, dim=1, keepdim=True).clamp_min(0.1)
    return ((difference / strongest - 0.5) * 4 + 0.5).clamp(0, 1).reshape(-1, height, width)


def centroids(masks: Tensor) -> Tensor:
    """Centres of the masks in half image widths and heights, ``(f, 2)`` as ``x y``."""
    height, width = masks.shape[-2:]
    xs, ys = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)
    area = masks.sum((1, 2)).clamp_min(1e-6)
    return torch.stack([(masks * xs).sum((1, 2)) / area, (masks * ys[:, None]).sum((1, 2)) / area], dim=-1)


def _direction(path: Tensor) -> tuple[str, float]:
    quarter = max(len(path) // 4, 1)
    move = path[-quarter:].mean(0) - path[:quarter].mean(0)
    travel = move.norm().item()
    if travel < 0.15:  # a tenth of the least a moving shape travels is noise of the centroid
        return "still", travel
    return max(DIRECTIONS, key=lambda name: (move * torch.tensor(DIRECTIONS[name])).sum().item()), travel


def _colour(frames: Tensor, masks: Tensor) -> str:
    sure = (masks > 0.9).float()[:, None]
    mean = (frames * sure).sum((0, 2, 3)) / sure.sum().clamp_min(1)
    return min(COLOURS, key=lambda name: (mean - torch.tensor(COLOURS[name])).norm().item())


def _filled(masks: Tensor) -> Tensor:
    """Fill what lines enclose: a pixel is inside if there is line on all four sides of it."""
    line = masks > 0.5
    sides = [line.long().cumsum(dim) > 0 for dim in (1, 2)] + [line.flip(dim).long().cumsum(dim).flip(dim) > 0 for dim in (1, 2)]
    return torch.stack(sides).all(0).float()


def _shape(masks: Tensor) -> str:
    """The shape whose best placement covers the masks best (intersection over union), summed over the frames."""
    height, width = masks.shape[-2:]
    xs, ys = torch.linspace(-1, 1, width)[None, None, :], torch.linspace(-1, 1, height)[None, :, None]
    path, area = centroids(masks), masks.mean((1, 2)) * 4  # in half widths squared
    scores = {}
    for shape in SHAPES:
        best = torch.zeros(len(masks))
        for size in (0.9, 1.0, 1.1):
            unit_area = {"circle": 3.1416, "square": 3.1684, "triangle": 2.6937}[shape]
            radius = (area / unit_area).sqrt() * size
            x, y = xs - path[:, 0, None, None], ys - path[:, 1, None, None]
            ideal = (signed_distance(shape, x, y, radius[:, None, None]) < 0).float()
            both = torch.minimum(ideal, masks).sum((1, 2))
            best = torch.maximum(best, both / torch.maximum(ideal, masks).sum((1, 2)).clamp_min(1e-6))
        scores[shape] = best.sum().item()
    return max(scores, key=scores.__getitem__)
