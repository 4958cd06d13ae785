"""A small picture of a clip's measures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ....animation.metrics import AnimationMetrics
from .drawing import BLUE, LINE, ORANGE, PALE_BLUE, PALE_ORANGE, QUIET, Canvas, round_up

_WIDTH, _HEIGHT = 640, 360
_NUMBERS_LEFT = 424


def draw_metrics(metrics: AnimationMetrics) -> Tensor:
    """Draw flicker and steps over the frames, the numbers beside them; an IMAGE, ``(1, 360, 640, 3)``."""
    picture = _Picture(_WIDTH, _HEIGHT)
    picture.chart(14, "Flicker of each frame", metrics.frame_flicker, metrics.frame_flicker)
    edges = [edge - 1 for edge in metrics.edges]
    title = "Step to the next frame; bright: what motion does not explain"
    picture.chart(188, title, metrics.frame_changes, metrics.frame_steps, edges)
    picture.card(_NUMBERS_LEFT, 14, _WIDTH - 14, _HEIGHT - 14)
    rows = [
        ("Flicker", f"{metrics.flicker:.2f}"),
        ("Motion", f"{metrics.motion_amount:.2f} %"),
        ("Direction", metrics.direction_word),
        ("Consistency", f"{metrics.frame_consistency:.3f}"),
        ("Loop closure", f"{metrics.loop_closure:.2f}"),
        ("Worst seam", f"{metrics.worst_seam:.2f}" if edges else "-"),
        ("Colour drift", f"{metrics.colour_drift:.2f}"),
    ]
    for row, (name, value) in enumerate(rows):
        picture.number(29 + 33 * row, name, value)
    picture.dial(_NUMBERS_LEFT + 101, 300, 32, metrics)
    return picture.to_image()


class _Picture(Canvas):
    """The parts of the picture."""

    def number(self, top: float, name: str, value: str) -> None:
        self.text(_NUMBERS_LEFT + 16, top, name, colour=QUIET)
        self.text(_WIDTH - 30, top - 2, value, size=17, anchor="ra")

    def chart(
        self, top: float, title: str, values: Sequence[float], wholes: Sequence[float], marked: Sequence[int] = ()
    ) -> None:
        """Bars of wholes that are bright up to the values, orange ones where marked."""
        self.card(14, top, _NUMBERS_LEFT - 14, top + 158)
        self.text(28, top + 10, title, colour=QUIET)
        left, right, floor, ceiling = 60, _NUMBERS_LEFT - 28, top + 132, top + 40
        highest = round_up(max(1.0, *values, *wholes))
        for share in (0, 0.5, 1):
            y = floor + (ceiling - floor) * share
            self.line(left, y, right, y)
            self.text(left - 7, y, f"{highest * share:g}", size=12, colour=QUIET, anchor="rm")
        width = (right - left) / len(values)
        gap = 0.12 * width if width > 4 else 0
        for i in sorted(range(len(values)), key=lambda i: i in marked):  # of more bars than pixels, marked ones are on top
            bright, pale = (ORANGE, PALE_ORANGE) if i in marked else (BLUE, PALE_BLUE)
            begin = left + i * width + gap
            for value, colour in ((wholes[i], pale), (values[i], bright)):
                y = floor + (ceiling - floor) * value / highest
                self.rectangle(begin, y, begin + max(width - 2 * gap, 1), floor, colour)
        self.text(left + width / 2, floor + 6, "0", size=12, colour=QUIET, anchor="ma")
        self.text(right - width / 2, floor + 6, str(len(values) - 1), size=12, colour=QUIET, anchor="ma")

    def dial(self, x: float, y: float, radius: float, metrics: AnimationMetrics) -> None:
        """A circle with an arrow where the motion goes, or a dot if nowhere."""
        self.ring(x, y, radius, LINE)
        if metrics.direction_word in ("still", "mixed"):
            self.circle(x, y, 4, BLUE)
            return
        angle = math.radians(metrics.motion_direction)

        def at(distance: float, turned: float = 0.0) -> tuple[float, float]:
            away = distance * radius
            return x + away * math.cos(angle + turned), y - away * math.sin(angle + turned)

        self.line(*at(-0.72), *at(0.5), colour=BLUE, width=4)
        self.polygon(*at(0.8), *at(0.46, 0.62), *at(0.46, -0.62), colour=BLUE)
