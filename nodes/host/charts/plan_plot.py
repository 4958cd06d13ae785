"""A small picture of a plan: which frames are seen together, and when which motion model runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ....animation.plan import Plan
from .drawing import BLUE, LINE, ORANGE, TEXT, Canvas

_LEFT, _RIGHT = 28, 612
_LONGEST_NAME = 34


def draw_plan(plan: Plan) -> Tensor:
    """Draw a row for each window of the first step, and one for each motion model; an IMAGE, ``(1, 360, 640, 3)``."""
    picture = Canvas(640, 360)
    windows = plan.windows_by_step[0]
    cut = plan.windows
    title = f"{len(windows)} context windows of {cut.length} frames" if cut else "All frames at once"
    picture.card(14, 14, 626, 206, title)
    picture.text(_RIGHT, 24, f"cost {plan.relative_cost:.2f} x", size=14, anchor="ra")
    width = (_RIGHT - _LEFT) / plan.frames
    gap = 0.12 * width if width > 4 else 0
    for y, height, window in _rows(52, 180, windows):
        for frame in window:
            x = _LEFT + frame * width
            picture.rectangle(x + gap, y, x + width - gap, y + height, BLUE)
    picture.text(_LEFT, 186, "frame 0")
    picture.text(_RIGHT, 186, f"{plan.frames - 1}", anchor="ra")
    picture.card(14, 220, 626, 346, "Motion models over the sampling" if plan.models else "No motion model")
    left = 290
    for y, height, model in _rows(258, 320, plan.models):
        name = model.file_name
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 17]}...{name[-14:]}"  # a name's end tells more than its middle
        picture.text(_LEFT, y + height / 2, name, size=max(int(min(13, height)), 1), colour=TEXT, anchor="lm")
        picture.rectangle(left, y, _RIGHT, y + height, LINE)
        begin, end = (left + (_RIGHT - left) * share for share in (model.start_percent, model.end_percent))
        picture.rectangle(begin, y, end, y + height, ORANGE)
    if plan.models:
        picture.text(left, 326, "0%")
        picture.text(_RIGHT, 326, "100%", anchor="ra")
    return picture.to_image()


def _rows(top: float, bottom: float, items: Sequence[Any]) -> Iterator[tuple[float, float, Any]]:
    """Where each item's bar begins, and its height."""
    for number, item in enumerate(items):
        height = min((bottom - top) / len(items), 22)
        yield top + number * height, 0.8 * height, item
