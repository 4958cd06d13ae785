"""Schedules written as text: what they say, and what they say is wrong with them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.schedule import (
    Easing,
    Keyframe,
    ScheduleError,
    blend_at,
    frame_of,
    read_keyframes,
    share_of,
    split_entries,
    values_of_frames,
)

LINEAR, EASE, HOLD = Easing.LINEAR, Easing.EASE_IN_OUT, Easing.HOLD


def frames(text: str, total: int = 16, easing: Easing = LINEAR) -> list[float]:
    return values_of_frames(text, total, easing)


def keyframes(text: str, total: int = 16) -> list[tuple[float, float]]:
    read = read_keyframes(text, lambda entry: frame_of(entry, total), total - 1)
    return [(keyframe.position, keyframe.value) for keyframe in read]


# --- grammar ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0: 1.0", [(0, 1)]),
        ("0: 1\n8: 0.5", [(0, 1), (8, 0.5)]),
        ("0: 1, 8: 0.5", [(0, 1), (8, 0.5)]),
        ("  0 :1 ,, \n\n 8:  .5 ,\n", [(0, 1), (8, 0.5)]),
        ("0: 1\r\n8: 5e-1\r\n", [(0, 1), (8, 0.5)]),
        ("-1: 2, -16: 3", [(0, 3), (15, 2)]),
        ("8: 0.5\n0: -1", [(0, -1), (8, 0.5)]),
        ("0%: 1, 20%: 2, 50%: 3, 100%: 4", [(0, 1), (3, 2), (7.5, 3), (15, 4)]),
        ("12.5 %: 1", [(1.875, 1)]),
        ("7", [(0, 7)]),
        ("1, 2, 4", [(0, 1), (7.5, 2), (15, 4)]),
        ("1\n2", [(0, 1), (15, 2)]),
        ("\n".join(map(str, range(16))), [(i, i) for i in range(16)]),
    ],
)
def test_what_is_read(text, expected):
    assert keyframes(text) == expected


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "The text is empty. Write at least one keyframe, as in 0: 1."),
        (" ,\n, ", "The text is empty"),
        ("0: 1\n8: half", "Line 2, '8: half': 'half' is no number"),
        ("0: 1\n\n8: 1\nx: 1", "Line 4, 'x: 1': 'x' is no frame. Write a whole number, or percent of the clip"),
        ("0.5: 1", "Line 1, '0.5: 1': '0.5' is no frame"),
        (": 1", "Line 1, ': 1': '' is no frame"),
        ("0:", "Line 1, '0:': '' is no number"),
        ("0: 1,5", "Line 1, '5': a colon is missing. Write position: value everywhere, or numbers alone."),
        ("1, two", "Line 1, 'two': 'two' is no number"),
        ("0: 1, 16: 0", "Line 1, '16: 0': a clip of 16 frames has frames 0 to 15, or from its end -1 to -16."),
        ("-17: 0", "frames 0 to 15"),
        ("101%: 0", "Line 1, '101%: 0': percent go from 0% to 100%"),
        ("-1%: 0", "percent go from 0% to 100%"),
        ("%: 0", "percent go from 0% to 100%"),
        ("nan%: 0", "percent go from 0% to 100%"),
        ("0: nan", "'nan' is no number"),
        ("0: 1e999", "'1e999' is no number"),
        ("15: 1\n-1: 0", "Line 2, '-1: 0': '15: 1' is for the same position. Remove one of them."),
        ("0: 1: 2", "'1: 2' is no number"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, wrong):
    with pytest.raises(ScheduleError) as caught:
        keyframes(text)
    assert wrong in str(caught.value)


def test_a_clip_without_frames():
    with pytest.raises(ScheduleError, match="A clip of 0 frames has no values. Make frames 1 or more."):
        frames("0: 1", 0)
    with pytest.raises(ScheduleError, match="A clip of -3 frames"):
        frames("1", -3)


@pytest.mark.parametrize(("key", "share"), [("0%", 0), ("50%", 0.5), ("0.5", 0.5), ("1", 1), ("100%", 1), (".07", 0.07), ("7%", 0.07)])
def test_shares(key, share):
    assert read_keyframes(f"{key}: 3", share_of, 1.0) == [Keyframe(share, 3)]


@pytest.mark.parametrize("key", ["50", "-1", "1.01", "half", "", "nan", "120%"])
def test_no_shares(key):
    with pytest.raises(ScheduleError, match=r"Line 2, '.*: 3': ('.*' is no share|percent go from)"):
        read_keyframes(f"0: 1\n{key}: 3", share_of, 1.0)


def test_keys_go_with_values_that_are_no_numbers():
    """Prompts, for one: these stand in lines, and may have commas and colons in them."""
    one, two = split_entries("0: a calm sea, at night\n\n 50% : a storm: waves, (foam:1.2)\n")
    assert (one.line, one.value, frame_of(one, 9)) == (1, "a calm sea, at night", 0)
    assert (two.line, two.value, frame_of(two, 9)) == (3, "a storm: waves, (foam:1.2)", 4)
    (plain,) = split_entries("a calm sea")
    assert (plain.key, plain.value) == (None, "a calm sea")


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


def test_blend_names_the_neighbours():
    assert blend_at([2, 6], 0, LINEAR) == (0, 0, 0.0)
    assert blend_at([2, 6], 2, LINEAR) == (0, 1, 0.0)
    assert blend_at([2, 6], 5, LINEAR) == (0, 1, 0.75)
    assert blend_at([2, 6], 6, LINEAR) == (1, 1, 0.0)
    assert blend_at([2, 6], 9, LINEAR) == (1, 1, 0.0)
