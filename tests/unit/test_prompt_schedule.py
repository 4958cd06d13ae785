"""Prompts over time: what each form of text says, the weights it leads to, and what is said to be wrong with it."""

from __future__ import annotations

import contextlib
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.animation.prompt_schedule import PromptKeyframes, PromptSchedule
from pack.animation.schedule import Easing, Pace, ScheduleError

LINEAR, EASE, HOLD = Easing.LINEAR, Easing.EASE_IN_OUT, Easing.HOLD


def read(text: str, frames: int = 16, **pace) -> PromptSchedule:
    return PromptKeyframes.read(text).over(frames, Pace(**pace))


def keyframes(text: str, frames: int = 16) -> list[tuple]:
    """First and last frame of each keyframe and its prompt, and a True if it stays until the next."""
    schedule = read(text, frames)
    return [
        (span.first, span.last, prompt.text, *([True] if span.until_next else []))
        for span, prompt in zip(schedule.spans, schedule.positive, strict=True)
    ]


def table(text: str, frames: int = 9, **pace) -> dict[str, list[float]]:
    return {caption: [row.get(frame, 0) for frame in range(frames)] for caption, row in read(text, frames, **pace).weights().items()}


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Lines.
        ("0: a calm sea\n12: a storm", [(0, 0, "a calm sea"), (12, 12, "a storm")]),
        ("  0 :a \r\n\r\n 12:  b \r\n", [(0, 0, "a"), (12, 12, "b")]),
        ("12: b\n0: a", [(0, 0, "a"), (12, 12, "b")]),
        ("-1: z\n-16: a", [(0, 0, "a"), (15, 15, "z")]),
        ("0%: a\n50%: b\n100 %: c", [(0, 0, "a"), (7.5, 7.5, "b"), (15, 15, "c")]),
        ("0.0: a\n0.5: b\n1.0: c", [(0, 0, "a"), (8, 8, "b"), (15, 15, "c")]),
        ("0: a\n1: b", [(0, 0, "a"), (1, 1, "b")]),
        ("0:8: a\n8:16: b", [(0, 7, "a"), (8, 15, "b")]),
        ("0:-5:a\n-2: b", [(0, 10, "a"), (14, 14, "b")]),
        ("0%:50%: a\n0.5:1.0: b", [(0, 7, "a"), (8, 14, "b")]),
        ("0:: a\n8: b", [(0, 0, "a", True), (8, 8, "b")]),
        ("0: a\n40: b", [(0, 0, "a"), (40, 40, "b")]),
        ('0: "a, b",\n8: "c"', [(0, 0, "a, b"), (8, 8, "c")]),
        ("0:\n8: b", [(0, 0, ""), (8, 8, "b")]),
        ("0\uff1a\u6d77\n8\uff1a\u5c71", [(0, 0, "\u6d77"), (8, 8, "\u5c71")]),
        # A head and a tail, as sd-webui-animatediff has them.
        ("masterpiece,\nbest\n0: a\n8: b,\ntail 1\ntail 2", [(0, 0, "masterpiece, best, a, tail 1, tail 2"), (8, 8, "masterpiece, best, b, tail 1, tail 2")]),
        ('head\n"0": "a",\n"8": "b"\ntail', [(0, 0, "head, a, tail"), (8, 8, "head, b, tail")]),
        # A text without frames is one prompt.
        ("a calm sea\nat night", [(0, 0, "a calm sea\nat night")]),
        ("a sign: OPEN, (red:1.2)", [(0, 0, "a sign: OPEN, (red:1.2)")]),
        # FizzNodes.
        ('"0": "a",\n"12" :"b"', [(0, 0, "a"), (12, 12, "b")]),
        ('{"0": "a", "max_f/2": "b", "max_f": "c",}', [(0, 0, "a"), (7, 7, "b"), (15, 15, "c")]),
        ('{\n"0":\n"a \\"b\\" \\\\(c\\\\) \\u00e9"\n}', [(0, 0, 'a "b" \\(c\\) \u00e9')]),
        # ADE: keys, ranges and holds in both of its forms; no escapes there, so a bracket's backslash stays.
        ('"0": "a \\(b\\)", "0.5:" : "c", "12:16": "d"', [(0, 0, "a \\(b\\)"), (8, 8, "c", True), (12, 15, "d")]),
        ('0 = "a", 8: = "b"\n12:-1="c",', [(0, 0, "a"), (8, 8, "b", True), (12, 14, "c")]),
        ('{0 = "line\none"}', [(0, 0, "line\none")]),
    ],
)  # fmt: skip
def test_what_is_read(text, expected):
    assert keyframes(text) == expected


A_B = [(0, 0, "a"), (8, 8, "b")]
SHARED = [(0, 0, "head, a, tail"), (8, 8, "head, b, tail")]
ANIMATEDIFF_CLI = """{
  "name": "sample",
  "seed": [
    341774366206100,
    -1               # -1 is random
  ],
  "steps": 40,
  "head_prompt": "head",
  "prompt_map": {           # "FRAME" : "PROMPT" format
    "0":  "a",              // the first
    "8":  "b"
  },
  "tail_prompt": "tail",
  "n_prompt": [
    "(worst quality:1.4), \\"text\\""
  ],
  "lora_map": {             # "PATH_TO_LORA": STRENGTH format
    "share/Lora/detail.safetensors": 1.0
  }
}"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Comfyroll, and its copies.
        ("0, a\n8, b", A_B),
        ('0, "a, c",\n8, b,', [(0, 0, "a, c"), (8, 8, "b")]),
        ("0, a", [(0, 0, "a")]),
        ("0@a\n8@ b", A_B),
        # animatediff-cli: its settings, a part of them, and Replicate's.
        (ANIMATEDIFF_CLI, SHARED),
        (ANIMATEDIFF_CLI[ANIMATEDIFF_CLI.index('"head') : ANIMATEDIFF_CLI.index('"n_prompt')], SHARED),
        ('head\n"prompt_map": {\n"0": "a",\n"8": "b"\n},\ntail', SHARED),
        ("0: a | 8: b", A_B),
        # Deforum and Disco Diffusion: JSON and Python.
        ('"prompts": {\n  "0": "a",\n  "max_f/2+1": "b"\n},\n"animation_prompts_positive": "head",', [(0, 0, "head, a"), (8, 8, "head, b")]),
        ('animation_prompts = {\n  0: "a",\n  8: "b",\n}\nneg_prompts = {"c"}', A_B),
        ('{0: "a", 8: "b"}', A_B),
        ('0: "a", 8: "b"', A_B),
        ('{\n0: ["a", "c"],\n8: ["b",]\n}', [(0, 0, "a, c"), (8, 8, "b")]),
        ("{'0': 'it's a', '8': 'b'}", [(0, 0, "it's a"), (8, 8, "b")]),
        ("'0': 'a',\n'8': 'b'", A_B),
        ("0:'it's a'\n8:'b'", [(0, 0, "it's a"), (8, 8, "b")]),
        # As chats and word processors write them.
        ("Frame 0: a\nFrame 8: b", A_B),
        ('```json\n{\n"0": "a",\n"8": "b"\n}\n```', A_B),
        ("\u201c0\u201d: \u201ca\u201d,\n\u201c8\u201d: \u201cb\u201d", A_B),
        ("head\n{\n0: a\n8: b\n},\ntail", SHARED),
        ('head\n{"0": "a", "8": "b"}\ntail', SHARED),
        # Comments.
        ("# mine\n0: a\n  # 4: c\n// 6: d\n8: b", A_B),
        ('"0": "a",  # 4\n"8": "b" // "12": "c"', A_B),
        # These are prompts.
        ("2, a", [(0, 0, "2, a")]),
        ("1girl, solo\n2, 3", [(0, 0, "1girl, solo\n2, 3")]),
        ("1 cat\n2 dogs", [(0, 0, "1 cat\n2 dogs")]),
        ("{day|night}\n0: a", [(0, 0, "{day|night}, a")]),
        ("8k, best\n0: a", [(0, 0, "8k, best, a")]),
        ("(2:1.2), frames 8 people\n0: a", [(0, 0, "(2:1.2), frames 8 people, a")]),
    ],
)  # fmt: skip
def test_other_tools_forms_are_read(text, expected):
    assert keyframes(text) == expected


@pytest.mark.parametrize(
    "text",
    ["f1.8, 50mm", "at 8, sunset", "(16:9), a cat", "frame, portrait", "(1,000 men), a war", "(a cat:1.2)", "[cat|dog]", "- a", "2 cats"],
)
def test_prompts_alone_are_no_keyframes(text):
    assert keyframes(text) == [(0, 0, text)]


def test_negative_prompts_of_other_tools():
    infotext = (
        "a woman\n0: open eyes\n10: a smile --neg teeth\nNegative prompt: render,\ncartoon\n"
        'Steps: 22, Sampler: Euler a, CFG scale: 7, AnimateDiff: "enable: True", Version: 1.6.0\nTemplate: x'
    )
    for text, positive, negative in [
        (infotext, ["a woman, open eyes", "a woman, a smile"], ["render,\ncartoon", "teeth, render,\ncartoon"]),
        ("a cat\nNegative prompt: bad", ["a cat"], ["bad"]),
        ("Prompt: a cat\nNegative: bad", ["a cat"], ["bad"]),
        ("Positive prompt:\n0: a\n8: b\nNegative prompt : bad", ["a", "b"], ["bad"] * 2),
        ("a cat\nSteps: 22, Sampler: Euler a", ["a cat"], [""]),
        ("parameters\na cat\nSteps: 22", ["a cat"], [""]),
        ("a cat\nSampler: Euler a, Steps: 22, Seed: 3", ["a cat"], [""]),
        (ANIMATEDIFF_CLI, ["head, a, tail", "head, b, tail"], ['(worst quality:1.4), "text"'] * 2),
        ('"prompts": {"0": "a --neg b"}, "animation_prompts_negative": "c"', ["a"], ["b, c"]),
    ]:
        schedule = read(text)
        assert [prompt.text for prompt in schedule.positive] == positive
        assert [prompt.text for prompt in schedule.negative] == negative


@pytest.mark.parametrize(
    "prompt",
    [
        "16:9 picture", "12:30: noon", "a: b: c", "(word:1.2), ((word)), [a|b]", "embedding:easynegative",
        '"hello" on a sign, "bye"', "it's, \"so\"", "a, b; c = 4", "1girl, 2: 3", "// no comment", "0.5", "\\(animal\\)", "{x}",
        ": colon", "- minus", "[cat|dog]", "f1.8, 50mm", "at 8, sunset", "negative space: 1", "(16:9)", "frame, portrait", "(1,000 men)", "50% off: sale", "a `backtick",
    ],
)  # fmt: skip
def test_prompts_keep_their_signs(prompt):
    assert keyframes(f"0: {prompt}\n8: b") == [(0, 0, prompt), (8, 8, "b")]
    assert keyframes(f"0:{prompt}\n8: b")[0][2] == prompt or prompt.startswith(":")
    assert keyframes(f'"0": {json.dumps(prompt)}, "8": "b"') == [(0, 0, prompt), (8, 8, "b")]


_PROMPTS = st.text(st.characters(exclude_characters="`\n\r", exclude_categories=["Cs"]), max_size=40).map(str.strip)
_SCHEDULES = st.dictionaries(st.integers(0, 40), _PROMPTS, min_size=1, max_size=6).filter(lambda s: "--neg" not in str(s))


@settings(deadline=None)  # the machine may be busy
@given(_SCHEDULES)
def test_lines_come_back_as_written(schedule):
    lines = {f: p for f, p in schedule.items() if not p.startswith('"') and not p.startswith(("=", ":", "\uff1a"))}
    if lines:
        text = "\n".join(f"{frame}: {prompt}" for frame, prompt in lines.items())
        assert keyframes(text) == [(frame, frame, lines[frame]) for frame in sorted(lines)]


@settings(deadline=None)  # the machine may be busy
@given(_SCHEDULES, st.booleans(), st.booleans())
def test_json_comes_back_as_written(schedule, braces, ascii_only):
    """What json writes is what FizzNodes reads with it."""
    text = json.dumps({str(frame): prompt for frame, prompt in schedule.items()}, ensure_ascii=ascii_only)
    assert keyframes(text if braces else text[1:-1]) == [(frame, frame, schedule[frame]) for frame in sorted(schedule)]


@settings(deadline=None)  # the machine may be busy
@given(_SCHEDULES)
def test_assignments_come_back_as_written(schedule):
    plain = {frame: prompt.replace('"', "").replace("\\", "").strip() for frame, prompt in schedule.items()}
    text = ",\n".join(f'{frame} = "{prompt}"' for frame, prompt in plain.items())
    assert keyframes(text) == [(frame, frame, plain[frame]) for frame in sorted(plain)]


# --- what is wrong ----------------------------------------------------------------------------------------------------

_LOOKS_LIKE = "this looks like a keyframe but cannot be read as one"
_ALMOST = [
    "0s: a\n2s: b", "0.5 sec: a", "0-8: a\n8-16: b", "0 to 8: a", "[0: a]\n[8: b]", "[0] a\n[8] b", "0. a\n8. b", "0) a\n8) b",
    "0 - a\n8 - b", "0 a\n8 b", "0 -> a", "0 => a", "keyframe 0 - a", '"0" "a", "8" "b"', '"0", "a"', "\u20180\u2019: a",
    "- 0: a\n- 8: b", "* 0: a", "(0: a)\n(8: b)", "<0> a\n<8> b", "**0**: a", "at 0: a\nat 8: b", "frame_0: a", "f0: a\nf8: b",
    "Frame: 0, Prompt: a", '[{"frame": 0, "prompt": "a"}]', '[[0, "a"], [8, "b"]]', '(0, "a"), (8, "b")', "frame,prompt\n0,a\n8,b",
    "0, a\n8, b\nbest quality", "\uff10\uff1aa\n\uff18\uff1ab", "[0:8]: a", "max_f: a",
    "max_f / 2: a",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (" \n", "The text is empty. Write at least one keyframe"),
        ("0: a\n101%: b", "Line 2, character 1: percentages go from 0% to 100%."),
        ("1.5: a", "Line 1, character 1: '1.5' is a share of the clip, and shares go from 0.0 to 1.0."),
        ("0: a\n  -17: b", "Line 2, character 3: a clip of 16 frames has none before -16."),
        ("8: a\n\n8: b", "Line 3, character 1: '8' and '8' are for the same position. Remove or change one of them."),
        ("15: a\n-1: b", "Line 2, character 1: '15' and '-1' are for the same position"),
        ("0:8: a\n4: b", "Line 2, character 1: '0:8' and '4' are for the same position"),
        ("8:4: a", "Line 1, character 1: '8:4' contains no frame. A range ends before its second frame"),
        ("0: a\nstray\n8: b", "Line 2, character 1: a line between two keyframes has no frame. Write each prompt on one line."),
        ('"0": "a "b" c"', "Line 1, character 9: a comma is missing after this quote."),
        ('"0": "a" "8": "b"', "Line 1, character 8: a comma is missing after this quote."),
        ('"0": "a",\n "8": "b', "Line 2, character 7: the quote that opens here is not closed."),
        ('"0": "a", "8" "b"', "Line 1, character 11: a keyframe is expected here"),
        ('"one": "a"', "Line 1, character 2: 'one' is not known. There are max_f, frames"),
        ('"0-4": "a"', "Line 1, character 2: '0-4' is not a frame. Write a whole number or a percentage of the clip"),
        ("0 = a", f"Line 1, character 1: {_LOOKS_LIKE}"),
        *((text, f"Line 1, character 1: {_LOOKS_LIKE}") for text in _ALMOST),
        ("head\n0: a\n8-16: b", f"Line 3, character 1: {_LOOKS_LIKE}"),
        ("0: a sea, 8: a storm", "Line 1, character 11: '8:' looks like a second keyframe on this line. Write 0: a prompt, one per line"),
        ("0: a\n00:05 b", "Line 2, character 1: this looks like a time, but keyframes are given in frames."),
        ("0: a\nNegative prompt: c\n0: d\n8: e", "Line 3, character 1: a negative prompt has no keyframes. Put --neg into the prompts"),
        ("prompts = {}", "Line 1, character 12: there are no keyframes in these braces."),
        ("1girl, <lora:TiltUp:0.8>\n0: a", "Line 1, character 8: <lora:TiltUp:0.8> has no effect here. Remove it, and load its file with Load LoRA"),
        ("a [cat:dog:8]\n", "Line 1, character 3: [cat:dog:8] has no effect here. It is sd-webui's prompt editing. Write 0: a prompt"),
        ("0: a [cat:0.5]", "Line 1, character 6: [cat:0.5] has no effect here"),
        ("0: a \ud83d", "Line 1, character 6: this is only half of a character."),
        ("#", "The text is empty"),
        ("0: " + "`t`" * 51, "Line 1, character 155: a prompt may hold 50 formulas, with those for every prompt, and this is one too many."),
        ("`t`" * 30 + "\n0: " + "`t`" * 21, "a prompt may hold 50 formulas"),
        ("0: a\n{8: b}", f"Line 2, character 1: {_LOOKS_LIKE}"),
        ("0: a\n8: b (c:`2 * x`)", "Line 2, character 10: 'x' is not known. There are t, max_f, frames, pw_a"),
        ("head `1 +`\n0: a", "Line 1, character 9: the expression cannot be read from here on."),
    ],
)
def test_what_is_wrong_is_said_with_line_and_character(text, wrong):
    with pytest.raises(ScheduleError) as caught:
        read(text)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 40_000, "0: a\n" * 6000, "\n".join(f"{i}: a" for i in range(4000)), '"' * 29_999, '"0": ' * 5000, "{" * 29_999,
        "0:" * 14_000, "8" * 29_999, "0: `" + "`t`" * 9000, " " * 29_998 + "\n0", "\\" * 29_999, '"0": "' + "\\" * 29_000,
        "h\n" * 14_000 + "0: a", "Negative prompt:\n" * 1700, '"prompt_map": {' + '"' * 29_000, "prompts = {" * 2700, "0: a | " * 4200,
        ", ".join(f"`sin(t+{i})*cos(t*{i})+tan(t)`" for i in range(50)) + "\n" + "\n".join(f"{i}:a" for i in range(3800)),
        "<lora:" * 4900, "[" * 29_999, "[a:" * 9_999, "[" + "a" * 29_000, "[a" + ":8" * 14_000, "0: [" + '"",' * 9000, "0 , " * 7000, "'0': '" * 4900, "#\n" * 14_000, "0: `" + "t+" * 14_000 + "`",
        "0: a\n" + " " * 29_000 + "b\n1: c", "1 = " * 7000, ("a" * 14_000 + "\n") + "0: b\n" * 3000, "0: " + "--neg" * 5000,
    ],
)  # fmt: skip
def test_hostile_texts_end_soon(text):
    start = time.perf_counter()
    with contextlib.suppress(ScheduleError):
        read(text, 64)
    assert time.perf_counter() - start < 30


# --- weights ----------------------------------------------------------------------------------------------------------


def test_linear_is_linear():
    """At frame 8 of 16 half of each; weights that compound, each blend starting from the last, would leave 3 % of the first."""
    assert table("0: a\n16: b", 17) == {"a": [1 - j / 16 for j in range(17)], "b": [j / 16 for j in range(17)]}


def test_tables_by_hand():
    # 3 t^2 - 2 t^3 at a quarter is 5 / 32.
    assert table("2: a\n6: b") == {"a": [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0], "b": [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]}
    assert table("2: a\n6: b", easing=EASE)["b"] == [0, 0, 0, 5 / 32, 0.5, 27 / 32, 1, 1, 1]
    assert table("2: a\n6: b", easing=HOLD)["b"] == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert table("0: a\n8: b", hold=0.5)["b"] == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1]
    assert table("0: a\n8: b", hold=0.5, easing=EASE)["b"] == [0, 0, 0, 0, 0, 5 / 32, 0.5, 27 / 32, 1]
    assert table("0: a\n8: b", hold=1.0)["b"] == [0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert table("0:5: a\n8: b")["b"] == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1]
    assert table("0:: a\n4: b\n8: a") == {"a": [1, 1, 1, 1, 0, 0.25, 0.5, 0.75, 1], "b": [0, 0, 0, 0, 1, 0.75, 0.5, 0.25, 0]}
    assert table("0: a\n16: b")["b"] == [j / 16 for j in range(9)]
    assert table("0: a", 3) == {"a": [1, 1, 1]}


def test_a_closed_loop_goes_from_the_last_to_the_first():
    assert table("0: a\n4: b", 8, closed_loop=True)["b"] == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    assert table("2: a\n4: b", 8, closed_loop=True)["b"] == pytest.approx([2 / 6, 1 / 6, 0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6])
    assert table("0: a\n4:8: b", 8, closed_loop=True)["b"] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert table("0: a\n4:: b", 8, closed_loop=True)["b"] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert table("3: a", 4, closed_loop=True) == {"a": [1, 1, 1, 1]}
    with pytest.raises(ScheduleError, match="Line 2, character 1: '8' is after the clip's last frame, 7. Lower it"):
        read("0: a\n8: b", 8, closed_loop=True)


def test_ease_in_out_is_a_cosine_by_one_percent():
    cosine = [(1 - math.cos(math.pi * j / 100)) / 2 for j in range(101)]
    assert table("0: a\n100: b", 101, easing=EASE)["b"] == pytest.approx(cosine, abs=0.0101)


_PACES = st.builds(Pace, st.sampled_from(Easing), st.floats(0, 1), st.booleans())


@settings(deadline=None)  # the machine may be busy
@given(st.sets(st.integers(0, 23), min_size=1), st.integers(24, 40), _PACES)
def test_weights_add_up_and_keyframes_are_met(frames, total, pace):
    text = "\n".join(f"{frame}: p{frame}" for frame in frames)
    weights = table(text, total, easing=pace.easing, hold=pace.hold, closed_loop=pace.closed_loop)
    numbers = np.array([weights[f"p{frame}"] for frame in sorted(frames)])
    np.testing.assert_allclose(numbers.sum(0), 1, atol=1e-12)
    assert ((numbers >= 0) & (numbers <= 1)).all()
    assert ((numbers > 0).sum(0) <= 2).all()
    assert all(weights[f"p{frame}"][frame] == 1 for frame in frames)


@settings(deadline=None)  # the machine may be busy
@given(st.sets(st.integers(0, 23), min_size=1), st.integers(24, 40), st.integers(0, 30))
def test_linear_weights_are_numpy_s(frames, total, more):
    text = "\n".join(f"{frame}: p{frame}" for frame in frames)
    order = sorted(frames)
    open_ended, closed = table(text, total), table(text, total, closed_loop=True)
    for number, frame in enumerate(order):
        peak = [float(i == number) for i in range(len(order))]
        np.testing.assert_allclose(open_ended[f"p{frame}"], np.interp(range(total), order, peak), atol=1e-12)
        np.testing.assert_allclose(closed[f"p{frame}"], np.interp(range(total), order, peak, period=total), atol=1e-12)
    # A frame's prompt does not depend on how many frames follow.
    longer = table(text, total + more)
    assert all(longer[prompt][:total] == weights for prompt, weights in open_ended.items())


# --- expressions and the negative side --------------------------------------------------------------------------------

FIZZ = '"0": "a sea --neg rain",\n"8": "(storm:`t/max_f`)",\n"12":"x `pw_a`"'
FIZZ_FRAMES = [
    *(("a sea", f"(storm:{weight})", share) for weight, share in [
        ("0", 0), ("0.0909", 0.125), ("0.1818", 0.25), ("0.2727", 0.375), ("0.3636", 0.5), ("0.4545", 0.625), ("0.5455", 0.75), ("0.6364", 0.875),
    ]),
    *((f"(storm:{weight})", "x 0.5", share) for weight, share in [("0.7273", 0), ("0.8182", 0.25), ("0.9091", 0.5), ("1", 0.75)]),
]  # fmt: skip


def test_a_schedule_of_fizznodes_is_what_its_own_code_makes_of_it():
    """Recorded from its ``interpolate_prompt_seriesA`` for 12 frames and pw_a 0.5; numbers in prompts rounded to 4 decimals."""
    schedule = read(FIZZ, 12)
    found = schedule.of_frames(schedule.positive, {"pw_a": [0.5]})
    assert [(frame.first, frame.second if frame.share else second, frame.share) for frame, (_, second, _) in zip(found, FIZZ_FRAMES, strict=True)] == FIZZ_FRAMES
    negative = schedule.of_frames(schedule.negative, {})
    assert [(frame.first, frame.second) for frame in negative] == [("rain", "rain"), *[("rain", "")] * 7, *[("", "")] * 4]


def test_formulas_in_single_quotes():
    for text, frames in {
        "(storm:'t / max_f'), it's ('calm')": [f"(storm:{weight}), it's ('calm')" for weight in ("0", "0.5", "1")],
        "'pw_a' boats, '2*t' 'stars'": ["0 boats, 0 'stars'", "0 boats, 2 'stars'", "0 boats, 4 'stars'"],
        "a 't', the '1/2', 'frames', 'don't (t shirt)'": ["a 't', the '1/2', 'frames', 'don't (t shirt)'"] * 3,
    }.items():
        schedule = read(text, 3)
        assert [frame.first for frame in schedule.of_frames(schedule.positive, {})] == frames
    with pytest.raises(ScheduleError, match="Line 1, character 12: 'x' is not known"):
        read("0: (storm:'x / 2')")


def test_head_and_tail_have_negative_sides_too():
    schedule = read("best --neg worst\n0: a --neg b\n8: c\nlight\n--neg dark")
    assert [prompt.text for prompt in schedule.positive] == ["best, a, light", "best, c, light"]
    assert [prompt.text for prompt in schedule.negative] == ["worst, b, dark", "worst, dark"]
    assert (schedule.captions, schedule.shared) == (["a", "c"], ("best", "light"))


def test_expressions_take_a_number_for_each_frame():
    schedule = read("(fog:`pw_b + t`)", 3)
    assert [frame.first for frame in schedule.of_frames(schedule.positive, {"pw_b": [0.5, -1.0, -1.99999]})] == ["(fog:0.5)", "(fog:0)", "(fog:0)"]
    with pytest.raises(ScheduleError, match="pw_b has 2 values for 3 frames. Give one, or 3."):
        schedule.of_frames(schedule.positive, {"pw_b": [0.5, 1.0]})
    broken = read("0: a\n2: (fog:`1 / (t - 1)`)", 3)
    with pytest.raises(ScheduleError, match=r"Line 2, character 10: '1 / \(t - 1\)' has no value for t = 1."):
        broken.of_frames(broken.positive, {})
