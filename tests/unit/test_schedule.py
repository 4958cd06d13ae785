"""Schedules written as text: what they say, and what they say is wrong with them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.prompt_schedule import PromptKeyframes
from pack.animation.prompt_text import read_prompt_text
from pack.animation.schedule import Easing, Pace, ScheduleError
from pack.animation.schedule_text import in_order, span_of
from pack.animation.value_schedule import points_of_schedule, values_of_schedule

LINEAR, EASE, HOLD = Easing.LINEAR, Easing.EASE_IN_OUT, Easing.HOLD


def frames(text: str, total: int = 16, easing: Easing = LINEAR) -> list[float]:
    """As Frame Values reads a text."""
    return values_of_schedule(text, total, Pace(easing), inside=True)


# --- grammar ----------------------------------------------------------------------------------------------------------


CASES = json.loads((Path(__file__).parent.parent / "data" / "schedule_cases.json").read_text(encoding="utf-8"))


def read(case: dict) -> dict | None:
    """What the table says of a case: values, points or keyframes; None if it is refused."""
    text, total = case["text"], case.get("frames", 16)
    pace = Pace(Easing(case.get("easing", "linear")), case.get("hold", 0.0), case.get("closed_loop", False))
    try:
        if case["kind"] == "values":
            return {"values": values_of_schedule(text, total, pace, case.get("inside", False))}
        if case["kind"] == "steps":
            return {"points": [list(point) for point in points_of_schedule(text)]}
        spans = PromptKeyframes.read(text).over(total, pace).spans
        entries = [(entry.key, entry.value.text) for entry in read_prompt_text(text).entries if entry.key is not None]
        labels = in_order(entries, lambda key: span_of(key, total))
    except ScheduleError:
        return None
    held = [[True] if span.until_next else [] for span in spans]
    return {"keys": [[span.first, span.last, label, *until] for span, (_, label), until in zip(spans, labels, held, strict=True)]}


def test_the_table_that_the_editors_timeline_reads_too():
    """tests/editor/test_timeline.py reads it with JavaScript; what is not ``drawn`` is read here only."""
    for case in CASES:
        found = read(case)
        if case.get("refused"):
            assert found is None, case
        elif "values" in case:
            wanted = case["values"]
            numbers = dict(enumerate(wanted)) if isinstance(wanted, list) else {int(frame): wanted[frame] for frame in wanted}
            assert {frame: found["values"][frame] for frame in numbers} == pytest.approx(numbers, abs=1e-12), case
        else:
            assert found == {name: case[name] for name in ("points", "keys") if name in case}, case


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "The text is empty. Write at least one keyframe: 0, a colon and its value."),
        (" ,\n, ", "The text is empty"),
        (",", "The text is empty"),
        ("{}", "The text is empty"),
        ("# nothing", "The text is empty"),
        ("0: 1\n8: half", "Line 2, character 4: 'half' is not known."),
        ("0: 1\n\n8: 1\n?: 1", "Line 4, character 1: '?' is not a frame. Write a whole number or a percentage of the clip"),
        ("1.5: 1", "Line 1, character 1: '1.5' is a share of the clip, and shares go from 0.0 to 1.0"),
        (": 1", "Line 1, character 1: '' is not a frame"),
        ("0:", "Line 1, character 3: a value is missing."),
        ("0: 1,5", "Line 1, character 6: a colon is missing. Write frame: value everywhere, or values alone."),
        ("1, two", "Line 1, character 4: 'two' is not known"),
        ("0: 1, 16: 0", "Line 1, character 7: '16' is after the clip's last frame, 15. Lower it, write -1 for the last, or raise frames."),
        ("-17: 0", "a clip of 16 frames has none before -16"),
        ("101%: 0", "Line 1, character 1: percentages go from 0% to 100%"),
        ("-1%: 0", "percentages go from 0% to 100%"),
        ("%: 0", "'%' is not a frame"),
        ("0: nan", "'nan' is not known"),
        ("0: 1e999", "Line 1, character 4: a number is too large."),
        ("0: 1e308, 15: -1e308", "Line 1, character 4: '1e308' is too large for t = 0."),
        ("15: 1\n-1: 0", "Line 2, character 1: '15' and '-1' are for the same position. Remove or change one of them."),
        ("1, 0.8\n0.8, 1", "Line 1, character 1: lines of two numbers are read as frame, value, but these frames do not increase."),
        ("2, 1\n2, 3", "but these frames do not increase"),
        ("0%, 1\n8, 3", "but these frames do not increase"),
        ("0: 1\ud800", "Line 1, character 5: this is only half of a character. Type it again."),
        ("1," * 5000, "The text has 5000 values. Make them 4096 or fewer."),
        ("0: 1," * 30_000, "The text has 150000 characters. Make it 100000 or fewer."),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, wrong):
    with pytest.raises(ScheduleError) as caught:
        frames(text)
    assert wrong in str(caught.value)


def test_a_message_quotes_no_more_than_a_few_words():
    for text in ("0: " + "x" * 900, "9" * 900 + ": 1", "0: " + "1 + " * 100 + "1e300 * t", '"' * 99_999):
        with pytest.raises(ScheduleError) as caught:
            frames(text)
        assert len(str(caught.value)) < 400


def test_more_numbers_than_frames():
    assert frames("1, 2, 3", 2) == [1, 3]
    assert frames("1, 2", 1) == [2]


@pytest.mark.parametrize(("key", "share"), [("0%", 0), ("50%", 0.5), ("0.5", 0.5), ("1", 1), ("100%", 1), (".07", 0.07), ("7%", 0.07)])
def test_shares(key, share):
    assert points_of_schedule(f"{key}: 3") == [(pytest.approx(share), 3)]


def test_points_of_a_curve():
    assert points_of_schedule("100%: 3, 0.5: -1") == [(0.5, -1), (1, 3)]
    assert points_of_schedule("1, (4), 2") == [(0, 1), (0.5, 4), (1, 2)]
    assert points_of_schedule("0%, 1\n50%, 2") == [(0, 1), (0.5, 2)]
    with pytest.raises(ScheduleError, match="Line 1, character 11: 't / 2' is a formula, but a curve takes numbers only."):
        points_of_schedule("0: 1, 50%:t / 2")


@pytest.mark.parametrize("key", ["50", "-1", "1.01", "half", "", "nan", "120%"])
def test_no_shares(key):
    with pytest.raises(ScheduleError, match=r"Line 2, character 1: '.*' is not a position in the run. Write a percentage or a number from 0 to 1"):
        points_of_schedule(f"0: 1\n{key}: 3")


# --- between keyframes ------------------------------------------------------------------------------------------------


def test_as_many_numbers_as_frames_are_one_each():
    numbers = [((7 * i) % 11) / 7 for i in range(13)]
    for easing in Easing:
        assert frames(", ".join(map(str, numbers)), 13, easing) == numbers


@pytest.mark.parametrize("easing", Easing)
def test_a_single_number_is_for_all_frames(easing):
    assert frames("0.3", 5, easing) == frames("2: 0.3", 5, easing) == frames("-1: 0.3", 5, easing) == [0.3] * 5
    assert frames("0: 1", 1, easing) == frames("100%: 1", 1, easing) == [1.0]


def test_easings_by_hand():
    text = "2: 1, 6: 3"
    assert frames(text, 9, LINEAR) == [1, 1, 1, 1.5, 2, 2.5, 3, 3, 3]
    assert frames(text, 9, HOLD) == [1, 1, 1, 1, 1, 1, 3, 3, 3]
    # 3 t^2 - 2 t^3 at a quarter is 5 / 32.
    assert frames(text, 9, EASE) == [1, 1, 1, 1 + 2 * 5 / 32, 2, 1 + 2 * 27 / 32, 3, 3, 3]


def test_hold_changes_at_the_first_frame_behind_a_keyframe_between_frames():
    assert frames("0: 0, 50%: 1", 4, HOLD) == [0, 0, 1, 1]


POINTS = st.dictionaries(st.integers(0, 40), st.floats(-10, 10), min_size=1, max_size=8)


@given(POINTS)
def test_linear_is_numpys(points):
    text = "\n".join(f"{frame}: {value!r}" for frame, value in points.items())
    expected = np.interp(range(41), sorted(points), [points[frame] for frame in sorted(points)])
    np.testing.assert_allclose(frames(text, 41), expected, rtol=0, atol=1e-12)


@given(POINTS, st.sampled_from(Easing))
def test_values_stay_between_their_keyframes_and_meet_them(points, easing):
    text = ",".join(f"{frame}: {value!r}" for frame, value in points.items())
    values = frames(text, 41, easing)
    assert {frame: values[frame] for frame in points} == points
    order = sorted(points)
    for left, right in pairwise(order):
        low, high = sorted((points[left], points[right]))
        between = values[left : right + 1]
        assert min(between) >= low - 1e-12
        assert max(between) <= high + 1e-12
        rising = sorted(between, reverse=points[left] > points[right])
        np.testing.assert_allclose(between, rising, rtol=0, atol=1e-12)
