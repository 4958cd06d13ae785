"""Shared noise: low frequencies are the first frame's, all others and each frame's statistics stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.shared_noise import SharedNoise

CUTOFFS = st.floats(0.0, 1.0)
SIZES = st.integers(1, 24)


def white(frames: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(frames, 4, height, width)


@given(CUTOFFS, st.integers(1, 5), SIZES, SIZES)
def test_low_frequencies_are_the_first_frames_and_the_others_each_frames_own(cutoff, frames, height, width):
    noise = white(frames, height, width)
    kept = noise.clone()
    shared = SharedNoise(cutoff).share(noise)
    assert torch.equal(noise, kept)
    assert torch.equal(shared[0], noise[0])
    before, after = (torch.fft.fft2(tensor.double()) for tensor in (noise, shared))
    for row in range(height):
        for column in range(width):
            # The highest frequency of a side is half its length, there and back.
            y, x = (2 * min(i, size - i) / size for i, size in ((row, height), (column, width)))
            radius = (y**2 + x**2) ** 0.5
            if abs(radius - cutoff) < 1e-5:
                continue
            expected = before[:1] if radius < cutoff else before
            torch.testing.assert_close(after[..., row, column], expected[..., row, column].expand(frames, 4), rtol=1e-4, atol=1e-3)


def test_at_zero_frames_share_their_mean():
    noise = white(3, 8, 12)
    shared = SharedNoise(0.0).share(noise)
    means = noise.mean((2, 3), keepdim=True)
    torch.testing.assert_close(shared, noise - means + means[:1])


@pytest.mark.parametrize("cutoff", [0.0, 0.1, 0.3, 0.7])
def test_each_frame_stays_white_noise(cutoff):
    """Variance 1, and pixels that have nothing to do with each other, in frames other than the first."""
    count = 20_000
    noise = torch.randn(2, count, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = SharedNoise(cutoff).share(noise)[1].flatten(1)
    covariance = pixels.T @ pixels / count
    # Six standard errors.
    torch.testing.assert_close(covariance, torch.eye(64), rtol=0.0, atol=6 * 2**0.5 / count**0.5)


@given(CUTOFFS, st.integers(1, 6), st.integers(0, 6))
def test_a_frames_noise_does_not_depend_on_how_many_follow(cutoff, frames, more):
    noise = white(frames + more, 8, 8)
    torch.testing.assert_close(SharedNoise(cutoff).share(noise)[:frames], SharedNoise(cutoff).share(noise[:frames]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_its_precision(dtype):
    assert SharedNoise(0.2).share(white(2, 8, 8).to(dtype)).dtype == dtype
