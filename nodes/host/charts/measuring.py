"""Measuring a clip with ComfyUI's progress bar, and what it says in words."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
from torch import Tensor

from ....animation.metrics import AnimationMetrics, measure, window_edges


def measure_clip(images: Tensor, context_length: int, context_overlap: int) -> AnimationMetrics:
    """Measure an IMAGE ``(f, h, w, c)`` and score the edges of its context windows, if their length is not 0.

    Raises:
        InvalidInput: the images are no clip, or there are no such windows.
    """
    edges = window_edges(len(images), context_length, context_overlap) if context_length else ()
    progress = comfy.utils.ProgressBar(len(images))

    def on_progress(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update_absolute(done, total)

    return measure(images, edges, on_progress)


def report(metrics: AnimationMetrics) -> str:
    """All measures in words, one a line."""
    rows = [
        ("flicker", f"{metrics.flicker:.2f}", "levels of 255; 0 is none"),
        ("motion amount", f"{metrics.motion_amount:.2f}", "% of the width per frame"),
        ("motion direction", f"{round(metrics.motion_direction) % 360}", f"degrees: {metrics.direction_word}"),
        ("frame consistency", f"{metrics.frame_consistency:.4f}", "1 is best"),
        ("loop closure", f"{metrics.loop_closure:.2f}", "about 1 or less is a loop"),
        ("worst seam", f"{metrics.worst_seam:.2f}", "about 1 is none" if metrics.edges else "not measured: no window edges"),
        ("colour drift", f"{metrics.colour_drift:.2f}", "levels of 255; 0 is none"),
    ]
    lines = [f"{name}: {value} ({meaning})" for name, value, meaning in rows]
    lines += [f"seam at frame {edge}: {score:.2f}" for edge, score in zip(metrics.edges, metrics.seam_scores, strict=True)]
    return "\n".join(lines)
