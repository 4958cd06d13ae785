"""What the editor's timelines ask before a run, so that they draw what a run will do: frames of windows, values of formulas."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ....motion_models.errors import UserError
from ..motion.context_windows import windowing
from ..motion.curves import values_of_text

MOST_FRAMES = 4096  # as in the nodes' schemas


def values(asked: dict[str, Any]) -> dict[str, Any]:
    """Work out Value Schedule's or, ``inside`` a clip, Frame Values' text: ``{"values": [one per frame]}``, null if it is wrong."""
    text, hold = str(asked["text"]), float(asked.get("hold", 0.0))
    switches = (asked.get(name) is True for name in ("closed_loop", "inside"))
    try:
        return {"values": values_of_text(text, _frames(asked), asked["easing"], hold, *switches)}
    except UserError:  # told by the node when it runs
        return {"values": None}


def windows(asked: dict[str, Any]) -> dict[str, Any]:
    """Lay Context Windows' windows over a clip: the first and last frame of each, two pairs where it goes round the end.

    Of uniform schedules, which move from step to step, those of the first step; none if the clip is not cut or the settings
    are wrong.
    """
    length, overlap, stride = (int(asked.get(name, 1)) for name in ("context_length", "context_overlap", "context_stride"))
    frames, is_closed = _frames(asked), asked.get("closed_loop") is True
    try:
        settings = windowing(length, overlap, asked["context_schedule"], stride=stride, closed_loop=is_closed)
    except UserError:
        return {"windows": []}
    return {"windows": [_runs(window) for window in settings.windows(frames)] if settings.cuts(frames) else []}


def _runs(window: tuple[int, ...]) -> list[tuple[int, int]]:
    turns = [place for place, (frame, following) in enumerate(pairwise(window), 1) if following < frame]
    return [(window[begin], window[end - 1]) for begin, end in pairwise([0, *turns, len(window)])]


def _frames(asked: dict[str, Any]) -> int:
    frames = int(asked["frames"])
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"frames is {frames}, but it must be from 1 to {MOST_FRAMES}.")
    return frames
