"""Reading prompts over time in the forms in which people write and share them.

::

    a watercolour               lines before the first keyframe come before every prompt
    0: a calm sea
    24: a storm, (waves:1.2)
    best quality                lines after the last keyframe come after every prompt

FizzNodes', Deforum's and AnimateDiff-Evolved's ``"0": "a calm sea", "24": "a storm"`` and ``0 = "a calm sea"``, Comfyroll's
``0, a calm sea``, animatediff-cli's ``0: a calm sea | 24: a storm``, settings files of animatediff-cli and Deforum, and
sd-webui's infotext. Sources: sd-webui-animatediff's README for the first form; descriptions and public schedules else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from .schedule_text import ONE_FRAME, Entry, Piece, have_rising_frames, rows_of

_MOST_CHARACTERS = 30_000
_KEY = rf"(?:{ONE_FRAME})"
_COLON = "[:\uff1a]"  # the second one as Chinese and Japanese keyboards write it
_RANGE = rf"{_KEY}(?::{_KEY}|:)?"
# A second colon makes a range, but not in 0: 16:9 or 0:16:9, where the prompt begins with a ratio or a time.
_LINE = re.compile(rf"(?:[Ff]rames?\s+)?(?:({_KEY}:{_KEY}){_COLON}(?![0-9])|({_KEY}:){_COLON}|({_KEY})\s*(?:{_COLON}|@))")
_BAR = re.compile(rf"\s\|\s+(?={_KEY}\s*{_COLON})")
_QUOTED = re.compile(rf"""\s*(?:(["'])([^"'\n]*)\1\s*:|({_RANGE})\s*[:=])\s*(["'])""")
_FIRST_QUOTED = re.compile(
    rf"""
    ^ [ \t]* (?: \{{ \s* )? (?=
        (["']) [^"'\n]* \1 [ \t]* : \s* ["']
        | {_RANGE} [ \t]* = [ \t]* ["']
        | {_KEY} : [ \t]* "[^"\n]*" , [ \t]* {_KEY} : [ \t]* "  # elsewhere 0: "a", "b" is one prompt
    )
    """,
    re.MULTILINE | re.VERBOSE,
)
_AFTER_QUOTE = re.compile(r"[ \t]*(?:[,\n}#]|//|$)")
_GAP = re.compile(r"(?:[\s,]|(?:#|//)[^\n]*)*")  # with comments, as animatediff-cli's examples have them
_COMMENT = re.compile(r"^[ \t]*(?:#|//|```).*", re.MULTILINE)
# The same in quotes and in lists, as Deforum's and Disco Diffusion's Python has it.
_WRAPPED = re.compile(r""""([^"]*)"\s*,?|'((?:[^']|(?<=\w)'(?=\w))*)'\s*,?""")
_LIST = re.compile(r'\[(\s*"[^"]*"\s*(?:,\s*"[^"]*"\s*)*),?\s*\]\s*,?')
_BRACES = re.compile(r"[\s{}\[\],;]*")
# Of settings files: where the prompts are, and what else there is.
_MAP = re.compile(r"""["']?\b(?:prompt_map|prompts|animation_prompts|text_prompts)\b["']?\s*[:=]\s*\{""")
_MAP_END = re.compile(r""""(?:[^"\\]|\\.)*"|\}""", re.DOTALL)
_PART = r'"(?:%s)"\s*:\s*\[?\s*"((?:[^"\\]|\\.)*)"'
_HEAD = re.compile(_PART % "head_prompt|animation_prompts_positive")
_TAIL = re.compile(_PART % "tail_prompt")
_NEGATIVE = re.compile(_PART % "n_prompt|animation_prompts_negative|negative_prompt")
_SETTING = re.compile(r'"|[A-Za-z_]\w*\s*=')
_SETTINGS_LINE = re.compile(r"^[ \t]*(?:Steps: *[0-9]+ *(?:, *\w|$)|Sampler: *[^,\n]+, *\w)", re.MULTILINE)
_NEGATIVE_LINE = re.compile(r"^[ \t]*Negative(?: prompt)?[ \t]*:", re.MULTILINE | re.IGNORECASE)
_POSITIVE_LINE = re.compile(r"(?:Positive )?Prompt[ \t]*:(?!\s*\{)|parameters[ \t]*\n", re.IGNORECASE)
# A number in quotes of any kind, in brackets, after a bullet or a word, with a unit, as a range, or before an equals sign or
# arrow; a JSON list; a csv header; digits of Chinese and Japanese keyboards.
_QUOTES = "['\"\u201c\u201d\u201e\u2018\u2019]"
_ALMOST = re.compile(
    rf"""
    [\[{{(]* \s* {_QUOTES} \s* {_KEY} (?: [^:=\n]{{0,9}} [:=] | \s* {_QUOTES} \s* (?: , | {_QUOTES} ) )
    | [\[{{(]+ \s* {_KEY} \s* \]? \s* [:,] (?! [0-9])
    | [^\w\s]{{1,3}} \s* {_RANGE} (?: [^\w\s]{{0,2}} \s* {_COLON} (?! [0-9]) | > )
    | [\[{{\s]* \{{ \s* {_QUOTES} \w+ {_QUOTES} \s* : \s* {_QUOTES}? {_KEY}
    | frames? \s* [,;\t] \s* (?:prompt | text | caption) s? \s* $
    | (?: [\uff10-\uff19]+ | max_f [^:\n]{{0,9}} ) \s* {_COLON}
    | {_KEY} \s* (?: = | -> | => | \u2192 )
    | {_KEY} \s* (?: s | sec | secs | seconds | f | frames ) \s* :
    | {_KEY} \s* (?: - | to | \.\. | \u2013 ) \s* {_KEY} \s* :
    | (?:key)? frames? [\s_\#:=]* {_KEY} \s* [^\w\s]
    | (?:at | f) [\s_]* {_KEY} \s* {_COLON}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NUMBERED = re.compile(r"[\[(]?([0-9]{1,9})\s*(?:[\].),|;-]\s*|\s)\S")
_TIME = re.compile(r"0[0-9]:[0-5][0-9](?::[0-5][0-9]|\s)")
_ALSO_IN_LINE = re.compile(rf"[,;|]\s*({_KEY})\s*:\s+[^\W\d]")
_CURE = 'Write 0: a prompt, one per line, or "0": "a prompt" with straight double quotes.'
_WITHOUT_EFFECT = {
    re.compile(r"<(?:lora|lyco|hypernet):[^<>\n]*>"): "Remove it, and load its file with Load LoRA or Load Motion LoRA.",
    re.compile(rf"\[(?=[^\[\]\n]*[^\W\d])[^\[\]\n]*:\s*{_KEY}\s*\]"): f"It is sd-webui's prompt editing. {_CURE}",  # [from:to:when]
}


class PromptText(NamedTuple):
    """What a schedule's text consists of."""

    head: list[Piece]  # before every prompt
    entries: list[Entry]  # the keyframes
    tail: list[Piece]  # after every prompt
    negative: list[Piece]  # for the negative side of every prompt


def read_prompt_text(text: str) -> PromptText:
    """Take a schedule of prompts apart; raises ScheduleError. A text without keyframes is one prompt for all frames."""
    whole, negative = _without_infotext(Piece.of(text, _MOST_CHARACTERS, _COMMENT))
    for form, why in _WITHOUT_EFFECT.items():
        found = form.search(whole.text)
        if found:
            what = whole.cut(*found.span())
            raise what.error(f"{what} has no effect here. {why}")
    found = _MAP.search(whole.text)
    if found:
        return _of_settings(whole, found, negative)
    parts = _parts(whole)
    keyed = [number for number, part in enumerate(parts) if part.key is not None]
    if not keyed:
        return PromptText([], [Entry(Piece(whole.whole, whole.start, "0"), whole)], [], negative)
    first, last = keyed[0], keyed[-1] + 1
    for part in parts[first:last]:
        if part.key is None:
            raise part.value.error(
                "a line between two keyframes has no frame. Write each prompt on one line. Put lines for every prompt "
                "before the first keyframe or after the last."
            )
    return PromptText(_words(parts[:first]), parts[first:last], _words(parts[last:]), negative)


def _words(parts: list[Entry]) -> list[Piece]:
    return [part.value for part in parts if not _BRACES.fullmatch(part.value.text)]


def _without_infotext(whole: Piece) -> tuple[Piece, list[Piece]]:
    """Split sd-webui's infotext into the prompt and the negative prompt, without its settings."""
    settings = _SETTINGS_LINE.search(whole.text)
    if settings:
        whole = whole.cut(0, settings.start())
    positive = _POSITIVE_LINE.match(whole.text)
    if positive:
        whole = whole.cut(positive.end())
    begin = _NEGATIVE_LINE.search(whole.text)
    if begin is None:
        return whole, []
    negative = whole.cut(begin.end())
    for line in negative.lines():
        if _LINE.match(line.text):
            raise line.error("a negative prompt has no keyframes. Put --neg into the prompts, or use a second Prompt Schedule.")
    return whole.cut(0, begin.start()), [negative]


def _of_settings(whole: Piece, found: re.Match[str], negative: list[Piece]) -> PromptText:
    """Read the prompts in a settings file or in a part of one; other settings are ignored."""
    begin = _skip(_GAP, whole, found.end())
    end = next((match.start() for match in _MAP_END.finditer(whole.text, begin) if match[0] == "}"), len(whole.text))
    entries = [part for part in _parts(whole.cut(begin, end)) if not _BRACES.fullmatch(part.value.text)]
    around = [whole.cut(0, found.start()), whole.cut(_skip(_BRACES, whole, end))]
    if not entries or any(entry.key is None for entry in entries):
        raise whole.error(f"there are no keyframes in these braces. {_CURE}", begin)
    lines = [[line for line in side.lines() if not _BRACES.fullmatch(line.text)] for side in around]
    if any(_SETTING.match(line.text) for side in lines for line in side):
        lines = [_named(around, name) for name in (_HEAD, _TAIL)]
    return PromptText(lines[0], entries, lines[1], [*negative, *_named(around, _NEGATIVE)])


def _named(pieces: list[Piece], name: re.Pattern[str]) -> list[Piece]:
    found = [(piece, match) for piece in pieces for match in name.finditer(piece.text)]
    return [Piece(piece.whole, piece.start + match.start(1), _unescape(match[1], True)) for piece, match in found]


def _parts(whole: Piece) -> list[Entry]:
    inner = whole.cut(1, -1) if re.match(rf"\{{\s*{_QUOTES}?{_KEY}", whole.text) and whole.text.endswith("}") else whole
    if re.search(rf"[\u201c\u201e]\s*{_KEY}\s*[\u201c\u201d]\s*:", inner.text):  # as word processors turn them
        inner = inner._replace(text=re.sub("[\u201c\u201d\u201e]", '"', inner.text))
    if _LINE.match(inner.text):
        inner = inner._replace(text=_BAR.sub(lambda match: "\n".ljust(len(match[0])), inner.text))
    quoted = _FIRST_QUOTED.search(inner.text)
    parts = list(_quoted_parts(inner, quoted.start(), quoted.end()) if quoted else _line_parts(inner))
    lines = [part.value for part in parts if part.key is None]
    rows = rows_of(lines) if len(lines) == len(parts) else []
    if have_rising_frames(rows) and (len(rows) > 1 or [row.key.text for row in rows if row.key] == ["0"]):
        return [Entry(row.key, _unquoted(row.value)) for row in rows]
    numbers = [int(match[1]) for match in map(_NUMBERED.match, (line.text for line in lines)) if match]
    are_counted = numbers[:1] == [0] and len(numbers) > 1 and numbers == sorted(set(numbers))
    for line in lines:
        if _ALMOST.match(line.text) or (are_counted and _NUMBERED.match(line.text)):
            raise line.error(f"this looks like a keyframe but cannot be read as one. {_CURE}")
    return parts


def _line_parts(whole: Piece) -> Iterator[Entry]:
    for line in whole.lines():
        keyed = _LINE.match(line.text)
        if keyed is None:
            yield Entry(None, line)
            continue
        if _TIME.match(line.text):
            raise line.error(f"this looks like a time, but keyframes are given in frames. {_CURE}")
        value = line.cut(keyed.end())
        further = _ALSO_IN_LINE.search(value.text)
        if further and not value.text.startswith(('"', "'")):
            raise value.error(f"'{further[1]}:' looks like a second keyframe on this line. {_CURE}", further.start(1))
        yield Entry(line.cut(*keyed.span(keyed.lastindex or 0)), _unquoted(value))


def _unquoted(value: Piece) -> Piece:
    """Remove quotes around a whole prompt, and join a list of quoted prompts."""
    wrapped, listed = _WRAPPED.fullmatch(value.text), _LIST.fullmatch(value.text)
    if wrapped:
        return value.cut(*wrapped.span(wrapped.lastindex or 0))
    return Piece(value.whole, value.start, ", ".join(re.findall('"([^"]*)"', listed[1]))) if listed else value


def _quoted_parts(whole: Piece, head_end: int, start: int) -> Iterator[Entry]:
    """Keyframes in quotes, and lines before and after them."""
    yield from _line_parts(whole.cut(0, head_end))
    at = start
    while match := _QUOTED.match(whole.text, at):
        end = _closing_quote(whole, match.end() - 1)
        value = whole.cut(match.end(), end)
        unescaped = _unescape(value.text, match[1] == match[4] == '"')
        yield Entry(whole.cut(*match.span(3 if match[3] else 2)), Piece(value.whole, value.start, unescaped))
        if not _AFTER_QUOTE.match(whole.text, end + 1):
            raise whole.cut(end).error(
                'a comma is missing after this quote. If the quote is part of the prompt, write a backslash before it: \\"'
            )
        at = _skip(_GAP, whole, end + 1)
    for part in _line_parts(whole.cut(at + whole.text.startswith("}", at))):
        if part.value.text.startswith(('"', "'")):
            raise part.value.error('a keyframe is expected here, as in "24": "a storm".')
        yield part


def _skip(blanks: re.Pattern[str], whole: Piece, at: int) -> int:
    match = blanks.match(whole.text, at)
    return match.end() if match else at


def _closing_quote(whole: Piece, opening: int) -> int:
    # A single quote with more words after it is an apostrophe.
    quote = '"' if whole.text[opening] == '"' else f"'(?={_AFTER_QUOTE.pattern})"
    for match in re.compile(rf"\\.|({quote})", re.DOTALL).finditer(whole.text, opening + 1):
        if match[1]:
            return match.start()
    raise whole.cut(opening).error("the quote that opens here is not closed.")


def _unescape(text: str, is_json: bool) -> str:
    r"""Resolve escaped quotes; in JSON other escapes, too, unless it is not valid JSON, as in a cat \(animal\)."""
    if is_json:
        try:
            unescaped = json.loads(f'"{text}"', strict=False)
            unescaped.encode()  # an escaped half of a character stays as it was written
            return unescaped
        except ValueError:
            pass
    return re.sub(r"\\([\"'])", r"\1", text)
