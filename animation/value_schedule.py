"""Numbers over the frames of a clip or the steps of a run, from keyframes whose values may be formulas.

Reads ``0: 1.0`` in lines or between commas, Deforum's and FizzNodes' ``0:(sin(t/10)), 24:(1.0)``, AnimateDiff-Evolved's
``"0": 1.0, "16": 1.3`` and ``0 = 1.0, 16 = 1.3``, Comfyroll's ``0, 1.0`` in lines, and numbers alone. Any of these may be in
quotes or brackets, or follow a name, as in Deforum's settings files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from .schedule import Pace, ScheduleError, Span, blends_of_frames
from .schedule_text import (
    Entry,
    Formula,
    Piece,
    check_keys,
    have_rising_frames,
    in_order,
    number_of,
    rows_of,
    share_of,
    span_of,
)

_MOST_CHARACTERS = 100_000  # keyframes for each frame of a long clip, as tools that follow music write them
_MOST_VALUES = 4096
COMMENT = re.compile(r"#.*|^[ \t]*//.*", re.MULTILINE)
_ASSIGNED = re.compile(r"""(?:"[-+0-9.:%\s]+"\s*|'[-+0-9.:%\s]+'\s*|[-+0-9.:%\s]+)(?:=(?!=)|@)""")
_QUOTED = re.compile(r"""(?:["']?[A-Za-z_]\w*["']?\s*[:=]\s*)?(["'])((?:(?!\1).)*)\1\s*,?""", re.DOTALL)
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}


def check_values(text: str) -> None:
    """Raise ScheduleError for what is wrong in a clip of any length."""
    check_keys([key for key, _ in _read(text) if key is not None])


def values_of_schedule(text: str, total_frames: int, pace: Pace | None = None, inside: bool = False) -> list[float]:
    """Work out a schedule for each frame of a clip.

    A number leads to the next keyframe's value; a formula is worked out at each frame until the next keyframe. This is
    how Deforum and FizzNodes read them. ``inside``: no keyframe may lie after the clip's end, as in any closed loop.
    Raises ScheduleError, also where a formula has no value.
    """
    pace = pace or Pace()
    read_key = functools.partial(span_of, total_frames=total_frames, inside=inside or pace.closed_loop)
    spans, keyframes = zip(*_keyframes(text, read_key, total_frames - 1), strict=True)
    return values_between(spans, keyframes, total_frames, pace)


def values_between(
    spans: Sequence[Span], keyframes: Sequence[float | Formula], total_frames: int, pace: Pace
) -> list[float]:
    """Work out each frame's number from keyframes in their order; raises ScheduleError where a formula has no value."""
    values: list[float] = []
    for number, group in groupby(enumerate(blends_of_frames(spans, total_frames, pace)), key=lambda item: item[1].first):
        frames, blends = zip(*group, strict=True)
        keyframe = target = keyframes[number]
        if isinstance(keyframe, Formula):
            values += keyframe.over(frames, total_frames)
            continue
        if any(blend.share for blend in blends):
            following = blends[-1].second
            target = keyframes[following]
            if isinstance(target, Formula):
                (target,) = target.over([spans[following].first], total_frames)
        values += [keyframe + (target - keyframe) * blend.share for blend in blends]  # so that equal ones stay what they are
    return values


def points_of_schedule(text: str) -> list[tuple[float, float]]:
    """Read keyframes over a run, from 0 to 1, as points of a curve in order, or raise ScheduleError."""
    points = []
    for span, value in _keyframes(text, share_of, 1.0):
        if isinstance(value, Formula):
            raise value.piece.error(f"'{value.piece}' is a formula, but a curve takes numbers only. Write one, as in 0.5.")
        points.append((span.first, value))
    return points


def _keyframes(text: str, read_key: Callable[[Piece], Span], last: float) -> list[tuple[Span, float | Formula]]:
    """Read keyframes in their order; values without keys are spread evenly from 0 to the last position."""
    keyframes = _read(text)
    keyed = [(key, value) for key, value in keyframes if key is not None]
    if keyed:
        return in_order(keyed, read_key)
    positions = [number * last / max(len(keyframes) - 1, 1) for number in range(len(keyframes))]
    return [(Span(position, position), value) for position, (_, value) in zip(positions, keyframes, strict=True)]


def _read(text: str) -> list[tuple[Piece | None, float | Formula]]:
    """The keys and values of a text, all with keys or all without."""
    entries = _entries(text)
    if len(entries) > _MOST_VALUES:
        raise ScheduleError(f"The text has {len(entries)} values. Make them {_MOST_VALUES} or fewer.")
    values = [number_or_formula(entry.value) for entry in entries]
    unkeyed = [entry for entry in entries if entry.key is None]
    if 0 < len(unkeyed) < len(entries):
        raise unkeyed[0].value.error(
            "a colon is missing. Write frame: value everywhere, or values alone. Numbers have a decimal point."
        )
    return [(entry.key, value) for entry, value in zip(entries, values, strict=True)]


def number_or_formula(piece: Piece) -> float | Formula:
    """Read one value; raises ScheduleError."""
    number = number_of(_unwrap(piece, _PAIRS).text)
    # Round brackets may be a formula's own, as in (t) + (1).
    return Formula.read(_unwrap(piece, "[{\"'")) if number is None else number


def _entries(text: str) -> list[Entry]:
    whole = Piece.of(text, _MOST_CHARACTERS, COMMENT)
    quoted = _QUOTED.fullmatch(whole.text)
    if quoted and re.search("[:=,\n]", quoted[2]):
        whole = whole.cut(*quoted.span(2))
    inner = _unwrap(whole, "{[(", most=1)
    if inner.text != whole.text and (whole.text[0] == "{" or _count(inner) > 1):
        whole = inner
    rows = rows_of(whole.lines())
    if len(rows) > 1 and all(_count(row.value) == 1 for row in rows):
        if not have_rising_frames(rows):
            raise whole.error(
                "lines of two numbers are read as frame, value, but these frames do not increase. Write frame: value, or one "
                "number per line."
            )
        return rows
    return [_entry(piece) for piece in between_commas(whole)]


def _count(piece: Piece) -> int:
    """How many values there are; 0 if brackets are cut in two, as in the inside of (t) + (1)."""
    try:
        return len(list(between_commas(piece)))
    except ScheduleError:
        return 0


def _entry(piece: Piece) -> Entry:
    assigned = _ASSIGNED.match(piece.text)
    at = assigned.end() - 1 if assigned else piece.text.rfind(":")
    return Entry(None, piece) if at < 0 else Entry(_unwrap(piece.cut(0, at), "('\""), piece.cut(at + 1))


def between_commas(whole: Piece) -> Iterator[Piece]:
    """Split at commas and line ends, but not inside brackets, which belong to a formula."""
    begin, opened = 0, []
    for at, sign in enumerate(f"{whole.text}\n"):
        if sign in "([":
            opened.append(at)
        elif sign in ")]":
            if not opened:
                raise whole.error("this bracket closes one that was not opened.", at)
            opened.pop()
        elif sign in ",\n" and (not opened or at == len(whole.text)):
            piece = whole.cut(begin, at)
            begin = at + 1
            if piece.text:
                yield piece
    if opened:
        raise whole.error("this bracket is not closed.", opened[-1])


def _unwrap(piece: Piece, opening: str | dict[str, str], most: int = 100) -> Piece:
    """Remove quotes and brackets around a piece."""
    for _ in range(most):
        if len(piece.text) < 2 or piece.text[0] not in opening or piece.text[-1] != _PAIRS[piece.text[0]]:
            break
        piece = piece.cut(1, -1)
    return piece
