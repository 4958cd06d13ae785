"""Values per frame, as nodes receive them, brought to what motion modules take: of some frames, of a part of the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor
from torch.nn import functional

from ....motion_models.errors import InvalidInput

FrameValues = Tensor
"""``(f, h, w)`` in float32; f may be 1 for all frames, h and w 1 for the whole picture."""

NEEDS_FRAMES = "Connect the clip's latent to it, or set frames."
KNOWN_LATER = ExecutionBlocker(f"With frames 0, as many as the clip has, this output is not known before the run. {NEEDS_FRAMES}")
"""Stands for an output with an entry for each frame; ComfyUI says the message at the node that is connected to it, if any."""


def to_frame_values(values: Tensor | Sequence[float] | float | None, input_name: str) -> FrameValues | None:
    """Accept a number, one number for each frame, a mask ``(h, w)`` or masks ``(f, h, w)``, all finite."""
    if values is None:
        return None
    if not isinstance(values, Tensor):
        numbers = [values] if isinstance(values, (int, float)) else values
        values = torch.tensor([float(number) for number in numbers])[:, None, None]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or not values.numel() or not torch.isfinite(values).all():
        raise InvalidInput(
            f"{input_name} has shape {tuple(values.shape)}, or values that are not finite. Expected one number or "
            "one mask per frame."
        )
    return values.float()


def frames_of_latent(latent: dict[str, Any]) -> int:
    """How many frames a latent's batch holds; raises InvalidInput for a video model's, which is no batch of frames."""
    samples = latent["samples"]
    if samples.is_nested or samples.ndim != 4:
        shape = "several parts" if samples.is_nested else f"shape {tuple(samples.shape)}"
        raise InvalidInput(
            f"The latent has {shape}, so it is not a batch of frames. Connect Empty Animation Latent, or frames from VAE Encode."
        )
    return len(samples)


def frames_of_clip(frames: int, latent: dict[str, Any] | None) -> int | None:
    """A clip's number of frames, from a node's inputs; None for 0, which is as many as the clip has in the run."""
    return (frames or None) if latent is None else frames_of_latent(latent)


def resize(values: FrameValues, height: int, width: int) -> FrameValues:
    """Bring masks to the size of a UNet block's features."""
    if values.shape[1:] in ((1, 1), (height, width)):
        return values
    return functional.interpolate(values[None], size=(height, width), mode="bilinear")[0]


class Area(NamedTuple):
    """A part of a picture, in latent pixels, as ComfyUI has them: its size and its upper left corner."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class Picture:
    """A whole picture that is sampled, in latent pixels, and the areas of prompts for a part of it, by ``uuid``."""

    height: int
    width: int
    areas: dict[Any, Area]

    @classmethod
    def of(cls, conds: Iterable[Iterable[dict[str, Any]] | None], x: Tensor) -> Picture:
        """Read which part of a step's latent ``x`` each cond is for, as ``comfy.samplers.get_area_and_mult`` does."""
        height, width = x.shape[-2:]
        areas = {}
        for cond in (cond for each in conds for cond in each or () if "area" in cond):
            area, dims = cond["area"], len(cond["area"]) // 2
            top, left = area[dims : dims + 2]
            areas[cond["uuid"]] = Area(min(area[0], height - top), min(area[1], width - left), top, left)
        return cls(height, width, areas)

    def cut(self, masks: Tensor, area: Area | None) -> Tensor:
        """The part of masks ``(f, h, w)`` of the whole picture, of any size, that lies in an area."""
        if area is None:
            return masks
        rows, columns = (max(pair) for pair in zip(masks.shape[1:], (self.height, self.width), strict=True))
        masks, y, x = resize(masks, rows, columns), rows / self.height, columns / self.width
        top, bottom = round(area.top * y), round((area.top + area.height) * y)
        left, right = round(area.left * x), round((area.left + area.width) * x)
        return masks[:, top:bottom, left:right]
