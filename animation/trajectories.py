"""Boxes that travel over the frames of a clip: what lies in them, noise that travels with them, and what is carried to them.

Source: Qiu et al. 2024, "FreeTraj", arXiv:2406.16863: noise that is the same wherever the box is, and early attention that keeps
what is inside the box and what is outside apart. ``carry`` is Loom's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def coverage(boxes: Tensor, height: int, width: int) -> Tensor:
    """How much of each pixel lies in each frame's box, ``(f, h, w)`` from 0 to 1.

    ``boxes`` is ``(f, 4)``: centre x and y, width and height, in shares of the picture.
    """
    x, y, across, down = boxes.float().T
    return _covered(y, down, height)[:, :, None] * _covered(x, across, width)[:, None, :]


def _covered(centre: Tensor, size: Tensor, pixels: int) -> Tensor:
    edges = torch.arange(pixels + 1) / pixels
    first, last = (centre - size / 2)[:, None], (centre + size / 2)[:, None]
    return (torch.minimum(edges[1:], last) - torch.maximum(edges[:-1], first)).clamp_min(0) * pixels


def travelling_noise(noise: Tensor, boxes: Tensor, share: float, seed: int) -> Tensor:
    """Noise ``(f, c, h, w)`` that in each frame's box is, by ``share``, one patch's; a tensor of its own.

    The patch moves by whole pixels. At share 1 it is all there is in the box; between 0 and 1 each frame's own noise is mixed
    in, so that the variance stays 1.
    """
    height, width = noise.shape[-2:]
    sizes = [(max(1, round(down * height)), max(1, round(across * width))) for _, _, across, down in boxes.tolist()]
    tall, wide = (max(side) for side in zip(*sizes, strict=True))
    patch = torch.randn(noise.shape[1], tall, wide, generator=torch.Generator().manual_seed(seed)).to(noise)
    out = noise.clone()
    for frame, ((x, y, *_), (rows, columns)) in enumerate(zip(boxes.tolist(), sizes, strict=True)):
        top, left = round(y * height - rows / 2), round(x * width - columns / 2)
        up, before = (tall - rows) // 2 - top, (wide - columns) // 2 - left  # from the frame's pixels to the patch's
        ys, xs = (slice(max(top, 0), min(top + rows, height)), slice(max(left, 0), min(left + columns, width)))
        if ys.start >= ys.stop or xs.start >= xs.stop:
            continue
        own = out[frame, :, ys, xs]
        part = patch[:, ys.start + up : ys.stop + up, xs.start + before : xs.stop + before]
        out[frame, :, ys, xs] = math.sqrt(1 - share * share) * own + share * part
    return out


def carry(frames: Tensor, saliency: Tensor, paths: Sequence[Tensor]) -> Tensor:
    """Exchange, in each frame, what is in a box with the part of its size where saliency is greatest; a tensor of its own.

    ``frames`` is ``(f, c, h, w)``, ``saliency`` ``(f, h, w)``, each path ``(f, 4)``. One box after the other: none takes what is in
    another's box by then. Boxes that reach over the picture's edge are moved inside.
    """
    moved, saliency = frames.clone(), saliency.clone()
    for boxes in paths:
        for frame, box in enumerate(boxes.tolist()):
            rows, columns = _pixels(box, *frames.shape[-2:])
            tall, wide = rows.stop - rows.start, columns.stop - columns.start
            scores = functional.avg_pool2d(saliency[frame, None, None], (tall, wide), stride=1)[0, 0]
            top, left = divmod(int(scores.argmax()), scores.shape[1])
            for tensor in (moved[frame], saliency[frame]):
                there = tensor[..., top : top + tall, left : left + wide]
                subject, under = there.clone(), tensor[..., rows, columns].clone()
                there.copy_(under)
                tensor[..., rows, columns] = subject  # last, where the two overlap
            saliency[frame, rows, columns] = 0.0
    return moved


def _pixels(box: Sequence[float], height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns nearest to a box, inside the picture."""
    x, y, across, down = box
    sides = []
    for centre, share, pixels in ((y, down, height), (x, across, width)):
        size = min(max(1, round(share * pixels)), pixels)
        start = min(max(round(centre * pixels - size / 2), 0), pixels - size)
        sides.append(slice(start, start + size))
    return sides[0], sides[1]
