"""Context windows: which frames of a clip are worked on together, and how much each window counts where several meet.

Source: neggles' animatediff-cli, whose schedules ComfyUI and AnimateDiff-Evolved have under the same names; the pyramid is
FreeNoise's (Qiu et al. 2023, arXiv:2310.15169). ComfyUI's own functions equal these for a stride of 1. With a larger
one they miss frames, leave the clip or take a frame twice, and their weights know no window that goes round a loop's end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np

from .errors import UserError

_LEAST_WEIGHT = 1e-6  # what a ramp starts at instead of 0, so that a frame that only ramps reach still has its share


class WindowError(UserError):
    """Windows of such numbers don't exist, or don't get anywhere."""


class Schedule(Enum):
    """How windows lie over a clip: the same at every step, or, if uniform, so that no place is always a seam.

    Looped ones go round the clip's end, as all that overlap do in a closed loop. Batched ones don't overlap. With none, a clip
    is never cut.
    """

    STATIC = "standard_static"
    UNIFORM = "standard_uniform"
    LOOPED = "looped_uniform"
    BATCHED = "batched"
    NONE = "none"


class Fuse(Enum):
    """How much a window's frames count: those in its middle more (pyramid, relative), all alike, or with a ramp of the overlap.

    The second kind of ramps is AnimateDiff-Evolved's: a window has none up if it holds the clip's first frame, and none down if
    it holds the last one, in loops too; and where both ramps meet, the one down counts.
    """

    PYRAMID = "pyramid"
    RELATIVE = "relative"
    FLAT = "flat"
    OVERLAP_LINEAR = "overlap-linear"
    OVERLAP_LINEAR_OPEN = "overlap-linear, open ends"


class EqualLength(Enum):
    """When a clip of exactly as many frames as a window is cut; a loop that is left open then begins elsewhere at each step."""

    CLOSED = "closed loops"
    NEVER = "never"
    ALWAYS = "always"


class WideWindows(Enum):
    """What becomes of windows of a ``stride`` that are wider than the clip: see ``Windowing``."""

    LEFT_OUT = "leave out"
    WRAPPED = "wrap around"


class CountedSteps(Enum):
    """The steps by which uniform windows move: those of a whole schedule, or from a run's first one on, as AnimateDiff-Evolved's."""

    SCHEDULE = "the whole schedule"
    RUN = "this run"


@dataclass(frozen=True)
class Windowing:
    """How a clip is cut into windows of ``length`` frames; ``WindowError`` if they don't exist, or don't get anywhere.

    With uniform schedules, each 1 that ``stride`` is above 1 adds windows of frames that lie twice as far apart, as long
    as such a window fits into the clip. ``closed_loop`` adds windows that overlap across the clip's end; not to batched.

    Wide windows that are wrapped go round the clip's end until they hold some frames twice, of which the last place counts, up
    to a spacing below twice the clip's frames over ``length``. Of the standard schedule, those that fit are placed as
    AnimateDiff-Evolved places them: one that would go round the end is moved back, and where the next one lacks the frame
    at which it went round, neighbouring frames from there on become a window, too.
    """

    length: int = 16
    overlap: int = 4
    schedule: Schedule = Schedule.STATIC
    fuse: Fuse = Fuse.PYRAMID
    stride: int = 1
    closed_loop: bool = False
    equal_length: EqualLength = EqualLength.CLOSED
    wide: WideWindows = WideWindows.LEFT_OUT
    counted: CountedSteps = CountedSteps.SCHEDULE

    def __post_init__(self) -> None:
        if self.length < 1 or self.stride < 1:
            raise WindowError(f"Windows of {self.length} frames with a stride of {self.stride}: both must be 1 or more.")
        if not 0 <= self.overlap < self.length:
            raise WindowError(
                f"Windows of {self.length} frames can't overlap by {self.overlap}: they would never move on. Use an "
                f"overlap of 0 to {self.length - 1}; a quarter of the length is usual."
            )

    @property
    def is_closed(self) -> bool:
        """Whether windows overlap across the clip's end."""
        return self.closed_loop and self.schedule not in (Schedule.BATCHED, Schedule.NONE)

    @property
    def wraps(self) -> bool:
        """Whether windows go round the clip's end, with or without an overlap there."""
        return self.is_closed or self.schedule is Schedule.LOOPED

    def cuts(self, frames: int) -> bool:
        """Whether a clip is cut: if it is longer than a window, or, as ``equal_length`` says, as long."""
        if self.schedule is Schedule.NONE or frames < self.length:
            return False
        cuts_equal = self.equal_length is EqualLength.ALWAYS or (self.equal_length is EqualLength.CLOSED and self.is_closed)
        return frames > self.length or cuts_equal

    def windows(self, frames: int, phase: float = 0.0) -> list[tuple[int, ...]]:
        """Frame numbers of each window; uniform schedules begin at ``phase``, a share of the clip from 0 to below 1.

        Every frame is in some window, no window holds one twice unless wide ones are wrapped, and no two windows are the same.
        Windows have ``length`` frames, but for a clip that is shorter and for the last batch.
        """
        if not self.cuts(frames):
            return [tuple(range(frames))]
        if self.schedule is Schedule.BATCHED:
            return [tuple(range(start, min(start + self.length, frames))) for start in range(0, frames, self.length)]
        is_static = self.schedule is Schedule.STATIC
        if is_static and not self.is_closed:
            step, last = self.length - self.overlap, frames - self.length
            return [self._from(start, frames) for start in (*range(0, last, step), last)]
        moves_back = self.wide is WideWindows.WRAPPED and self.stride > 1 and not self.wraps
        windows: list[tuple[int, ...]] = []
        for spacing in [1] if is_static else self._spacings(frames):
            starts = self._uniform_starts(frames, 0.0 if is_static else phase, spacing)
            starts = starts if self.wraps or moves_back else self._within(starts, frames, spacing)
            windows += [self._from(start, frames, spacing) for start in starts]
        return list(dict.fromkeys(self._moved_back(windows, frames) if moves_back else windows))

    def weights(self, windows: Sequence[Sequence[int]], frames: int) -> list[list[float]]:
        """How much each frame of each window counts; those of one frame of the clip sum to 1.

        All are positive, but for frames that the same window holds again: of these the last place counts, and the others are 0.
        """
        placed = [(list(window), np.array(self._weights(window, frames))) for window in windows]
        totals = np.zeros(frames)
        for window, weights in placed:
            totals[window] += weights
        for window, weights in placed:
            weights /= totals[window]
            if len(set(window)) < len(window):
                weights[[frame in window[place + 1 :] for place, frame in enumerate(window)]] = 0.0
        return [weights.tolist() for _, weights in placed]

    def _from(self, start: int, frames: int, spacing: int = 1) -> tuple[int, ...]:
        return tuple(frame % frames for frame in range(start, start + self.length * spacing, spacing))

    def _spacings(self, frames: int) -> list[int]:
        """Frames from one to the next in a uniform window, beginning with 1."""
        spacings = [1 << power for power in range(self.stride)]
        if self.wide is WideWindows.WRAPPED and self.wraps:
            return spacings[: math.ceil(math.log2(frames / self.length)) + 1]
        return [spacing for spacing in spacings if spacing == 1 or (self.length - 1) * spacing < frames]

    def _moved_back(self, windows: list[tuple[int, ...]], frames: int) -> list[tuple[int, ...]]:
        """AnimateDiff-Evolved's way of keeping windows inside the clip; see the class."""
        moved = list(windows)
        number = 0
        while number < len(moved):
            window = moved[number]
            turn = next((after for before, after in pairwise(window) if after < before), None)
            if turn is not None:
                spacing = (window[1] - window[0]) % frames
                moved[number] = self._from(frames - 1 - (self.length - 1) * spacing, frames, spacing)
                if turn not in moved[(number + 1) % len(moved)]:
                    moved.insert(number + 1, self._from(turn, frames))
            number += 1
        return moved

    def _uniform_starts(self, frames: int, phase: float, spacing: int) -> Sequence[int]:
        """Starts that cover ``frames`` frames from where the phase begins; they run past the clip's end."""
        offset = round(frames * phase)
        end = frames + offset - (0 if self.is_closed else self.overlap)
        return range(offset + int(phase * spacing), end, self.length * spacing - self.overlap)

    def _within(self, starts: Sequence[int], frames: int, spacing: int) -> Sequence[int]:
        """Move windows that would go round the clip's end back, and begin anew at frame 0, as no other covers it."""
        last = frames - 1 - (self.length - 1) * spacing
        inside = [min(start % frames, last) for start in starts]
        return inside if spacing > 1 or 0 in inside else [*inside, 0]

    def _weights(self, window: Sequence[int], frames: int) -> list[float]:
        length = len(window)
        if self.fuse is Fuse.FLAT:
            return [1.0] * length
        if self.fuse is Fuse.PYRAMID:
            return [float(min(place + 1, length - place)) for place in range(length)]
        if self.fuse is Fuse.RELATIVE:
            half = (length - 1) / 2
            return [max(0.01, 1 - abs(place - half) / (half + 0.005)) for place in range(length)]
        if self.fuse is Fuse.OVERLAP_LINEAR_OPEN:
            ramps_down = max(window) < frames - 1
            down = [self._ramp(length - 1 - place, only=1.0) if ramps_down else 1.0 for place in range(length)]
            up = [self._ramp(place, only=_LEAST_WEIGHT) if min(window) > 0 else 1.0 for place in range(length)]
            is_up = range(length - self.overlap) if ramps_down else range(length)
            return [up[place] if place in is_up else down[place] for place in range(length)]
        ramps_up, ramps_down = self.wraps or window[0] > 0, self.wraps or window[-1] < frames - 1
        return [
            min(self._ramp(place) if ramps_up else 1.0, self._ramp(length - 1 - place) if ramps_down else 1.0)
            for place in range(length)
        ]

    def _ramp(self, place: int, only: float = 0.5) -> float:
        """0 to 1 over the overlap, ``place`` frames from a window's edge; ``only`` is what an overlap of 1 has."""
        if place >= self.overlap:
            return 1.0
        return only if self.overlap == 1 else max(_LEAST_WEIGHT, place / (self.overlap - 1))


def step_of(sigma: float, sigmas: Sequence[float]) -> int:
    """Number of the last step that has begun at a noise level, of steps with these ``sigmas`` and an end, rising or not."""
    sign = 1 if sigmas[0] >= sigmas[-1] else -1
    begun = sum(sign * level >= sign * sigma - 1e-4 * abs(sigma) for level in sigmas[:-1])
    return max(0, begun - 1)


def steps_of_run(sigma: float, sigmas: Sequence[float]) -> int:
    """Number of a run's steps that have begun before a noise level; between two steps the later one counts.

    As AnimateDiff-Evolved counts: a sampler's second call of a step, at a level between two, has the next step's number.
    """
    sign = 1 if sigmas[0] >= sigmas[-1] else -1
    return sum(sign * level > sign * sigma + 1e-4 * abs(sigma) for level in sigmas[:-1])


def steps_before(sigmas: Sequence[float], schedule: Sequence[float]) -> int:
    """Number of steps that a whole run makes before one that begins in its midst, as with a second KSampler (Advanced).

    The steps before are taken to be as large as the run's own, in the scale in which those are most even: timesteps for most
    schedulers, roots or logarithms for karras and exponential. ``schedule`` has the sigmas of all timesteps, rising.
    """
    levels = np.array([schedule[-1], *(sigma for sigma in sigmas if sigma > 0)])
    if len(levels) < 3 or (np.diff(levels[1:]) >= 0).any():
        return 0
    timesteps = np.interp(np.log(levels), np.log(schedule), np.arange(len(schedule)))
    scales = [timesteps, levels ** (1 / 7), np.log(levels)]
    are_whole = np.allclose(timesteps, timesteps.round(), atol=1e-2)
    if are_whole:
        scales = [timesteps]  # of a scheduler that rounds timesteps; its steps are even but for that
    steps = [-np.diff(scale[1:]) for scale in scales]
    scale, step = min(zip(scales, steps, strict=True), key=lambda found: found[1].std() / found[1].mean())
    # Rounded up by no more than what may be lost to rounding: some schedulers leave out almost a whole step at the start.
    return int((scale[0] - scale[1] + are_whole) / step.mean() + 0.001)
