"""A small picture of a plan: which frames are seen together, and when which motion model runs."""

from __future__ import annotations

from torch import Tensor

from ....animation.plan import Plan, stretches
from .drawing import BLUE, LINE, ORANGE, QUIET, Canvas

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT = 28, _WIDTH - 28
_BARS_LEFT = 290
_LONGEST_NAME = 34


def draw_plan(plan: Plan) -> Tensor:
    """Draw a plan; an IMAGE, ``(1, 360, 640, 3)``."""
    picture = _Picture(_WIDTH, _HEIGHT)
    picture.windows(plan, 14, 206)
    picture.motion_models(plan, 220, _HEIGHT - 14)
    return picture.to_image()


class _Picture(Canvas):
    """The parts of the picture."""

    def windows(self, plan: Plan, top: float, bottom: float) -> None:
        """A row for each window of the first step, a bar where it has frames."""
        self.card(14, top, _WIDTH - 14, bottom)
        windows = plan.windows_by_step[0]
        title = "All frames at once" if plan.windows is None else f"{len(windows)} context windows of {plan.windows.length} frames"
        self.text(_LEFT, top + 10, title, colour=QUIET)
        self.text(_RIGHT, top + 10, f"cost {plan.relative_cost:.2f} x", colour=QUIET, anchor="ra")
        frame_width = (_RIGHT - _LEFT) / plan.frames
        gap = 0.12 * frame_width if frame_width > 4 else 0
        first, height = top + 38, min((bottom - 26 - top - 38) / len(windows), 22)
        for row, window in enumerate(windows):
            y = first + row * height
            for begin, end in stretches(window):
                for frame in range(begin, end + 1):
                    x = _LEFT + frame * frame_width
                    self.rectangle(x + gap, y, x + frame_width - gap, y + 0.8 * height, BLUE)
        self.text(_LEFT, bottom - 20, "frame 0", size=12, colour=QUIET)
        self.text(_RIGHT, bottom - 20, f"{plan.frames - 1}", size=12, colour=QUIET, anchor="ra")

    def motion_models(self, plan: Plan, top: float, bottom: float) -> None:
        """A row for each motion model, a bar for its part of the sampling."""
        self.card(14, top, _WIDTH - 14, bottom)
        title = "Motion models over the sampling" if plan.models else "No motion model"
        self.text(_LEFT, top + 10, title, colour=QUIET)
        if not plan.models:
            return
        width, height = _RIGHT - _BARS_LEFT, min((bottom - 26 - top - 38) / len(plan.models), 22)
        for row, model in enumerate(plan.models):
            y = top + 38 + row * height
            middle = y + 0.4 * height
            size = max(int(min(13, 0.8 * height)), 1)
            self.text(_LEFT, middle, _shortened(model.file_name), size=size, anchor="lm")
            self.rectangle(_BARS_LEFT, y, _RIGHT, y + 0.8 * height, LINE)
            begin, end = (_BARS_LEFT + width * share for share in (model.start_percent, model.end_percent))
            self.rectangle(begin, y, end, y + 0.8 * height, ORANGE)
        self.text(_BARS_LEFT, bottom - 20, "0%", size=12, colour=QUIET)
        self.text(_RIGHT, bottom - 20, "100%", size=12, colour=QUIET, anchor="ra")


def _shortened(name: str) -> str:
    """A name that fits; its end tells more than its middle."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 17]}...{name[-14:]}"
