"""Numbers over time, from keyframes and expressions."""

from __future__ import annotations

import contextlib
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.animation.schedule import Easing, Pace, ScheduleError
from pack.animation.value_schedule import values_of_schedule


def values(text: str, frames: int = 16, **pace) -> list[float]:
    return values_of_schedule(text, frames, Pace(**pace))


RECORDED = {
    "0:(sin(t/10)), 8:(1.0)": [0, 0.099833, 0.198669, 0.29552, 0.389418, 0.479426, 0.564642, 0.644218, *[1] * 8],
    "0:(1.0), 4:(t), 8:(2)": [1, 1.75, 2.5, 3.25, 4, 5, 6, 7, *[2] * 8],
    "0:(1), 4:(3), 12:(3)": [1, 1.5, 2, 2.5, *[3] * 12],
    "0:(1/2), 8:(2)": [*[0.5] * 8, *[2] * 8],
    "0:(1.0), max_f/2:(2.0)": [1, 1.142857, 1.285714, 1.428571, 1.571429, 1.714286, 1.857143, *[2] * 9],
    "0:(0), max_f:(1)": [j / 15 for j in range(16)],
    "0:('1.0'), 8:(\"2\")": [1, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875, *[2] * 8],
    "0:(10*sin(2*3.14*t/10))": [0, 5.8753, 9.5086, 9.5135, 5.8882, 0.0159, -5.8624, -9.5037, -9.5184, -5.901, -0.0319, 5.8495, 9.4987, 9.5233, 5.9139, 0.0478],
}  # fmt: skip


@pytest.mark.parametrize("text", RECORDED)
def test_schedules_of_fizznodes_are_what_its_own_code_makes_of_them(text):
    """Recorded from its ``batch_get_inbetweens(batch_parse_key_frames(text, 16), 16)``."""
    assert values(text) == pytest.approx(RECORDED[text], abs=6e-5)


def test_pace():
    assert values("0: 0, 4: 4", 8, closed_loop=True) == [0, 1, 2, 3, 4, 3, 2, 1]
    assert values("0: 0, 4: 4", 8, hold=0.5) == [0, 0, 0, 2, 4, 4, 4, 4]
    assert values("0: 0, 4: 4", 8, easing=Easing.HOLD) == [0, 0, 0, 0, 4, 4, 4, 4]
    assert values("2: t, 4: 4", 8, closed_loop=True) == pytest.approx([4 - 2 * 4 / 6, 4 - 2 * 5 / 6, 2, 3, 4, 4 - 2 / 6, 4 - 4 / 6, 3])


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.integers(0, 40), st.floats(-10, 10), min_size=1, max_size=8), st.sampled_from(Easing))
def test_foreign_forms_mean_the_same(points, easing):
    plain = values("\n".join(f"{frame}: {value!r}" for frame, value in points.items()), 41, easing=easing)
    assert values(", ".join(f"{frame}:({value!r})" for frame, value in points.items()), 41, easing=easing) == plain
    assert values(", ".join(f'"{frame}": {value!r}' for frame, value in points.items()), 41, easing=easing) == plain
    if len(points) > 1:
        assert values("\n".join(f"{frame}, {points[frame]!r}" for frame in sorted(points)), 41, easing=easing) == plain


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "The text is empty"),
        ("0: 1,5", "Line 1, character 6: a colon is missing. Write frame: value everywhere, or values alone. Numbers have a decimal point."),
        ("0: 1\n8: half", "Line 2, character 4: 'half' is not known. There are t, max_f, frames"),
        ("0:(1), 8:(2", "Line 1, character 10: this bracket is not closed."),
        ("0: 1)", "Line 1, character 5: this bracket closes one that was not opened."),
        ("0:", "Line 1, character 3: a value is missing."),
        ("0: 1\n4: 1 / (t - 5)", "Line 2, character 4: '1 / (t - 5)' has no value for t = 5."),
        ("0: 1, 0: 2", "Line 1, character 7: '0' and '0' are for the same position."),
        ("x: 1", "Line 1, character 1: 'x' is not known. There are max_f, frames"),
        ("?: 1", "Line 1, character 1: '?' is not a frame. Write a whole number or a percentage of the clip"),
        ("0: 1e999", "Line 1, character 4: a number is too large."),
        ("0: exp(t * 20)", "Line 1, character 4: 'exp(t * 20)' is too large for t = 4."),
        ("0: nan", "Line 1, character 4: 'nan' is not known."),
    ],
)
def test_what_is_wrong_is_said_with_line_and_character(text, wrong):
    with pytest.raises(ScheduleError) as caught:
        values(text)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 99_999, "1" * 50_000 + "x", "(" * 99_999, "1," * 19_999, ":" * 99_999, "1" + " " * 90_000 + "x", '"' * 99_999,
        "0:" * 49_999, "=" * 99_999, "\n".join(f"{i}: sin(t)" for i in range(6000)), "x" * 200_000, " " * 99_998 + "\n1",
    ],
)  # fmt: skip
def test_hostile_texts_end_soon(text):
    start = time.perf_counter()
    with contextlib.suppress(ScheduleError):
        assert all(map(math.isfinite, values(text, 64)))
    assert time.perf_counter() - start < 30
