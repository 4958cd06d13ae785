"""What can be measured of an animation: flicker, motion, consistency, loop, seams, colours.

Frames are as ComfyUI's IMAGE, ``(f, h, w, c)`` from 0 to 1; an alpha channel is left out. Brightness is counted in the
levels of an 8-bit picture, 0 to 255. Frames with a side of more than 256 pixels are brought down to that first, so
numbers don't depend on the size of a clip, and grain finer than that doesn't count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .errors import InvalidInput
from .motion_field import difference, motion_field, move, texture, window_mean

_LEVELS = 255
_LONGER_SIDE = 256
_SMALLEST_SIDE = 8
_PAIRS_AT_ONCE = 8
_ROUNDING = 0.5  # levels; what is below doesn't make a step stand out
_EXPLAINED = 0.1  # of the change between two frames; if displacements explain less, nothing moved
_STILL = 0.05  # percent of the width per frame
_ONE_WAY = 0.3  # length of the mean of all motions by their mean length, from where on they have a direction


@dataclass(frozen=True)
class AnimationMetrics:
    """The measures of one clip.

    Attributes:
        flicker: mean absolute difference between a frame and its neighbours, brought to it along the estimated motion,
            in levels; around each pixel the one that fits better counts. Noise of standard deviation s gives about
            1.1 s. After the warping error of Lai et al., Learning Blind Video Temporal Consistency, 2018.
        motion_amount: mean speed of what moves, in percent of the frame's width per frame. Plain areas and what stands
            still don't count, so the size of a moving thing doesn't matter. Up to a sixth of the longer side is found.
        frame_consistency: mean structural similarity (SSIM) of neighbouring frames, each brought to the other along the
            motion. 1 is best, unrelated frames are near 0.
        loop_closure: how much the step from the last frame back to the first stands out: the mean absolute difference
            of the two frames by the median of all such steps, or the same with motion taken out, if that is more.
            About 1 or less is a loop.
        seam_scores: for each edge asked for, how much the step there stands out, in the same way. About 1 is no seam.
        colour_drift: change of the mean colour from the first to the last frame, in levels: length of the difference in
            RGB along the straight line that fits best, less what its uncertainty, three standard errors, accounts for.
    """

    flicker: float
    motion_amount: float
    motion_direction: float  # in degrees: 0 right, 90 up, 180 left, 270 down; 0 if nothing moves
    frame_consistency: float
    loop_closure: float
    seam_scores: tuple[float, ...]
    colour_drift: float
    edges: tuple[int, ...]  # edge i is the step from frame i - 1 to frame i
    frame_flicker: tuple[float, ...]
    frame_steps: tuple[float, ...]  # mean absolute difference of each frame and the next, in levels
    frame_changes: tuple[float, ...]  # the same with motion taken out
    frame_motion: tuple[tuple[float, float], ...]  # to the next frame, (x to the right, y up) in percent of the width

    @property
    def worst_seam(self) -> float:
        """The highest seam score; 0 if no edges were asked for."""
        return max(self.seam_scores, default=0.0)

    @property
    def direction_word(self) -> str:
        """The direction as right, up, left or down; still, or mixed if there is motion but no direction."""
        x, y = (fmean(part) for part in zip(*self.frame_motion, strict=True))
        if self.motion_amount < _STILL:
            return "still"
        if math.hypot(x, y) < _ONE_WAY * self.motion_amount:
            return "mixed"
        return ("right", "up", "left", "down")[round(self.motion_direction / 90) % 4]


def measure(
    frames: Tensor, edges: Sequence[int] = (), on_progress: Callable[[int, int], None] | None = None
) -> AnimationMetrics:
    """Measure a clip ``(f, h, w, c)`` and score the steps ``edges`` as seams; InvalidInput if that can't be done.

    ``on_progress`` is called with (frames done, frames in all), and may raise to stop.
    """
    images = _small_images(frames)
    if any(not 1 <= edge < len(images) for edge in edges):
        raise InvalidInput(f"Edges {list(edges)} don't lie between the frames of a clip of {len(images)}: 1 to {len(images) - 1}.")
    comparisons = []
    for start in range(0, len(images) - 1, _PAIRS_AT_ONCE):
        comparisons += _compare(images[start : start + _PAIRS_AT_ONCE + 1])
        if on_progress is not None:
            on_progress(len(comparisons) + 1, len(images))
    frame_flicker = _frame_flicker(comparisons)
    closing = _compare(images[[-1, 0]])[0]
    x, y = (fmean(one.motion[i] for one in comparisons) for i in (0, 1))
    return AnimationMetrics(
        flicker=fmean(frame_flicker),
        motion_amount=fmean(one.speed for one in comparisons),
        motion_direction=math.degrees(math.atan2(y, x)) % 360,
        frame_consistency=fmean(one.similarity for one in comparisons),
        loop_closure=_stands_out(closing, comparisons),
        seam_scores=tuple(_stands_out(comparisons[edge - 1], comparisons) for edge in edges),
        colour_drift=_colour_drift(images),
        edges=tuple(edges),
        frame_flicker=tuple(frame_flicker),
        frame_steps=tuple(one.step for one in comparisons),
        frame_changes=tuple(one.change for one in comparisons),
        frame_motion=tuple(one.motion for one in comparisons),
    )


def window_edges(frame_count: int, length: int, overlap: int) -> tuple[int, ...]:
    """Steps at which a context window of ComfyUI's ``standard_static`` begins or ends, or InvalidInput.

    Edge i is the step from frame i - 1 to frame i; the last window ends with the clip.
    """
    if length < 1 or not 0 <= overlap < length:
        raise InvalidInput(
            f"Context windows of {length} frames can't overlap by {overlap}. Give the context_length and the smaller "
            "context_overlap that the clip was made with, or context_length 0."
        )
    last_start = max(frame_count - length, 0)
    starts = [*range(0, last_start, length - overlap), last_start]
    return tuple(sorted({edge for start in starts for edge in (start, start + length) if 0 < edge < frame_count}))


def _small_images(frames: Tensor) -> Tensor:
    """Check frames and bring them to ``(f, 3, h, w)`` with sides of at most 256 pixels."""
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3, 4) or not frames.is_floating_point():
        raise InvalidInput(
            f"Expected the frames of one clip as an image batch (frames, height, width, channels) with values from 0 to 1, "
            f"but got {frames.dtype} of shape {tuple(frames.shape)}."
        )
    count, height, width = frames.shape[:3]
    if count < 2:
        raise InvalidInput(f"Measuring needs at least 2 frames, but the clip has {count}. Connect all frames as one image batch.")
    if min(height, width) < _SMALLEST_SIDE:
        raise InvalidInput(f"Frames of {width} x {height} pixels are too small to measure: at least {_SMALLEST_SIDE} are needed.")
    scale = _LONGER_SIDE / max(height, width)
    size = [max(_SMALLEST_SIDE, round(side * scale)) for side in (height, width)]
    images = []
    for number, frame in enumerate(frames):
        image = frame[..., :3].float().movedim(-1, 0)[None]
        if not torch.isfinite(image).all():
            raise InvalidInput(
                f"Frame {number} has values that are not numbers (NaN or infinity), which often show as a black image. "
                "The model or the VAE overflowed: try another precision."
            )
        if scale < 1:
            image = functional.interpolate(image, size=size, mode="bilinear", antialias=True)
        images.append(image.clamp(0, 1).expand(-1, 3, -1, -1))
    return torch.cat(images)


class _Comparison(NamedTuple):
    """Two neighbouring frames."""

    speed: float  # mean of what moves, in percent of the width
    motion: tuple[float, float]  # mean (x, y up) in percent of the width
    step: float  # mean absolute difference, in levels
    change: float  # the same with each brought to the other along the motion
    similarity: float  # SSIM, with each brought to the other along the motion
    left_before: Tensor  # what of the first frame the second doesn't explain, (1, h, w) from 0 to 1
    left_after: Tensor  # what of the second frame the first doesn't explain


def _compare(images: Tensor) -> list[_Comparison]:
    """Compare each image with the next, both ways, so that a clip run backwards measures the same."""
    before, after = images[:-1], images[1:]
    ahead, back = motion_field(before, after), motion_field(after, before)
    before_found, after_found = (
        move(images, field, mode="bicubic").clamp(0, 1) for images, field in ((after, ahead), (before, back))
    )
    left_before, left_after = difference(before, before_found), difference(after, after_found)
    similarity = (structural_similarity(before, before_found) + structural_similarity(after, after_found)) / 2

    # Who has a say in the motion: the more texture a place has, and the more of its change the motion explains.
    changed = window_mean(difference(before, after))
    textures = torch.cat([texture(before), texture(after)], 1)
    explained = changed - window_mean(torch.cat([left_before, left_after], 1))
    say = textures * explained.clamp(min=0)
    total = say.sum((1, 2, 3))
    has_moved = total > _EXPLAINED * (textures * changed).sum((1, 2, 3))
    motions = torch.stack([ahead, -back], 1) * (100 / images.shape[-1])
    share = torch.where(has_moved, 1 / total.clamp(min=1e-12), 0)
    speeds = (say * motions.norm(dim=2)).sum((1, 2, 3)) * share
    means = (say[:, :, None] * motions).sum((1, 3, 4)) * share[:, None]
    return [
        _Comparison(
            float(speeds[i]), (float(means[i, 0]), -float(means[i, 1])), _levels((before[i] - after[i]).abs()),
            (_levels(left_before[i]) + _levels(left_after[i])) / 2, float(similarity[i]), left_before[i], left_after[i],
        )
        for i in range(len(before))
    ]


def _frame_flicker(comparisons: list[_Comparison]) -> list[float]:
    """From the first and the last frame, which have one neighbour, and those between, of which the better one counts."""
    flicker = [_levels(comparisons[0].left_before)]
    for earlier, later in pairwise(comparisons):
        by_earlier, by_later = earlier.left_after[None], later.left_before[None]
        flicker.append(_levels(torch.where(window_mean(by_earlier) <= window_mean(by_later), by_earlier, by_later)))
    return [*flicker, _levels(comparisons[-1].left_after)]


def structural_similarity(images: Tensor, others: Tensor) -> Tensor:
    """SSIM of the brightness of RGB images ``(f, 3, h, w)`` from 0 to 1, ``(f,)``; 1 for equal images.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004, with its
    constants and Gaussian windows; the border's pixels go on.
    """
    offsets = torch.arange(-5, 6, device=images.device)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()

    def blur(values: Tensor) -> Tensor:
        values = functional.pad(values, (5,) * 4, mode="replicate")
        return functional.conv2d(functional.conv2d(values, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))

    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R BT.601
    x, y = ((image * weights).sum(1, keepdim=True) for image in (images, others))
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast_and_structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (light * contrast_and_structure).mean((1, 2, 3))


def _stands_out(one: _Comparison, comparisons: list[_Comparison]) -> float:
    """A jump of things that moved anyway shows in the difference; one of the whole picture when motion is taken out."""

    def ratio(value: float, values: list[float]) -> float:
        return (value + _ROUNDING) / (median(values) + _ROUNDING)

    motion_taken_out = ratio(one.change, [other.change for other in comparisons])
    return max(ratio(one.step, [other.step for other in comparisons]), motion_taken_out)


def _colour_drift(images: Tensor) -> float:
    colours = images.mean((2, 3)).double() * _LEVELS
    times = torch.linspace(-0.5, 0.5, len(colours), dtype=torch.float64, device=colours.device)[:, None]
    spread = times.square().sum()
    drift = (times * colours).sum(0) / spread
    if len(colours) > 2:
        rest = colours - colours.mean(0) - times * drift
        error = (rest.square().sum(0) / (len(colours) - 2) / spread).sqrt()
        drift = (drift.square() - (3 * error).square()).clamp(min=0).sqrt()
    return float(drift.norm())


def _levels(values: Tensor) -> float:
    return float(values.mean()) * _LEVELS
