"""Positions of frames: the plain ones unless something is asked for, and then what was asked for."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.retime import Repeat, Retime, Stretch
from torch.nn import functional

NONE, LOOP, PING_PONG = Repeat.NONE, Repeat.LOOP, Repeat.PING_PONG


def positions(num_frames: int, **options) -> list[float]:
    found = Retime(**options).positions(num_frames)
    assert found.dtype == torch.float32
    assert found.shape == (num_frames,)
    return found.tolist()


@given(st.integers(1, 200), st.integers(2, 64))
def test_defaults_are_the_plain_positions_bit_for_bit(num_frames, repeat_frames):
    plain = torch.arange(num_frames, dtype=torch.float32)
    assert torch.equal(Retime().positions(num_frames), plain)
    assert torch.equal(Retime(repeat_frames=repeat_frames, extend=True).positions(num_frames), plain)
    assert torch.equal(Retime(ease=lambda x: x).positions(num_frames), plain)
    for repeat in (LOOP, PING_PONG):
        assert torch.equal(Retime(repeat=repeat, repeat_frames=max(num_frames, 2)).positions(num_frames), plain)


def test_speed_and_offset():
    assert positions(5, speed=0.5) == [0, 0.5, 1, 1.5, 2]
    assert positions(4, speed=2.0) == [0, 2, 4, 6]
    assert positions(4, speed=0.0, offset=3.0) == [3, 3, 3, 3]
    assert positions(4, offset=2.5) == [2.5, 3.5, 4.5, 5.5]
    assert positions(48, speed=31 / 47)[-1] == 31  # no hair past what a motion model has


@given(st.integers(1, 100), st.integers(2, 20), st.integers(0, 5), st.integers(0, 9))
def test_repeats_are_cycles_of_whole_positions(num_frames, repeat_frames, speed, offset):
    forth = list(range(repeat_frames))
    for repeat, once in ((LOOP, forth), (PING_PONG, forth + forth[-2:0:-1])):
        walked = list(islice(cycle(once), num_frames * max(speed, 1)))
        expected = [offset + walked[speed * frame] for frame in range(num_frames)]
        options = {"speed": float(speed), "offset": float(offset), "repeat": repeat, "repeat_frames": repeat_frames}
        assert positions(num_frames, **options) == expected


@given(st.integers(2, 800), st.integers(1, 120))
def test_a_loop_starts_again_at_any_speed_in_hundredths(hundredths, repeats):
    """Where the exact product is a whole number of repeats, the position is 0 and not just short of a repeat."""
    frame = 100 * repeats
    assert positions(frame + 1, speed=hundredths / 100, repeat=LOOP, repeat_frames=hundredths)[frame] == 0


def test_repeats_between_whole_positions():
    assert positions(7, speed=0.5, repeat=LOOP, repeat_frames=2) == [0, 0.5, 1, 1.5, 0, 0.5, 1]
    assert positions(7, speed=0.5, repeat=PING_PONG, repeat_frames=2) == [0, 0.5, 1, 0.5, 0, 0.5, 1]


def test_ease_maps_shares_of_the_clip():
    assert positions(5, ease=lambda x: x * x) == [0, 0.25, 1, 2.25, 4]
    assert positions(5, ease=lambda x: 1 - x) == [4, 3, 2, 1, 0]
    assert positions(5, ease=lambda x: x * x, speed=2.0, offset=1.0) == [1, 1.5, 3, 5.5, 9]
    assert positions(9, ease=lambda x: 2 * x, repeat=LOOP, repeat_frames=8)[:6] == [0, 2, 4, 6, 0, 2]
    assert positions(1, ease=lambda x: x + 1) == [0]


@pytest.mark.parametrize("repeat_frames", [1, 0, -4])
def test_too_few_to_repeat(repeat_frames):
    with pytest.raises(ValueError, match=rf"repeat_frames is {repeat_frames}; it must be 2 or more."):
        Retime(repeat_frames=repeat_frames)


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_windows_have_the_clips_positions_or_their_own(total_frames, length, data):
    length = min(length, total_frames)
    window = data.draw(st.lists(st.integers(0, total_frames - 1), min_size=length, max_size=length, unique=True))
    settings = {"speed": 0.3, "offset": 2.0, "repeat": PING_PONG, "repeat_frames": 9}
    clip = Retime(**settings).positions(total_frames)
    going_on = Retime(**settings, across_windows=True).positions_in_window(window, total_frames)
    assert going_on.tolist() == [clip[frame].item() for frame in window]
    assert torch.equal(Retime(**settings).positions_in_window(window, total_frames), clip[:length])


@pytest.mark.parametrize(("stored", "frames"), [(16, 18), (4, 8), (12, 9), (5, 1), (7, 7)])
def test_a_stretch_resizes_a_row(stored, frames):
    table = torch.randn(stored, 6, generator=torch.Generator().manual_seed(stored))
    expected = functional.interpolate(table[None, None], (frames, 6), mode="bilinear")[0, 0]
    before, share = Stretch(stored, frames).between(torch.arange(frames, dtype=torch.float32))
    after = (before + 1).clamp(max=stored - 1)
    found = table[before.long()] * (1 - share[:, None]) + table[after.long()] * share[:, None]
    torch.testing.assert_close(found, expected)
