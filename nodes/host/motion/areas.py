"""Parts of a picture that prompts are for, and masks of the whole picture cut to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .frame_values import resize


class Area(NamedTuple):
    """A part of a picture, in latent pixels, as ComfyUI has them: its size and its upper left corner."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class Picture:
    """A whole picture that is sampled.

    Attributes:
        height, width: in latent pixels.
        areas: of the prompts that are for a part of it, by their ``uuid``.
    """

    height: int
    width: int
    areas: dict[Any, Area]

    @classmethod
    def of(cls, conds: Iterable[Iterable[dict[str, Any]] | None], x: Tensor) -> Picture:
        """Read off the conds of a step's latent ``x`` which part of it each is for, as ``comfy.samplers.get_area_and_mult`` does."""
        size = height, width = tuple(x.shape[-2:])
        areas = {}
        for cond in (cond for each in conds for cond in each or () if "area" in cond):
            area, dims = cond["area"], len(cond["area"]) // 2
            top, left = area[dims : dims + 2]
            areas[cond["uuid"]] = Area(min(area[0], height - top), min(area[1], width - left), top, left)
        return cls(*size, areas)

    def cut(self, masks: Tensor, area: Area | None) -> Tensor:
        """The part of masks ``(f, h, w)`` of the whole picture, of any size, that lies in an area."""
        if area is None:
            return masks
        rows, columns = (max(pair) for pair in zip(masks.shape[1:], (self.height, self.width), strict=True))
        masks, y, x = resize(masks, rows, columns), rows / self.height, columns / self.width
        top, bottom = round(area.top * y), round((area.top + area.height) * y)
        left, right = round(area.left * x), round((area.left + area.width) * x)
        return masks[:, top:bottom, left:right]
