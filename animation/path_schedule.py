"""The path of a box over the frames of a clip, written as keyframes: ``0: 0.2, 0.5`` is the box's centre at frame 0.

Keys and formulas are those of all schedules. A value is a centre ``x, y``, or a centre and a size ``x, y, width, height``, in
shares of the picture: 0, 0 is its upper left corner. One keyframe a line, or between semicolons.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .schedule import Pace, ScheduleError, Span
from .schedule_text import Formula, Piece, check_keys, in_order, span_of
from .value_schedule import COMMENT, between_commas, number_or_formula, values_between

_MOST_CHARACTERS, _MOST_KEYFRAMES = 100_000, 4096
_SIDES = ("x", "y", "width", "height")
_LEAST = 0.01  # of the picture: less is no box at any resolution of a UNet


class _Keyframe(NamedTuple):
    key: Piece | None
    values: tuple[float | Formula, ...]  # of _SIDES


def check_path(text: str) -> None:
    """Raise ScheduleError for what is wrong in a clip of any length."""
    check_keys([keyframe.key for keyframe in _read(text, (1.0, 1.0)) if keyframe.key is not None])


def boxes_of_path(text: str, total_frames: int, size: tuple[float, float], pace: Pace | None = None) -> Tensor:
    """Work out each frame's box, ``(f, 4)``: centre x and y, width and height, in shares of the picture.

    ``size`` is the width and height of keyframes without one. Keyframes without keys are spread evenly. Raises ScheduleError for
    keyframes after the clip's end, centres outside the picture, and boxes without size or larger than the picture.
    """
    keyframes = _read(text, size)
    if keyframes[0].key is None:
        places = [number * (total_frames - 1) / max(len(keyframes) - 1, 1) for number in range(len(keyframes))]
        placed = [(Span(place, place), keyframe.values) for place, keyframe in zip(places, keyframes, strict=True)]
    else:
        keyed = [(keyframe.key, keyframe.values) for keyframe in keyframes if keyframe.key is not None]
        placed = in_order(keyed, functools.partial(span_of, total_frames=total_frames, inside=True))
    spans, values = zip(*placed, strict=True)
    sides = [values_between(spans, side, total_frames, pace or Pace()) for side in zip(*values, strict=True)]
    for frame, box in enumerate(zip(*sides, strict=True)):
        wrong = _wrong(box)
        if wrong:
            raise ScheduleError(f"Frame {frame}: {wrong}")
    return torch.tensor(sides).T.contiguous()


def _read(text: str, size: tuple[float, float]) -> list[_Keyframe]:
    whole = Piece.of(text, _MOST_CHARACTERS, COMMENT)
    pieces = [part for line in whole.lines() for part in _between_semicolons(line)]
    if len(pieces) > _MOST_KEYFRAMES:
        raise ScheduleError(f"The text has {len(pieces)} keyframes. Make them {_MOST_KEYFRAMES} or fewer.")
    keyframes = [_keyframe(piece, size) for piece in pieces]
    without = [piece for piece, keyframe in zip(pieces, keyframes, strict=True) if keyframe.key is None]
    if 0 < len(without) < len(keyframes):
        raise without[0].error("a frame and a colon are missing. Write frame: x, y everywhere, or x, y alone.")
    return keyframes


def _between_semicolons(line: Piece) -> list[Piece]:
    parts = (line.cut(*match.span()) for match in re.finditer("[^;]+", line.text))
    return [part for part in parts if part.text]


def _keyframe(piece: Piece, size: tuple[float, float]) -> _Keyframe:
    at = piece.text.rfind(":")
    key, rest = (None, piece) if at < 0 else (piece.cut(0, at), piece.cut(at + 1))
    values = tuple(number_or_formula(part) for part in between_commas(rest.without_brackets()))
    if len(values) not in (2, 4):
        raise rest.error(
            f"'{rest}' is no place in the picture. Write a centre, as in 0: 0.2, 0.5, or a centre, a width and a height, as in "
            "0: 0.2, 0.5, 0.3, 0.3."
        )
    values = values if len(values) == 4 else (*values, *size)
    wrong = _wrong(values)
    if wrong:
        raise rest.error(wrong)
    return _Keyframe(key, values)


def _wrong(box: Sequence[float | Formula]) -> str:
    """What is wrong with a box, as far as it is known without working out formulas."""
    for name, value in zip(_SIDES, box, strict=True):
        least = 0.0 if name in ("x", "y") else _LEAST
        if isinstance(value, Formula) or least <= value <= 1.0:
            continue
        if name in ("x", "y"):
            ends = "0, the left edge, to 1, the right" if name == "x" else "0, the upper edge, to 1, the lower"
            return f"{name} is {value:g}, outside the picture. It goes from {ends}, whatever the picture's size in pixels."
        return f"the {name} is {value:g}. It goes from {_LEAST} to 1, the whole picture's."
    return ""
