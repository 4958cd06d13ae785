"""FreeNoise: no window at any place holds a noise twice, and no frame's noise depends on those behind it."""

from __future__ import annotations

import random
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.noise_shuffle import FreeNoise
from pack.motion_models.errors import InvalidInput

FRAMES = st.integers(1, 120)
SEEDS = st.integers(0, 0xFFFFFFFFFFFFFFFF)


@st.composite
def settings(draw, closed_loop: bool | None = None, strides: int = 3) -> FreeNoise:
    length = draw(st.integers(1, 20))
    looped = draw(st.booleans()) if closed_loop is None else closed_loop
    return FreeNoise(length, draw(st.integers(0, length - 1)), looped, draw(st.integers(1, strides)))


@given(settings(), FRAMES, SEEDS)
def test_no_window_holds_a_noise_twice(freenoise, frames, seed):
    order = freenoise.order(frames, seed)
    assert len(order) == frames
    for double in range(freenoise.stride):
        for start in range(frames):
            window = [start + k * 2**double for k in range(freenoise.length)]
            # As ComfyUI cuts them: a looped window that comes round to a frame again holds it once more.
            window = {i % frames for i in window} if freenoise.closed_loop else {i for i in window if i < frames}
            held = [order[i] for i in window]
            assert len(set(held)) == len(held)


@given(settings(), FRAMES, SEEDS)
def test_every_noise_is_a_frames_own_and_the_first_window_keeps_its(freenoise, frames, seed):
    order = freenoise.order(frames, seed)
    assert order[: freenoise.length] == list(range(min(frames, freenoise.length)))
    assert all(noise <= frame for frame, noise in enumerate(order))
    assert all(order[noise] == noise for noise in order)


@given(settings(closed_loop=False), FRAMES, FRAMES, SEEDS)
def test_a_frames_noise_does_not_depend_on_how_many_follow(freenoise, frames, more, seed):
    assert freenoise.order(frames + more, seed)[:frames] == freenoise.order(frames, seed)


@given(settings(closed_loop=True), FRAMES, SEEDS)
def test_in_a_loop_it_depends_only_where_windows_reach_over_the_seam(freenoise, frames, seed):
    reach = (freenoise.length - 1) * 2 ** (freenoise.stride - 1)
    opened = FreeNoise(freenoise.length, freenoise.overlap, False, freenoise.stride)
    before = max(frames - reach, 0)
    assert freenoise.order(frames, seed)[:before] == opened.order(frames, seed)[:before]


@given(settings(strides=1), st.integers(1, 400), SEEDS)
def test_noises_are_few(freenoise, frames, seed):
    """What FreeNoise is for: hardly more than one window's, and over a loop's seam no more than two windows'."""
    length, spare = freenoise.length, max(1, (freenoise.length - freenoise.overlap) // 3)
    most = 2 * length + spare if freenoise.closed_loop else length + spare
    assert len(set(freenoise.order(frames, seed))) <= most


@given(settings(strides=1), SEEDS)
def test_a_loop_shorter_than_two_windows_keeps_its_noise(freenoise, seed):
    looped = FreeNoise(freenoise.length, freenoise.overlap, closed_loop=True)
    frames = 2 * freenoise.length - 1
    assert looped.order(frames, seed) == list(range(frames))


def test_orders_differ_by_seed_and_vary():
    orders = {tuple(FreeNoise(16, 4).order(64, seed)) for seed in range(20)}
    assert len(orders) == 20
    gaps = [frame - noise for frame, noise in enumerate(FreeNoise(16, 12).order(400, 1)) if noise < 16 <= frame < 32]
    assert len(set(gaps)) > 1  # not the first window over and over


def test_what_is_drawn_comes_from_the_seed_alone():
    of_torch, of_python = torch.get_rng_state(), random.getstate()
    assert FreeNoise(8, 2).order(40, 7) == FreeNoise(8, 2).order(40, 7)
    assert torch.equal(torch.get_rng_state(), of_torch)
    assert random.getstate() == of_python


def test_long_clips_can_be_interrupted():
    asked = iter(range(50))
    with pytest.raises(StopIteration):
        FreeNoise(4096, 0, closed_loop=True).order(4096, 0, lambda: next(asked))


@pytest.mark.parametrize(
    ("windows", "wrong"),
    [
        ((16, 16), "context_overlap 16 does not fit windows of 16 frames. Use 0 to 15."),
        ((16, -1), "context_overlap -1 does not fit windows of 16 frames. Use 0 to 15."),
        ((0, 0), "FreeNoise got context_length 0 and context_stride 1; both must be 1 or more."),
        ((4, 1, False, 0), "FreeNoise got context_length 4 and context_stride 0; both must be 1 or more."),
    ],
)
def test_windows_that_cannot_be(windows, wrong):
    with pytest.raises(InvalidInput, match=f"^{re.escape(wrong)}$"):
        FreeNoise(*windows)
