"""Keyframes written as text: for which frames each is, and where in the text it stands.

The keys are AnimateDiff-Evolved's and FizzNodes', and percent: ``8``, ``-1``, ``50%``, ``0.5``, ``max_f/2``, a range
``8:16`` that holds up to the frame before its second one, and ``8:`` that holds until the next keyframe.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from .expressions import Expression, ExpressionError
from .schedule import Easing, ScheduleError

ONE_FRAME = r"[+-]?[0-9]{1,9}(?:\.[0-9]*)?\s*%|[+-]?[0-9]*\.[0-9]+|[+-]?[0-9]{1,9}"
"""Pattern of a key for one frame: percent, a share, a number."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


# --- pieces of a text -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A part of a schedule's text, which knows where it stands.

    Attributes:
        whole: all of the text.
        start: of the part, in characters.
        text: the part; quoted ones without what escapes their signs.
    """

    whole: str
    start: int
    text: str

    @classmethod
    def of(cls, text: str, most_characters: int) -> Piece:
        """Take a whole text.

        Raises:
            ScheduleError: it is empty, or far too long.
        """
        if len(text) > most_characters:
            raise ScheduleError(f"The text has {len(text)} characters. Make it {most_characters} or fewer.")
        if not text.strip():
            raise ScheduleError("The text is empty. Write at least one keyframe, as in 0: and what is there.")
        text = text.replace("\r\n", "\n")
        return cls(text, 0, text)

    def cut(self, start: int, end: int | None = None) -> Piece:
        """Take a part of it, without blanks at its ends."""
        part = self.text[start:end]
        return Piece(self.whole, self.start + start + len(part) - len(part.lstrip()), part.strip())

    def error(self, wrong: str, at: int = 0) -> ScheduleError:
        before = self.whole[: self.start + at]
        line, character = before.count("\n") + 1, len(before) - before.rfind("\n")
        return ScheduleError(f"Line {line}, character {character}: {wrong}")

    def expression(self, names: Sequence[str]) -> Expression:
        """Read it as an expression.

        Raises:
            ScheduleError: it is none.
        """
        try:
            return Expression(self.text, names)
        except ExpressionError as error:
            raise self.error(str(error), error.at) from None

    def work_out(self, expression: Expression, variables: dict[str, float]) -> float:
        """Work out an expression that stands here.

        Raises:
            ScheduleError: it has no value.
        """
        try:
            return expression(variables)
        except ExpressionError as error:
            raise self.error(str(error), error.at) from None


@dataclass(frozen=True)
class Entry:
    """A key and what stands behind it; the key is None where there is none."""

    key: Piece | None
    value: Piece


# --- keys -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """The frames for which a keyframe stands alone.

    Attributes:
        first: from which frame on.
        last: up to which; blending into the next keyframe starts here.
        until_next: whether there is no blending, and it stands until the next one is there.
    """

    first: float
    last: float
    until_next: bool = False


def variables_of(frame: float, total_frames: int) -> dict[str, float]:
    """What expressions may name: ``t`` is the frame, ``max_f`` the clip's last one, ``frames`` their number."""
    return {"t": float(frame), "max_f": float(total_frames - 1), "frames": float(total_frames)}


def span_of(key: Piece, total_frames: int) -> Span:
    """Read a key.

    Raises:
        ScheduleError: it is none, or lies before the clip's first frame.
    """
    begin, colon, end = key.text.partition(":")
    first = _frame_of(key.cut(0, len(begin)), total_frames)
    if not colon:
        return Span(first, first)
    if not end.strip():
        return Span(first, first, until_next=True)
    end_frame = _frame_of(key.cut(len(begin) + 1), total_frames)
    last = math.ceil(end_frame) - 1.0
    if last < first:
        raise key.error(f"'{key.text}' holds no frame. A range ends before its second frame: 8:16 holds 8 to 15.")
    return Span(first, last)


def _frame_of(key: Piece, total_frames: int) -> float:
    text, last = key.text, total_frames - 1
    if not re.fullmatch(ONE_FRAME, text):
        if not re.search("[a-z(*/]", text):
            raise key.error(f"'{text}' is no frame. Write a whole number, or percent of the clip, as in 8: or 50%:.")
        text = str(int(key.work_out(key.expression(["max_f", "frames"]), variables_of(0, total_frames))))
    if text.endswith("%"):
        return _share(key, float(text[:-1]) / 100, "percent go from 0% to 100%.") * last
    if "." in text:
        share = _share(key, float(text), f"'{text}' is a share of the clip, and these go from 0.0 to 1.0.")
        return float(min(int(share * total_frames), last))
    frame = int(text)
    if frame < -total_frames:
        raise key.error(f"a clip of {total_frames} frames has none before {-total_frames}.")
    return float(frame + total_frames if frame < 0 else frame)


def _share(key: Piece, share: float, wrong: str) -> float:
    if not 0.0 <= share <= 1.0:
        raise key.error(wrong)
    return share


# --- over the frames --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """How keyframes become one another.

    Attributes:
        easing: over the frames on which two of them blend.
        hold: share of the frames between two keyframes, 0 to 1, on which the earlier one stands alone first.
        closed_loop: whether the last keyframe becomes the first one again, which follows on the clip's last frame.
    """

    easing: Easing = Easing.LINEAR
    hold: float = 0.0
    closed_loop: bool = False

    def ease(self, share: float) -> float:
        """Map the share of the way to the next keyframe to that keyframe's weight."""
        if share <= self.hold or self.hold >= 1.0:
            return 0.0
        return self.easing.ease((share - self.hold) / (1.0 - self.hold))


@dataclass(frozen=True)
class Blend:
    """A frame's two keyframes by their numbers, and the weight of the second; the first one's is the rest of 1."""

    first: int
    second: int
    share: float


_T = TypeVar("_T")


def in_order(entries: Sequence[tuple[Entry, _T]], total_frames: int, closed_loop: bool) -> list[tuple[Span, _T]]:
    """Bring keyframes into the order of their frames.

    Args:
        entries: each with what it stands for.
        total_frames: of the clip. Keyframes may lie behind it; the blend towards them is cut off by its end.
        closed_loop: then they may not.

    Raises:
        ScheduleError: a key cannot be read, or two keyframes are for the same frame.
    """
    if total_frames < 1:
        raise ScheduleError(f"A clip of {total_frames} frames has none to schedule. Make frames 1 or more.")
    placed = [(span_of(entry.key, total_frames), entry.key, thing) for entry, thing in entries if entry.key is not None]
    placed.sort(key=lambda item: item[0].first)
    for (span, earlier, _), (following, key, _) in pairwise(placed):
        if following.first <= span.last:
            raise key.error(f"'{earlier.text}' is for the same frame as '{key.text}'. Remove or change one of them.")
    last_span, last_key, _ = placed[-1]
    if closed_loop and last_span.first > total_frames - 1:
        raise last_key.error(
            f"'{last_key.text}' lies behind the clip's last frame, {total_frames - 1}, so the loop cannot close. Remove it, "
            "or raise frames."
        )
    return [(span, thing) for span, _, thing in placed]


def blends_of_frames(spans: Sequence[Span], total_frames: int, pace: Pace) -> list[Blend]:
    """Work out each frame's keyframes and their weights.

    Before the first keyframe and behind the last one, these hold, unless the loop is closed.
    """
    firsts = [span.first for span in spans]
    return [_blend(spans, bisect_right(firsts, frame) - 1, float(frame), total_frames, pace) for frame in range(total_frames)]


def _blend(spans: Sequence[Span], number: int, frame: float, total_frames: int, pace: Pace) -> Blend:
    if number < 0:
        if not pace.closed_loop:
            return Blend(0, 0, 0.0)
        number, frame = len(spans) - 1, frame + total_frames
    span, following = spans[number], number + 1
    if following < len(spans):
        target = spans[following].first
    elif pace.closed_loop:
        following, target = 0, spans[0].first + total_frames
    else:
        return Blend(number, number, 0.0)
    if span.until_next or frame <= span.last or following == number:
        return Blend(number, number, 0.0)
    return Blend(number, following, pace.ease((frame - span.last) / (target - span.last)))


def number_of(text: str) -> float | None:
    """Read a plain number, or nothing else."""
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else None
