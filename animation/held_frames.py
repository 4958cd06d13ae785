"""How much a clip's frames are held to those that are given, and how much of them a sampler may change."""

from __future__ import annotations

from collections.abc import Sequence

from .schedule import Easing, Pace


def shares_of_frames(given: Sequence[int], total_frames: int, falloff: float, easing: Easing = Easing.LINEAR) -> list[float]:
    """For each frame, 1 where it is given, less for frames up to ``falloff`` away, 0 beyond.

    ``falloff`` is how many neighbours on each side have a share; with ``Easing.HOLD`` it is a whole one.
    """

    def share(frame: int) -> float:
        near = max(0.0, 1.0 - min(abs(frame - place) for place in given) / (falloff + 1.0))
        return float(near > 0.0) if easing is Easing.HOLD else Pace(easing).ease(near)

    return [share(frame) for frame in range(total_frames)]


def nearest_given(given: Sequence[int], total_frames: int) -> list[int]:
    """For each frame, the number of the given frame nearest to it, the earlier one of two."""
    return [min(range(len(given)), key=lambda number: abs(given[number] - frame)) for frame in range(total_frames)]
