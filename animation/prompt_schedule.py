"""Prompts over the frames of a clip: which two prompts each frame lies between, and how much of each it has."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .prompt_text import read_prompt_text
from .schedule import Blend, Pace, ScheduleError, Span, blends_of_frames
from .schedule_text import NAMES, Formula, Piece, check_keys, in_order, span_of, variables_of

WEIGHT_NAMES = ("pw_a", "pw_b", "pw_c", "pw_d")  # of numbers that come from elsewhere; FizzNodes' own, as is --neg
_SEPARATOR = "--neg"  # of a prompt and its negative one
_MOST_FORMULAS = 50
_TOO_MANY = f"a prompt may hold {_MOST_FORMULAS} formulas, with those for every prompt, and this is one too many."
# In backticks, or as a weight in single quotes, (storm:'t / max_f'); elsewhere a quote may be one, and may be words.
_FORMULA = re.compile(
    r"""
    `([^`]*)` | (?<=:)'([^'\n]*)'(?=\))
    | (?<!\w)'((?=[^'\n]*(?:max_f|pw_[a-d]|\bt\s*[-+*/%]|[-+*/%(]\s*t\b))[^'\n]*)'(?!\w)
    """,
    re.VERBOSE,
)


class Prompt(NamedTuple):
    """A prompt whose formulas have not been worked out yet: texts, and formulas between them."""

    parts: tuple[str | Formula, ...]

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else f"`{part.expression.text}`" for part in self.parts)


class FramePrompts(NamedTuple):
    """A frame's two prompts and the weight of the second, 0 to 1; where there is only one, they are the same."""

    first: str
    second: str
    share: float


class PromptKeyframes(NamedTuple):
    """A schedule as it is written, for a clip of any length."""

    keys: list[Piece]
    positive: list[Prompt]  # of each key, as the next two
    negative: list[Prompt]
    captions: list[str]  # without the words that all share
    shared: tuple[str, str]  # the words before every prompt, and those after it

    @classmethod
    def read(cls, text: str, joiner: str = ", ") -> PromptKeyframes:
        """Read a schedule, or raise ScheduleError; the forms it may have are those of ``prompt_text``.

        ``joiner`` stands between a prompt and the words that all share.
        """
        parts = read_prompt_text(text)
        keyed = [(entry.key, entry.value) for entry in parts.entries if entry.key is not None]
        check_keys([key for key, _ in keyed])
        own, no_words = [_sides(value) for _, value in keyed], (Prompt(()), Prompt(()))
        (head, negative_head), (tail, negative_tail) = (
            [_joined(side, joiner) for side in zip(no_words, *map(_sides, pieces), strict=True)] for pieces in (parts.head, parts.tail)
        )
        return cls(
            [key for key, _ in keyed],
            [_joined([head, prompt, tail], joiner) for prompt, _ in own],
            [_joined([negative_head, prompt, negative_tail, *map(_prompt, parts.negative)], joiner) for _, prompt in own],
            [prompt.text for prompt, _ in own],
            (head.text, tail.text),
        )

    def texts(self) -> list[str] | None:
        """All prompts, positive and negative; None if formulas make them."""
        prompts = [*self.positive, *self.negative]
        has_formulas = any(isinstance(part, Formula) for prompt in prompts for part in prompt.parts)
        return None if has_formulas else [prompt.text for prompt in prompts]

    def over(self, total_frames: int, pace: Pace | None = None) -> PromptSchedule:
        """Place the keyframes in a clip, or raise ScheduleError."""
        pace = pace or Pace()
        read_key = functools.partial(span_of, total_frames=total_frames, inside=pace.closed_loop)
        numbered = [(key, number) for number, key in enumerate(self.keys)]
        spans, order = zip(*in_order(numbered, read_key), strict=True)
        positive, negative, captions = ([side[number] for number in order] for side in self[1:4])
        return PromptSchedule(list(spans), positive, negative, captions, self.shared, blends_of_frames(spans, total_frames, pace))


class PromptSchedule(NamedTuple):
    """A schedule for the frames of a clip."""

    spans: list[Span]  # of the keyframes, in order, as the next three
    positive: list[Prompt]
    negative: list[Prompt]
    captions: list[str]
    shared: tuple[str, str]
    frames: list[Blend]  # of two keyframes each

    def weights(self) -> dict[str, dict[int, float]]:
        """Weight of each prompt, by its caption, at each frame where it has one; at each frame they add up to 1."""
        table: dict[str, dict[int, float]] = {caption: {} for caption in self.captions}
        for frame, blend in enumerate(self.frames):
            for number, weight in ((blend.first, 1.0 - blend.share), (blend.second, blend.share)):
                if weight:
                    row = table[self.captions[number]]
                    row[frame] = row.get(frame, 0.0) + weight
        return table

    def of_frames(self, prompts: Sequence[Prompt], values: Mapping[str, Sequence[float]]) -> list[FramePrompts]:
        """Work out ``positive`` or ``negative`` prompts for each frame; ScheduleError where a formula has no value.

        ``values`` are numbers for ``WEIGHT_NAMES``, one for each frame or one for all; 0 where there are none.
        """
        total = len(self.frames)
        for name, numbers in values.items():
            if len(numbers) not in (1, total):
                raise ScheduleError(f"{name} has {len(numbers)} values for {total} frames. Give one, or {total}.")
        variables = variables_of(range(total), total) | {name: np.array(values.get(name, [0.0])) for name in WEIGHT_NAMES}
        worked_out: dict[Formula, Sequence[float]] = {}

        def text(prompt: Prompt, frame: int) -> str:
            for part in prompt.parts:
                if isinstance(part, Formula) and part not in worked_out:
                    worked_out[part] = part.expression(variables).tolist()
            return "".join(
                part if isinstance(part, str) else _decimals(part.checked(worked_out[part][frame], frame))
                for part in prompt.parts
            )

        result = []
        for frame, blend in enumerate(self.frames):
            first = text(prompts[blend.first], frame)
            result.append(FramePrompts(first, text(prompts[blend.second], frame) if blend.share else first, blend.share))
        return result


def _joined(prompts: Iterable[Prompt], joiner: str) -> Prompt:
    parts: list[str | Formula] = []
    for prompt in prompts:
        if parts and prompt.parts:
            before, after = (end if isinstance(end, str) else "" for end in (parts[-1], prompt.parts[0]))
            parts.append(" " if before.endswith(",") or after.startswith(",") else joiner)
        parts += prompt.parts
    formulas = [part for part in parts if isinstance(part, Formula)]
    if len(formulas) > _MOST_FORMULAS:
        raise formulas[_MOST_FORMULAS].piece.error(_TOO_MANY)
    return Prompt(tuple(parts))


def _sides(piece: Piece) -> tuple[Prompt, Prompt]:
    """The prompt before --neg, and the negative one after it."""
    before, separator, _ = piece.text.partition(_SEPARATOR)
    return _prompt(piece.cut(0, len(before))), _prompt(piece.cut(len(before) + len(separator)))


def _prompt(piece: Piece) -> Prompt:
    parts: list[str | Formula] = []
    done = 0
    for match in _FORMULA.finditer(piece.text):
        inside = piece.cut(*match.span(match.lastindex or 0))
        if len(parts) >= 2 * _MOST_FORMULAS:
            raise inside.error(_TOO_MANY)
        try:
            formula = Formula.read(inside, (*NAMES, *WEIGHT_NAMES))
        except ScheduleError:
            if match[3] is None:
                raise
            continue
        parts += [piece.text[done : match.start()], formula]
        done = match.end()
    return Prompt(tuple(part for part in (*parts, piece.text[done:]) if part))


def _decimals(number: float) -> str:
    return f"{round(number, 4) + 0.0:.4f}".rstrip("0").rstrip(".")  # the 0 added makes -0 plain
