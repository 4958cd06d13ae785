"""Numbers over the frames of a clip, from keyframes whose values may be expressions.

Reads Deforum's and FizzNodes' ``0:(sin(t/10)), 24:(1.0)``, AnimateDiff-Evolved's ``"0": 1.0, "16": 1.3`` and
``0 = 1.0, 16 = 1.3``, and ``0: 1.0`` in lines of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .expressions import Expression
from .schedule_text import Entry, Pace, Piece, blends_of_frames, in_order, number_of, variables_of

_NAMES = ("t", "max_f", "frames")
_MOST_CHARACTERS = 100_000  # keyframes for each frame of a long clip, as tools that follow music write them
_ASSIGNED = re.compile(r"""(?:"[-+0-9.:%\s]+"\s*|'[-+0-9.:%\s]+'\s*|[-+0-9.:%\s]+)=(?!=)""")
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}


@dataclass(frozen=True)
class _Value:
    """A keyframe's number, or its expression; either as a function of the frame."""

    piece: Piece
    number: float | None
    expression: Expression | None
    total_frames: int

    @classmethod
    def read(cls, piece: Piece, total_frames: int) -> _Value:
        number = number_of(_unwrap(piece, _PAIRS).text)
        if number is not None:
            return cls(piece, number, None, total_frames)
        bare = _unwrap(piece, "[{\"'")  # round brackets may be the expression's own, as in (t) + (1)
        return cls(bare, None, bare.expression(_NAMES), total_frames)

    def at(self, frame: float) -> float:
        if self.expression is None:
            assert self.number is not None
            return self.number
        return self.piece.work_out(self.expression, variables_of(frame, self.total_frames))


def values_of_schedule(text: str, total_frames: int, pace: Pace | None = None) -> list[float]:
    """Work out a schedule for each frame of a clip.

    A number leads to the next keyframe's value; an expression is worked out at each frame until the next keyframe. This is
    how Deforum and FizzNodes read them.

    Raises:
        ScheduleError: the text is no such schedule, or an expression has no value; says in which line and at which character.
    """
    pace = pace or Pace()
    entries = list(_entries(Piece.of(text, _MOST_CHARACTERS)))
    if all(entry.key is None for entry in entries):
        entries = _spread(entries, max(total_frames, 1))
    for entry in entries:
        if entry.key is None:
            raise entry.value.error("a colon is missing. Write frame: value everywhere, or values alone. Numbers have a decimal point.")
    keyframes = in_order([(entry, _Value.read(entry.value, total_frames)) for entry in entries], total_frames, pace.closed_loop)
    made = []
    for frame, blend in enumerate(blends_of_frames([span for span, _ in keyframes], total_frames, pace)):
        value = keyframes[blend.first][1]
        made.append(value.at(frame))
        if blend.share and value.expression is None:
            span, target = keyframes[blend.second]
            made[-1] += (target.at(span.first) - made[-1]) * blend.share
    return made


def _entries(whole: Piece) -> Iterator[Entry]:
    """Keyframes, which stand in lines of their own or between commas; those in brackets are an expression's."""
    whole = whole.cut(0)
    if whole.text.startswith("{") and whole.text.endswith("}"):
        whole = whole.cut(1, -1)
    for begin, end in _between_commas(whole):
        piece = whole.cut(begin, end)
        if not piece.text:
            continue
        assigned = _ASSIGNED.match(piece.text)
        at = assigned.end() - 1 if assigned else piece.text.rfind(":")
        if at < 0:
            yield Entry(None, piece)
        else:
            yield Entry(_unwrap(piece.cut(0, at), "('\""), piece.cut(at + 1))


def _between_commas(whole: Piece) -> Iterator[tuple[int, int]]:
    begin, opened = 0, []
    for at, sign in enumerate(whole.text):
        if sign in "([":
            opened.append(at)
        elif sign in ")]":
            if not opened:
                raise whole.error("this bracket closes one that was not opened.", at)
            opened.pop()
        elif sign in ",\n" and not opened:
            yield begin, at
            begin = at + 1
    if opened:
        raise whole.error("this bracket is not closed.", opened[-1])
    yield begin, len(whole.text)


def _spread(entries: list[Entry], total_frames: int) -> list[Entry]:
    """Give values without keys their places, evenly over the clip."""
    gaps = max(len(entries) - 1, 1)
    if len(entries) == total_frames:
        keys = [str(number) for number in range(total_frames)]
    else:
        keys = [f"{100 * number / gaps:.9f}%" for number in range(len(entries))]
    return [
        Entry(Piece(entry.value.whole, entry.value.start, key), entry.value) for key, entry in zip(keys, entries, strict=True)
    ]


def _unwrap(piece: Piece, opening: str | dict[str, str]) -> Piece:
    """Take off quotes and brackets around a piece."""
    while len(piece.text) > 1 and piece.text[0] in opening and piece.text[-1] == _PAIRS[piece.text[0]]:
        piece = piece.cut(1, -1)
    return piece

