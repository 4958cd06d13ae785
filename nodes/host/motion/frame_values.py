"""Values per frame, as nodes receive them, brought to what motion modules take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ....motion_models.errors import InvalidInput

FrameValues = Tensor
"""``(f, h, w)`` in float32; f may be 1 for all frames, h and w 1 for the whole picture."""


def to_frame_values(values: Tensor | Sequence[float] | float | None, input_name: str) -> FrameValues | None:
    """Accept a number, one number for each frame, a mask ``(h, w)`` or masks ``(f, h, w)``.

    Raises:
        InvalidInput: the values are none of these, or not finite.
    """
    if values is None:
        return None
    if isinstance(values, (int, float)):
        values = [values]
    if not isinstance(values, Tensor):
        values = torch.tensor([float(value) for value in values])[:, None, None]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or not values.numel() or not torch.isfinite(values).all():
        raise InvalidInput(
            f"{input_name} has shape {tuple(values.shape)}, or values that are not finite. Expected one number or "
            "one mask per frame."
        )
    return values.float()


def take_frames(values: FrameValues, frames: Sequence[int] | None) -> FrameValues:
    """Take the values of the frames of a context window, or of all frames."""
    return values if frames is None or len(values) == 1 else values[list(frames)]


def resize(values: FrameValues, height: int, width: int) -> FrameValues:
    """Bring masks to the size of a UNet block's features."""
    if values.shape[1:] in ((1, 1), (height, width)):
        return values
    return functional.interpolate(values[None], size=(height, width), mode="bilinear")[0]
