"""How similar each frame is to be to the image that a clip is animated from, as PIA's presets have it.

Source: ``RANGE_LIST`` of open-mmlab/PIA; Zhang et al. 2023, arXiv:2312.13964, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

PRESETS: dict[str, tuple[float, ...]] = {
    "small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8),
    "medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large motion": (1.0, 0.8, *[0.7] * 8, 0.6, 0.5),
    "loop, small motion": (1.0, 0.9, 0.85, 0.85, 0.85, *[0.8] * 7, 0.85, 0.85, 0.9, 1.0),
    "loop, medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, *[0.75] * 5, 0.78, 0.79, 0.8, 0.8, 1.0),
    "loop, large motion": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1.0),
    "style transfer, small motion": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
    "style transfer, medium motion": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "style transfer, large motion": (0.5, 0.2),
    "mirrored loop, small motion": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8),
    "mirrored loop, medium motion": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "mirrored loop, large motion": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5),
}
"""By the names that nodes offer, part of saved workflows: values by distance from the image's frame; the last is that of all
further ones. Loops are stretched to a clip of another length than theirs; mirrored ones keep their pace at both ends, as
AnimateDiff-Evolved's do."""


@dataclass(frozen=True)
class Similarity:
    """Values over the frames of a clip of any length, from a preset, for an image that is one of them."""

    preset: str
    frame: int = 0  # negative: from the clip's end

    def over(self, total_frames: int) -> list[float]:
        """A value from 0 to 1 for each frame of a clip that has ``frame``."""
        values, own = PRESETS[self.preset], self.frame % total_frames
        if self.preset.startswith("loop"):
            last = max(total_frames - 1, 1)
            values = tuple(values[round(k * (len(values) - 1) / last)] for k in range(total_frames))
        elif self.preset.startswith("mirrored"):
            values = tuple(values[min(k, total_frames - 1 - k, len(values) - 1)] for k in range(total_frames))
        return [values[min(abs(k - own), len(values) - 1)] for k in range(total_frames)]
