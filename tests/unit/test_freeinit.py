"""FreeInit's filters and mixing against diffusers' and against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pack.animation.freeinit import FreeInit, LowPass

SIZES = [(16, 8, 8), (5, 7, 6), (1, 4, 9)]
CUTOFFS = [(0.25, 0.25), (0.5, 0.1), (0.05, 1.0), (0.0, 0.3), (0.3, 0.0)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cutoffs", CUTOFFS)
@pytest.mark.parametrize("order", [1, 4])
@pytest.mark.parametrize("low_pass", [LowPass.BUTTERWORTH, LowPass.GAUSSIAN, LowPass.IDEAL])
def test_filters_are_diffusers(low_pass, order, cutoffs, size):
    spatial, temporal = cutoffs
    expected = FreeInitMixin()._get_free_init_freq_filter((1, *size), "cpu", low_pass.value, order, spatial, temporal)[0]
    found = FreeInit(low_pass=low_pass, spatial_cutoff=spatial, temporal_cutoff=temporal, order=order).filter(*size)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_the_box_is_the_one_around_frequency_0(cutoffs, size):
    spatial, temporal = cutoffs
    found = FreeInit(low_pass=LowPass.BOX, spatial_cutoff=spatial, temporal_cutoff=temporal).filter(*size)
    frames, height, _ = size
    reaches = round(frames // 2 * temporal), round(height // 2 * spatial), round(height // 2 * spatial)
    for place in np.ndindex(*size):
        distances = [i - n // 2 for i, n in zip(place, size, strict=True)]
        kept = all(-reach <= distance < reach for distance, reach in zip(distances, reaches, strict=True))
        assert found[place] == float(kept and spatial > 0 and temporal > 0)


def pair(size) -> tuple[torch.Tensor, torch.Tensor]:
    frames, height, width = size
    generator = torch.Generator().manual_seed(2)
    low, high = torch.randn(2, frames, 4, height, width, generator=generator)
    return low, high


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("low_pass", LowPass)
def test_mixing_is_diffusers(low_pass, size):
    """Which has frames behind the channels."""
    low, high = pair(size)
    freeinit = FreeInit(low_pass=low_pass, spatial_cutoff=0.6, temporal_cutoff=0.4)
    expected = FreeInitMixin()._apply_freq_filter(low.transpose(0, 1), high.transpose(0, 1), freeinit.filter(*size)).transpose(0, 1)
    assert torch.allclose(freeinit.mix(low, high), expected, rtol=0.0, atol=2e-6)


def test_mixing_keeps_what_was_given():
    low, high = pair((6, 4, 4))
    kept = low.clone(), high.clone()
    assert torch.equal(FreeInit(spatial_cutoff=0.0).mix(low, high), high)
    assert torch.equal(FreeInit().mix(high, high), high)
    mixed = FreeInit().mix(low, high)
    assert torch.allclose(mixed.mean(dim=(0, 2, 3)), low.mean(dim=(0, 2, 3)), atol=1e-6)  # frequency 0 is the lowest
    assert torch.equal(low, kept[0])
    assert torch.equal(high, kept[1])


@given(st.integers(1, 60), st.integers(1, 7))
@hypothesis_settings(deadline=None)
def test_coarse_to_fine_takes_a_share_of_the_steps(steps, iterations):
    sigmas = torch.linspace(14.6, 0.0, steps + 1)
    runs = FreeInit(iterations=iterations, coarse_to_fine=True).sigmas_of_runs(sigmas)
    assert [len(run) - 1 for run in runs] == [max(1, (steps * i) // iterations) for i in range(1, iterations + 1)]
    for run in runs:
        assert (run[0], run[-1]) == (sigmas[0], sigmas[-1])
        assert bool((run.diff() < 0).all())
        assert set(run.tolist()) <= set(sigmas.tolist())
    assert torch.equal(runs[-1], sigmas)
    full = FreeInit(iterations=iterations).sigmas_of_runs(sigmas)
    assert len(full) == iterations
    assert all(torch.equal(run, sigmas) for run in full)
