"""Where the one subject of a clip is, frame by frame, if it stands out from a plain background."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .motion_field import window_mean

_NOTHING = 0.03  # a distance in RGB, of 1 for each channel; less from the background is no subject


def subject_path(frames: Tensor) -> Tensor:
    """Find the centre of what differs from the background in each frame.

    The background is the median colour along the border; what differs half as much from it as the most different place
    belongs to the subject. Each frame is looked at by itself, so the frames need not have anything to do with each other.

    Args:
        frames: ``(f, h, w, c)`` from 0 to 1; an alpha channel is left out.

    Returns:
        ``(f, 2)`` centres (x to the right, y down) in pixels; the middle of the frame where nothing differs.
    """
    return torch.stack([_centre(frame[..., :3].float()) for frame in frames])


def path_direction(path: Tensor, least: float = 2.0) -> str:
    """Say where a path leads: right, left, up, down or still.

    Args:
        path: ``(f, 2)`` as ``subject_path`` gives it, at least two points.
        least: pixels that the straight line that fits best must cover in the longer direction not to be still.
    """
    times = torch.linspace(-0.5, 0.5, len(path), dtype=path.dtype, device=path.device)[:, None]
    x, y = ((times * path).sum(0) / times.square().sum()).tolist()
    if max(abs(x), abs(y)) < least:
        return "still"
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"


def _centre(frame: Tensor) -> Tensor:
    h, w = frame.shape[:2]
    border = torch.cat([frame[0], frame[-1], frame[:, 0], frame[:, -1]])
    distance = (frame - border.median(0).values).norm(dim=-1)
    most = window_mean(distance[None, None]).max()  # of a window's mean, so that no single pixel is the subject
    if most < _NOTHING * math.sqrt(frame.shape[-1]):
        return frame.new_tensor([w / 2, h / 2])
    # From a quarter to three quarters of the way, so that soft edges give fractions of a pixel.
    share = (2 * distance / most - 0.5).clamp(0, 1)
    x = torch.arange(w, device=frame.device) + 0.5
    y = torch.arange(h, device=frame.device) + 0.5
    return torch.stack([(share.sum(0) * x).sum(), (share.sum(1) * y).sum()]) / share.sum()
