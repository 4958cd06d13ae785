"""Prompts over the frames of a clip: which two prompts each frame lies between, and how much of each it has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .expressions import Expression
from .prompt_text import read_prompt_text
from .schedule import ScheduleError
from .schedule_text import Blend, Pace, Piece, Span, blends_of_frames, in_order, variables_of

WEIGHT_NAMES = ("pw_a", "pw_b", "pw_c", "pw_d")
"""Names that expressions in prompts may have for numbers that come from elsewhere; FizzNodes' own."""

_NAMES = ("t", "max_f", "frames", *WEIGHT_NAMES)
_SEPARATOR = "--neg"  # of a prompt and its negative one; FizzNodes' own
_POSITIVE, _NEGATIVE = 0, 1
_MOST_EXPRESSIONS = 50


@dataclass(frozen=True)
class Prompt:
    """A prompt whose expressions, in backticks, have not been worked out yet.

    Attributes:
        parts: text, and expressions with the places where they stand.
    """

    parts: tuple[str | tuple[Piece, Expression], ...]

    @property
    def text(self) -> str:
        """As it was written."""
        return "".join(part if isinstance(part, str) else f"`{part[1].text}`" for part in self.parts)

    def at(self, variables: dict[str, float]) -> str:
        """Put the expressions' values in, with up to four decimals.

        Raises:
            ScheduleError: one has none.
        """
        return "".join(
            part if isinstance(part, str) else _decimals(part[0].work_out(part[1], variables)) for part in self.parts
        )


@dataclass(frozen=True)
class FramePrompts:
    """A frame's two prompts and the weight of the second, 0 to 1; where there is only one, they are the same."""

    first: str
    second: str
    share: float


@dataclass(frozen=True)
class PromptSchedule:
    """A schedule that has been read.

    Attributes:
        spans: of the keyframes, in order.
        positive: a prompt for each keyframe.
        negative: what stands behind --neg in each.
        captions: each keyframe's own words, without those that all share.
        shared: the words in front of every prompt, and those behind it.
        frames: a blend of two keyframes for each frame.
    """

    spans: list[Span]
    positive: list[Prompt]
    negative: list[Prompt]
    captions: list[str]
    shared: tuple[str, str]
    frames: list[Blend]

    @classmethod
    def read(cls, text: str, total_frames: int, pace: Pace | None = None) -> PromptSchedule:
        """Read a schedule for a clip; the forms it may have are those of ``prompt_text``.

        Raises:
            ScheduleError: it is none; says in which line and at which character.
        """
        pace, parts = pace or Pace(), read_prompt_text(text)
        ordered = in_order([(entry, entry.value) for entry in parts.entries], total_frames, pace.closed_loop)
        spans = [span for span, _ in ordered]
        positive, negative = (
            [_prompt([*parts.head, value, *parts.tail], side) for _, value in ordered] for side in (_POSITIVE, _NEGATIVE)
        )
        captions = [_prompt([value], _POSITIVE).text for _, value in ordered]
        shared = _prompt(parts.head, _POSITIVE).text, _prompt(parts.tail, _POSITIVE).text
        return cls(spans, positive, negative, captions, shared, blends_of_frames(spans, total_frames, pace))

    @property
    def has_negative(self) -> bool:
        return any(prompt.parts for prompt in self.negative)

    def weights(self) -> dict[str, list[float]]:
        """Weight of each prompt at each frame, by its caption; at each frame they add up to 1."""
        table = {caption: [0.0] * len(self.frames) for caption in self.captions}
        for frame, blend in enumerate(self.frames):
            table[self.captions[blend.first]][frame] += 1.0 - blend.share
            table[self.captions[blend.second]][frame] += blend.share
        return table

    def of_frames(self, prompts: Sequence[Prompt], values: Mapping[str, Sequence[float]]) -> list[FramePrompts]:
        """Work out the prompts of each frame.

        Args:
            prompts: ``positive`` or ``negative``.
            values: numbers for ``WEIGHT_NAMES``, one for each frame or one for all; 0 where there are none.

        Raises:
            ScheduleError: an expression has no value, or there are numbers for another number of frames.
        """
        total = len(self.frames)
        for name, numbers in values.items():
            if len(numbers) not in (1, total):
                raise ScheduleError(f"{name} has {len(numbers)} values for {total} frames. Give one, or {total}.")
        made = []
        for frame, blend in enumerate(self.frames):
            weights = {name: values[name][frame % len(values[name])] if name in values else 0.0 for name in WEIGHT_NAMES}
            variables = variables_of(frame, total) | weights
            first = prompts[blend.first].at(variables)
            made.append(FramePrompts(first, prompts[blend.second].at(variables) if blend.share else first, blend.share))
        return made


def _prompt(pieces: Sequence[Piece], side: int) -> Prompt:
    """Join pieces with commas: what stands before --neg in each, or what stands behind it."""
    pieces = [_side_of(piece, side) for piece in pieces]
    joined: list[str | tuple[Piece, Expression]] = []
    before = ""
    for piece in filter(lambda piece: piece.text, pieces):
        if joined:
            joined.append(" " if before.endswith(",") or piece.text.startswith(",") else ", ")
        joined += _parts_of(piece)
        before = piece.text
    return Prompt(tuple(joined))


def _side_of(piece: Piece, side: int) -> Piece:
    at = piece.text.find(_SEPARATOR)
    if at < 0:
        at = len(piece.text)
    return piece.cut(0, at) if side == _POSITIVE else piece.cut(at + len(_SEPARATOR))


def _parts_of(piece: Piece) -> list[str | tuple[Piece, Expression]]:
    parts: list[str | tuple[Piece, Expression]] = []
    done = 0
    for match in re.finditer(r"`([^`]*)`", piece.text):
        inside = piece.cut(*match.span(1))
        if len(parts) >= 2 * _MOST_EXPRESSIONS:
            raise inside.error(f"a prompt may hold {_MOST_EXPRESSIONS} expressions, and this is one too many.")
        parts += [piece.text[done : match.start()], (inside, inside.expression(_NAMES))]
        done = match.end()
    return [part for part in (*parts, piece.text[done:]) if part]


def _decimals(number: float) -> str:
    return f"{round(number, 4) + 0.0:.4f}".rstrip("0").rstrip(".")  # the 0 added makes -0 plain
