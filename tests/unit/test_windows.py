"""Context windows: every frame covered, no frame twice, weights that are shares, seams that move."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.animation.windowing import EqualLength, Fuse, Schedule, WideWindows, WindowError, Windowing, step_of
from pack.motion_models.views import place_windows


@st.composite
def windowings(draw, **fixed):
    length = draw(st.integers(1, 40))
    given = {
        "length": length,
        "overlap": draw(st.integers(0, length - 1)),
        "schedule": draw(st.sampled_from(Schedule)),
        "fuse": draw(st.sampled_from(Fuse)),
        "stride": draw(st.integers(1, 4)),
        "closed_loop": draw(st.booleans()),
        "equal_length": draw(st.sampled_from(EqualLength)),
        "wide": draw(st.sampled_from(WideWindows)),
    }
    return Windowing(**{**given, **fixed})


PHASES = st.integers(0, 63).map(lambda k: int(f"{k:06b}"[::-1], 2) / 64)


@settings(deadline=None, max_examples=300)
@given(windowing=windowings(), frames=st.integers(1, 200), phase=PHASES)
def test_windows_cover_a_clip(windowing, frames, phase):
    windows = windowing.windows(frames, phase)
    assert {frame for window in windows for frame in window} == set(range(frames))
    assert windowing.wide is WideWindows.WRAPPED or all(len(set(window)) == len(window) for window in windows)
    assert len(set(windows)) == len(windows)
    if windowing.schedule is Schedule.NONE:
        assert len(windows) == 1
        return
    whole = windows[:-1] if windowing.schedule is Schedule.BATCHED else windows
    assert all(len(window) == min(frames, windowing.length) for window in whole)
    if not windowing.wraps:
        assert all(list(window) == sorted(window) for window in windows)


@settings(deadline=None, max_examples=200)
@given(windowing=windowings(), frames=st.integers(1, 200), phase=PHASES)
def test_weights_are_shares(windowing, frames, phase):
    windows = windowing.windows(frames, phase)
    totals = [0.0] * frames
    for window, weights in zip(windows, windowing.weights(windows, frames), strict=True):
        for place, (frame, weight) in enumerate(zip(window, weights, strict=True)):
            assert weight > 0 or (weight == 0 and frame in window[place + 1 :])
            totals[frame] += weight
    assert totals == pytest.approx([1.0] * frames)


@settings(deadline=None)
@given(windowing=windowings(closed_loop=True), frames=st.integers(2, 200), phase=PHASES)
def test_a_closed_loop_is_seen_across_its_end_at_every_step(windowing, frames, phase):
    """Neighbours share a window wherever they stand, the last frame and the first among them, if windows overlap."""
    if not windowing.is_closed or not windowing.cuts(frames) or windowing.length < 2 or windowing.overlap < 1:
        return
    together = {pair for window in windowing.windows(frames, phase) for pair in pairwise(window)}
    assert together >= {(frame, (frame + 1) % frames) for frame in range(frames)}


@settings(deadline=None)
@given(windowing=windowings(schedule=Schedule.LOOPED, closed_loop=True, stride=1), frames=st.integers(2, 200), turn=st.integers(1, 199))
def test_a_closed_loop_has_no_place_of_its_own(windowing, frames, turn):
    """Begun elsewhere, the windows are the same ones, turned."""
    if not windowing.cuts(frames) or turn >= frames:
        return
    turned = [tuple((frame + turn) % frames for frame in window) for window in windowing.windows(frames)]
    assert windowing.windows(frames, turn / frames) == turned


def test_schedules_by_hand():
    def of(frames, phase=0.0, **changes):
        return Windowing(**{"length": 4, "overlap": 1, **changes}).windows(frames, phase)

    assert of(9) == [(0, 1, 2, 3), (3, 4, 5, 6), (5, 6, 7, 8)]
    assert of(9, schedule=Schedule.BATCHED) == [(0, 1, 2, 3), (4, 5, 6, 7), (8,)]
    assert of(9, 0.5, schedule=Schedule.UNIFORM) == [(4, 5, 6, 7), (5, 6, 7, 8), (1, 2, 3, 4), (0, 1, 2, 3)]
    assert of(9, schedule=Schedule.LOOPED) == [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 0)]
    assert of(9, 0.25, schedule=Schedule.LOOPED) == [(2, 3, 4, 5), (5, 6, 7, 8), (8, 0, 1, 2)]
    assert of(10, schedule=Schedule.LOOPED, closed_loop=True)[-1] == (9, 0, 1, 2)
    assert of(10, 0.5, closed_loop=True) == [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 9), (9, 0, 1, 2)]
    assert of(10, 0.5, schedule=Schedule.UNIFORM, closed_loop=True) == of(10, 0.5, schedule=Schedule.LOOPED, closed_loop=True)
    assert of(10, schedule=Schedule.BATCHED, closed_loop=True) == of(10, schedule=Schedule.BATCHED)
    # Every second frame as well; every fourth would not fit into the clip.
    assert of(9, schedule=Schedule.UNIFORM, stride=3)[-2:] == [(0, 2, 4, 6), (2, 4, 6, 8)]
    assert of(4) == of(4, schedule=Schedule.LOOPED) == [(0, 1, 2, 3)]
    assert of(4, schedule=Schedule.LOOPED, closed_loop=True) == [(0, 1, 2, 3), (3, 0, 1, 2)]
    assert of(3, schedule=Schedule.LOOPED, closed_loop=True) == [(0, 1, 2)]


def test_clips_of_as_many_frames_as_a_window_by_hand():
    def of(equal_length, schedule=Schedule.LOOPED, **changes):
        return Windowing(4, 1, schedule, equal_length=equal_length, **changes).windows(4, 0.5)

    assert of(EqualLength.CLOSED) == of(EqualLength.NEVER) == of(EqualLength.NEVER, closed_loop=True) == [(0, 1, 2, 3)]
    assert of(EqualLength.CLOSED, closed_loop=True) == of(EqualLength.ALWAYS, closed_loop=True) == [(2, 3, 0, 1), (1, 2, 3, 0)]
    assert of(EqualLength.ALWAYS) == [(2, 3, 0, 1)]
    assert of(EqualLength.ALWAYS, Schedule.STATIC) == of(EqualLength.ALWAYS, Schedule.NONE) == [(0, 1, 2, 3)]


def test_wide_windows_by_hand():
    def of(frames, schedule=Schedule.LOOPED, phase=0.0, **changes):
        windowing = Windowing(4, 1, schedule, Fuse.FLAT, wide=WideWindows.WRAPPED, **{"stride": 2, **changes})
        windows = windowing.windows(frames, phase)
        return windows, windowing.weights(windows, frames)

    windows, weights = of(6, stride=5)
    assert windows == [(0, 1, 2, 3), (3, 4, 5, 0), (0, 2, 4, 0)]  # every 4th frame would be 2 * 6 / 4 apart or more
    assert weights[2] == pytest.approx([0, 1 / 2, 1 / 2, 1 / 3])
    # What goes round the end moves back, and frames that it began anew with get a window if the next one lacks them.
    windows, _ = of(9, Schedule.UNIFORM, phase=0.5)
    assert windows == [(4, 5, 6, 7), (5, 6, 7, 8), (0, 1, 2, 3), (1, 2, 3, 4), (2, 4, 6, 8)]
    assert of(9, Schedule.UNIFORM, phase=0.5, stride=1)[0] == Windowing(4, 1, Schedule.UNIFORM).windows(9, 0.5)


def test_seams_move_over_the_steps():
    windowing = Windowing(16, 4, Schedule.UNIFORM)
    starts = [{window[0] for window in windowing.windows(64, k / 8)} for k in range(8)]
    assert set.intersection(*starts) == {0, 48}
    assert len(set.union(*starts)) > 12


def test_weights_by_hand():
    def of(fuse, windows, frames, **changes):
        return Windowing(4, 2, fuse=fuse, **changes).weights(windows, frames)

    windows = [(0, 1, 2, 3), (2, 3, 4, 5)]
    assert of(Fuse.FLAT, windows, 6) == [[1, 1, 0.5, 0.5], [0.5, 0.5, 1, 1]]
    assert of(Fuse.PYRAMID, windows, 6)[0] == pytest.approx([1, 1, 2 / 3, 1 / 3])
    assert of(Fuse.OVERLAP_LINEAR, windows, 6)[0] == pytest.approx([1, 1, 1, 0], abs=1e-5)
    # In a loop the clip's end is blended like any other edge.
    looped = of(Fuse.OVERLAP_LINEAR, [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 0, 1)], 6, schedule=Schedule.LOOPED)
    assert looped[2] == pytest.approx([0, 1, 1, 0], abs=1e-5)
    # With open ends only there where the window holds neither the clip's first nor its last frame.
    opened = of(Fuse.OVERLAP_LINEAR_OPEN, [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 0, 1)], 6, schedule=Schedule.LOOPED)
    assert opened == [pytest.approx([0.5, 0.5, 1, 0], abs=1e-5), pytest.approx([0, 1, 0.5, 0.5], abs=1e-5), [0.5] * 4]
    steep = Windowing(4, 3, fuse=Fuse.OVERLAP_LINEAR_OPEN).weights([(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)], 6)
    assert steep[1] == pytest.approx([0, 2 / 3, 1 / 2, 0], abs=1e-5)  # before the shares: 0, 1, 0.5, 0
    # Relative to the window's middle, wherever in the clip it lies.
    assert of(Fuse.RELATIVE, [(4, 5, 0, 1), (0, 1, 2, 3)], 6)[0] == pytest.approx([1, 1, 0.5 * 0 + _share(2, 0), _share(3, 1)])


def _share(place: int, other: int) -> float:
    def bias(place):
        return max(0.01, 1 - abs(place - 1.5) / 1.505)

    return bias(place) / (bias(place) + bias(other))


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ((16, 16), "Windows of 16 frames can't overlap by 16: they would never move on. Use an overlap of 0 to 15"),
        ((16, 20), "can't overlap by 20"),
        ((16, -1), "can't overlap by -1"),
        ((0, 0), "Windows of 0 frames with a stride of 1: both must be 1 or more"),
        ((16, 4, Schedule.UNIFORM, Fuse.FLAT, 0), "with a stride of 0"),
    ],
)
def test_windows_that_get_nowhere(numbers, wrong):
    with pytest.raises(WindowError, match=wrong):
        Windowing(*numbers)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_step_of_a_noise_level(sign):
    """Between two steps the earlier one counts, whichever way the run goes."""
    levels = [8.0, 4.0, 2.0, 1.0, 0.0][::sign]
    told = [step_of(sigma, levels) for sigma in levels[:-1]]
    assert told == [0, 1, 2, 3]
    assert step_of(3.0, levels) == (1 if sign == 1 else 2)
    assert step_of(levels[0] * 1.5 if sign == 1 else -1.0, levels) == 0
    assert step_of(3.99999, levels) == (1 if sign == 1 else 3)
    assert step_of(4.00001, levels) == (1 if sign == 1 else 3)


@settings(deadline=None, max_examples=50)
@given(windowing=windowings(), frames=st.integers(1, 60), phase=PHASES, dim=st.integers(0, 1))
def test_what_is_taken_out_and_put_back_is_what_was_there(windowing, frames, phase, dim):
    windows = windowing.windows(frames, phase)
    placed = place_windows(windows, windowing.weights(windows, frames), torch.device("cpu"))
    x = torch.randn(frames, 3).movedim(0, dim)
    total = torch.zeros_like(x)
    for window, frame_numbers in zip(placed, windows, strict=True):
        part = window.take(x, dim)
        assert torch.equal(part, x[list(frame_numbers)] if dim == 0 else x[:, list(frame_numbers)])
        weights = window.weights.view(*(-1, 1) if dim == 0 else (1, -1))
        window.add_to(total, part * weights, dim)
    torch.testing.assert_close(total, x)
