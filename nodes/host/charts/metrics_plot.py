"""A clip's measures: taken with a progress bar, in words, and as a small picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import comfy.model_management
import comfy.utils
from torch import Tensor

from ....animation.metrics import AnimationMetrics, measure, window_edges
from .drawing import BLUE, LINE, ORANGE, PALE_BLUE, PALE_ORANGE, TEXT, Canvas, round_up


def measure_clip(images: Tensor, context_length: int, context_overlap: int) -> AnimationMetrics:
    """Measure an IMAGE ``(f, h, w, c)`` and score the edges of its context windows, if their length is not 0."""
    edges = window_edges(len(images), context_length, context_overlap) if context_length else ()
    progress = comfy.utils.ProgressBar(len(images))

    def on_progress(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update_absolute(done, total)

    return measure(images, edges, on_progress)


def report(metrics: AnimationMetrics) -> str:
    """All measures in words, one a line."""
    edges, scores = metrics.edges, metrics.seam_scores
    rows = [
        ("flicker", f"{metrics.flicker:.2f}", "levels of 255; 0 is none"),
        ("motion amount", f"{metrics.motion_amount:.2f}", "% of the width per frame"),
        ("motion direction", f"{round(metrics.motion_direction) % 360}", f"degrees: {metrics.direction_word}"),
        ("frame consistency", f"{metrics.frame_consistency:.4f}", "1 is best"),
        ("loop closure", f"{metrics.loop_closure:.2f}", "about 1 or less is a loop"),
        ("worst seam", f"{metrics.worst_seam:.2f}", "about 1 is none" if edges else "not measured: no window edges"),
        ("colour drift", f"{metrics.colour_drift:.2f}", "levels of 255; 0 is none"),
    ]
    lines = [f"{name}: {value} ({meaning})" for name, value, meaning in rows]
    lines += [f"seam at frame {edge}: {score:.2f}" for edge, score in zip(edges, scores, strict=True)]
    return "\n".join(lines)


def draw_metrics(metrics: AnimationMetrics) -> Tensor:
    """Draw flicker and steps over the frames, the numbers beside them; an IMAGE, ``(1, 360, 640, 3)``."""
    picture = Canvas(640, 360)
    _draw_bars(picture, 14, "Flicker of each frame", metrics.frame_flicker, metrics.frame_flicker, ())
    edges = [edge - 1 for edge in metrics.edges]
    title = "Step to the next frame; bright: what motion does not explain"
    _draw_bars(picture, 188, title, metrics.frame_changes, metrics.frame_steps, edges)
    picture.card(424, 14, 626, 346)
    rows = [
        ("Flicker", f"{metrics.flicker:.2f}"),
        ("Motion", f"{metrics.motion_amount:.2f} %"),
        ("Direction", metrics.direction_word),
        ("Consistency", f"{metrics.frame_consistency:.3f}"),
        ("Loop closure", f"{metrics.loop_closure:.2f}"),
        ("Worst seam", f"{metrics.worst_seam:.2f}" if edges else "-"),
        ("Colour drift", f"{metrics.colour_drift:.2f}"),
    ]
    for top, (name, value) in zip(range(29, 360, 33), rows, strict=False):
        picture.text(440, top, name, size=14)
        picture.text(610, top - 2, value, size=17, colour=TEXT, anchor="ra")
    _draw_dial(picture, 525, 300, 32, metrics)
    return picture.to_image()


def _draw_bars(
    picture: Canvas, top: float, title: str, values: Sequence[float], wholes: Sequence[float], marked: Sequence[int]
) -> None:
    """Bars of wholes that are bright up to the values, orange ones where marked."""
    picture.card(14, top, 410, top + 158, title)
    left, right, floor, ceiling = 60, 396, top + 132, top + 40
    highest = round_up(max(1.0, *values, *wholes))
    for share in (0, 0.5, 1):
        y = floor + (ceiling - floor) * share
        picture.line(left, y, right, y)
        picture.text(left - 7, y, f"{highest * share:g}", anchor="rm")
    width = (right - left) / len(values)
    gap = 0.12 * width if width > 4 else 0
    for i in sorted(range(len(values)), key=lambda i: i in marked):  # of more bars than pixels, marked ones are on top
        bright, pale = (ORANGE, PALE_ORANGE) if i in marked else (BLUE, PALE_BLUE)
        begin = left + i * width + gap
        for value, colour in ((wholes[i], pale), (values[i], bright)):
            y = floor + (ceiling - floor) * value / highest
            picture.rectangle(begin, y, begin + max(width - 2 * gap, 1), floor, colour)
    picture.text(left + width / 2, floor + 6, "0", anchor="ma")
    picture.text(right - width / 2, floor + 6, str(len(values) - 1), anchor="ma")


def _draw_dial(picture: Canvas, x: float, y: float, radius: float, metrics: AnimationMetrics) -> None:
    """A circle with an arrow where the motion goes, or a dot if nowhere."""
    picture.circle(x, y, radius, None, outline=LINE)
    if metrics.direction_word in ("still", "mixed"):
        picture.circle(x, y, 4, BLUE)
        return

    def at(distance: float, turned: float = 0.0) -> tuple[float, float]:
        angle = math.radians(metrics.motion_direction) + turned
        return x + distance * radius * math.cos(angle), y - distance * radius * math.sin(angle)

    picture.line(*at(-0.72), *at(0.5), colour=BLUE, width=4)
    picture.polygon(*at(0.8), *at(0.46, 0.62), *at(0.46, -0.62), colour=BLUE)
