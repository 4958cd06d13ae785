"""Reading prompts over time as people write them: one a line behind its frame, or in quotes as FizzNodes' and ADE's users do.

::

    a watercolour                       lines before the first keyframe stand in front of every prompt
    0: a calm sea
    24: a storm, (waves:1.2)
    best quality                        lines behind the last keyframe, behind every prompt

    "0": "a calm sea", "24": "a storm"  FizzNodes, ADE; in braces too
    0 = "a calm sea", 24 = "a storm"    ADE

Sources: the README of sd-webui-animatediff for the first form; the descriptions of ComfyUI-AnimateDiff-Evolved's Prompt
Scheduling and FizzNodes' Batch Prompt Schedule for the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .schedule_text import ONE_FRAME, Entry, Piece

_MOST_CHARACTERS = 30_000
_KEY = rf"(?:{ONE_FRAME})"
_COLON = "[:\uff1a]"  # the second one as Chinese and Japanese keyboards write it
# A second colon makes a range, but not in 0: 16:9 or 0:16:9, where the prompt begins with a ratio or a time.
_LINE = re.compile(rf"(?:({_KEY}:{_KEY}){_COLON}(?![0-9])|({_KEY}:){_COLON}|({_KEY})\s*{_COLON})")
_ASSIGNED = rf"{_KEY}(?::{_KEY}|:)?"
_QUOTED = re.compile(rf'\s*(?:"([^"\n]*)"\s*:|({_ASSIGNED})\s*=)\s*"')
_FIRST_QUOTED = re.compile(rf'^[ \t]*(?:\{{\s*)?(?="[^"\n]*"[ \t]*:\s*"|{_ASSIGNED}[ \t]*=\s*")', re.MULTILINE)
_QUOTES = "['\"\u201c\u201d\u201e\u2018\u2019]"
# A number in quotes of any kind, or behind a brace, or before an equals sign.
_ALMOST = re.compile(rf"[\[{{(]*\s*{_QUOTES}\s*{_KEY}[^:=\n]{{0,9}}[:=]|\{{\s*{_KEY}\s*:|{_KEY}\s*=")
_WRAPPED = re.compile(r'"([^"]*)"\s*,?')


@dataclass(frozen=True)
class PromptText:
    """What a schedule's text consists of.

    Attributes:
        head: lines for in front of every prompt.
        entries: the keyframes, as they were written.
        tail: lines for behind every prompt.
    """

    head: list[Piece]
    entries: list[Entry]
    tail: list[Piece]


def read_prompt_text(text: str) -> PromptText:
    """Take a schedule of prompts apart. A text without any keyframe is one prompt for all frames.

    Raises:
        ScheduleError: it is neither of the forms above; says where.
    """
    whole = Piece.of(text, _MOST_CHARACTERS)
    quoted = _FIRST_QUOTED.search(whole.text)
    parts = list(_quoted_parts(whole, quoted.start(), quoted.end()) if quoted else _line_parts(whole))
    keyed = [number for number, part in enumerate(parts) if part.key is not None]
    for part in parts:
        if part.key is None and _ALMOST.match(part.value.text):
            raise part.value.error(
                'this looks like a keyframe but cannot be read as one. Write 0: a prompt, or "0": "a prompt" with straight '
                "double quotes."
            )
    if not keyed:
        whole = whole.cut(0)
        return PromptText([], [Entry(Piece(whole.whole, whole.start, "0"), whole)], [])
    first, last = keyed[0], keyed[-1]
    for part in parts[first:last]:
        if part.key is None:
            raise part.value.error(
                "a line between two keyframes has no frame. Write each prompt in one line. Lines for every prompt stand "
                "before the first keyframe or behind the last one."
            )
    return PromptText(
        [part.value for part in parts[:first]], parts[first : last + 1], [part.value for part in parts[last + 1 :]]
    )


def _line_parts(whole: Piece, start: int = 0, end: int | None = None) -> Iterator[Entry]:
    """Lines with a frame before a colon, and others."""
    for match in re.compile(r"[^\n]+").finditer(whole.text, start, len(whole.text) if end is None else end):
        line = whole.cut(*match.span())
        if not line.text:
            continue
        keyed = _LINE.match(line.text)
        if keyed is None:
            yield Entry(None, line)
            continue
        value = line.cut(keyed.end())
        wrapped = _WRAPPED.fullmatch(value.text)
        if wrapped:
            value = value.cut(wrapped.start(1), wrapped.end(1))
        group = keyed.lastindex or 0
        yield Entry(line.cut(*keyed.span(group)), value)


def _quoted_parts(whole: Piece, head_end: int, start: int) -> Iterator[Entry]:
    """Keyframes in quotes, and lines before and behind them."""
    yield from _line_parts(whole, 0, head_end)
    text, at = whole.text, start
    while True:
        match = _QUOTED.match(text, at)
        if match is None:
            break
        end = _closing_quote(whole, match.end() - 1)
        is_json = match[1] is not None
        value = whole.cut(match.end(), end)
        yield Entry(whole.cut(*match.span(1 if is_json else 2)), Piece(value.whole, value.start, _unescape(value.text, is_json)))
        gap = re.compile(r"[ \t]*(,|\n|\}|$)").match(text, end + 1)
        if gap is None:
            raise whole.cut(end).error(
                'behind this quote a comma is missing. If the quote is part of the prompt, write a backslash before it: \\"'
            )
        at = re.compile(r"[\s,]*").match(text, gap.start()).end()  # type: ignore[union-attr]
    if text.startswith("}", at):
        at += 1
    for part in _line_parts(whole, at):
        if part.value.text.startswith('"'):
            raise part.value.error('a keyframe is expected here, as in "24": "a storm".')
        yield part


def _closing_quote(whole: Piece, opening: int) -> int:
    for match in re.compile(r'\\.|"', re.DOTALL).finditer(whole.text, opening + 1):
        if match[0] == '"':
            return match.start()
    raise whole.cut(opening).error("the quote that opens here is not closed.")


def _unescape(text: str, is_json: bool) -> str:
    r"""Take out the backslashes of quotes; in JSON those of other signs too, unless it is none, as in a cat \(animal\)."""
    if is_json:
        try:
            return json.loads(f'"{text}"', strict=False)
        except json.JSONDecodeError:
            pass
    return text.replace('\\"', '"')
