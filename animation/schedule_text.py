"""Keyframes written as text: the frames of each, and its place in the text.

The keys are AnimateDiff-Evolved's and FizzNodes', and percent: ``8``, ``-1``, ``50%``, ``0.5``, ``max_f/2``, a range
``8:16`` that holds up to the frame before its second one, and ``8:`` that holds until the next keyframe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from .expressions import Expression, ExpressionError
from .schedule import ScheduleError, Span

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
ONE_FRAME = rf"[+-]?{_NUMBER}\s*%|[+-]?[0-9]*\.[0-9]+|[+-]?[0-9]{{1,9}}"  # percent, a share, a number
NAMES = ("t", "max_f", "frames")  # what expressions may name in any schedule
_FIRST_OF_ROW = re.compile(rf"({ONE_FRAME})\s*,\s*(?=\S)")
_LARGEST = 1e30  # float32, in which numbers end, has about 3e38
_MOST_SHOWN = 60

_T = TypeVar("_T")


class Piece(NamedTuple):
    """A part of a schedule's text that knows its place in it."""

    whole: str
    start: int
    text: str  # where it was quoted, without escapes

    @classmethod
    def of(cls, text: str, most_characters: int, comment: re.Pattern[str]) -> Piece:
        """Take a whole text, without comments; ScheduleError if it is empty, too long or has halves of characters."""
        if len(text) > most_characters:
            raise ScheduleError(f"The text has {len(text)} characters. Make it {most_characters} or fewer.")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise cls(text, 0, text).error("this is only half of a character. Type it again.", error.start) from None
        whole = cls(text, 0, comment.sub(lambda match: " " * len(match[0]), text)).cut(0)
        if not whole.text.strip(",;{}[]() \n"):
            raise ScheduleError("The text is empty. Write at least one keyframe: 0, a colon and its value.")
        return whole

    def cut(self, start: int, end: int | None = None) -> Piece:
        """A part of it, without blanks at its ends."""
        part = self.text[start:end]
        return Piece(self.whole, self.start + start + len(part) - len(part.lstrip()), part.strip())

    def without_brackets(self) -> Piece:
        """It without round or square brackets around all of it, as around a point."""
        pairs = (self.text[:1], self.text[-1:]) in (("(", ")"), ("[", "]"))
        inner = self.text[1:-1]
        return self.cut(1, -1) if pairs and not re.search(r"[()\[\]]", inner) else self

    def lines(self) -> list[Piece]:
        """Its lines, without empty ones."""
        return [self.cut(*match.span()) for match in re.finditer(r"[^\n]*[^\s][^\n]*", self.text)]

    def error(self, wrong: str, at: int = 0) -> ScheduleError:
        before = self.whole[: self.start + at]
        line, character = before.count("\n") + 1, len(before) - before.rfind("\n")
        return ScheduleError(f"Line {line}, character {character}: {wrong}")

    def __str__(self) -> str:
        """Its beginning, for messages."""
        return self.text if len(self.text) <= _MOST_SHOWN else f"{self.text[:_MOST_SHOWN]} ..."


class Entry(NamedTuple):
    """A key, if there is one, and its value."""

    key: Piece | None
    value: Piece


@dataclass(frozen=True, eq=False)
class Formula:
    """An expression and its place in the text."""

    piece: Piece
    expression: Expression

    @classmethod
    def read(cls, piece: Piece, names: Sequence[str] = NAMES) -> Formula:
        """Read a piece as an expression of these names; raises ScheduleError."""
        try:
            return cls(piece, Expression(piece.text, names))
        except ExpressionError as error:
            raise piece.error(str(error), error.at) from None

    def over(self, frames: Sequence[float], total_frames: int) -> list[float]:
        """Work it out for frames of a clip; raises ScheduleError where it has no value or is too large."""
        values = self.expression(variables_of(frames, total_frames)).tolist()
        return [self.checked(value, frame) for value, frame in zip(values, frames, strict=True)]

    def checked(self, value: float, frame: float) -> float:
        if not abs(value) <= _LARGEST:
            wrong = "is too large" if math.isfinite(value) else "has no value"
            raise self.piece.error(f"'{self.piece}' {wrong} for t = {frame:g}.")
        return value


def variables_of(frames: Sequence[float], total_frames: int) -> dict[str, np.ndarray]:
    """What expressions may name: ``t`` is the frame, ``max_f`` the clip's last one, ``frames`` their number."""
    values = (frames, total_frames - 1, total_frames)
    return {name: np.asarray(value, dtype=float) for name, value in zip(NAMES, values, strict=True)}


def check_keys(keys: Sequence[Piece]) -> None:
    """Raise ScheduleError for what is wrong in a clip of any length: no frame at all, or one that is written twice."""
    found: dict[str, Piece] = {}
    for key in keys:
        for end in _ends(key):
            _position(end)
        if key.text in found:
            raise _same_position(found[key.text], key)
        found[key.text] = key


def span_of(key: Piece, total_frames: int, inside: bool = False) -> Span:
    """Read a key as frames of a clip, or raise ScheduleError: before its first or, with ``inside``, after its last."""
    first, *following = (_position(end)(total_frames) for end in _ends(key))
    if inside and first > total_frames - 1:
        raise key.error(
            f"'{key}' is after the clip's last frame, {total_frames - 1}. Lower it, write -1 for the last, or raise "
            "frames."
        )
    if not following:
        return Span(first, first, until_next=key.text.endswith(":"))
    last = math.ceil(following[0]) - 1.0
    if last < first:
        raise key.error(f"'{key}' contains no frame. A range ends before its second frame: 8:16 is frames 8 to 15.")
    return Span(first, last)


def _ends(key: Piece) -> list[Piece]:
    """The frame of a key, and the one after it if the key is a range."""
    begin, _, end = key.text.partition(":")
    return [key.cut(0, len(begin)), *([key.cut(len(begin) + 1)] if end.strip() else [])]


def _position(key: Piece) -> Callable[[int], float]:
    """Read one frame: a function of the clip's number of frames; both raise ScheduleError."""
    text = key.text

    def from_either_end(frame: int, total_frames: int) -> float:
        if frame < -total_frames:
            raise key.error(f"a clip of {total_frames} frames has none before {-total_frames}.")
        return float(frame + total_frames if frame < 0 else frame)

    if not re.fullmatch(ONE_FRAME, text):
        if not re.search("[a-z(*/]", text):
            raise key.error(f"'{key}' is not a frame. Write a whole number or a percentage of the clip, as in 8: or 50%:.")
        formula = Formula.read(key, NAMES[1:])
        return lambda total: from_either_end(int(formula.over([0], total)[0]), total)
    if text.endswith("%"):
        share = _share(key, float(text[:-1]) / 100, "percentages go from 0% to 100%.")
        return lambda total: share * (total - 1)
    if "." in text:
        share = _share(key, float(text), f"'{key}' is a share of the clip, and shares go from 0.0 to 1.0.")
        return lambda total: float(min(int(share * total), total - 1))
    return lambda total: from_either_end(int(text), total)


def share_of(key: Piece) -> Span:
    """Read a key as a share of a run: percent, or a number from 0 to 1; raises ScheduleError."""
    wrong = f"'{key}' is not a position in the run. Write a percentage or a number from 0 to 1, as in 50%: 1 or 0.5: 1."
    number = number_of(key.text.removesuffix("%").rstrip())
    share = _share(key, math.nan if number is None else number / 100 if key.text.endswith("%") else number, wrong)
    return Span(share, share)


def _share(key: Piece, share: float, wrong: str) -> float:
    if not 0.0 <= share <= 1.0:
        raise key.error(wrong)
    return share


def number_of(text: str) -> float | None:
    """Read a plain number; None for anything else."""
    is_number = re.fullmatch(rf"[+-]?{_NUMBER}(?:[eE][+-]?[0-9]+)?", text) and abs(float(text)) <= _LARGEST
    return float(text) if is_number else None


def rows_of(lines: Sequence[Piece]) -> list[Entry]:
    """Read lines like Comfyroll's ``0, a cat`` as keys and values; none if other lines are among them."""
    rows = []
    for line in lines:
        match = _FIRST_OF_ROW.match(line.text)
        if match is None:
            return []
        rows.append(Entry(line.cut(*match.span(1)), line.cut(match.end(), len(line.text.rstrip(", ")))))
    return rows


def have_rising_frames(rows: Sequence[Entry]) -> bool:
    """Whether all rows begin with whole numbers, or all with percentages, that increase from row to row."""
    keys = [row.key.text for row in rows if row.key is not None]
    numbers = [float(key.rstrip("% ")) for key in keys]
    is_alike = all(key.isdecimal() for key in keys) or all(key.endswith("%") for key in keys)
    return is_alike and all(a < b for a, b in pairwise(numbers))


def in_order(entries: Sequence[tuple[Piece, _T]], read_key: Callable[[Piece], Span]) -> list[tuple[Span, _T]]:
    """Sort keyframes, each a key and its content, by their frames; raises ScheduleError for two of the same."""
    placed = sorted(((read_key(key), key, thing) for key, thing in entries), key=lambda item: item[0].first)
    for (span, earlier, _), (following, key, _) in pairwise(placed):
        if following.first <= span.last:
            raise _same_position(earlier, key)
    return [(span, thing) for span, _, thing in placed]


def _same_position(earlier: Piece, key: Piece) -> ScheduleError:
    return key.error(f"'{earlier}' and '{key}' are for the same position. Remove or change one of them.")
