"""FreeInit's filters and mixing against diffusers' and against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pack.animation.errors import InvalidInput
from pack.animation.freeinit import FreeInit, LowPass, Method, Restart

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


def freqprior_of_the_paper(z, noises, keep, rho=0.8):
    """Two complex spectra, each with noise of its own; frames, channels, height, width; ``keep`` with frequency 0 in the middle."""
    eta_1, eta_2, y_1, y_2 = noises
    parts = []
    for eta, y in ((eta_1, y_1), (eta_2, y_2)):
        x = (rho * z + (1 - rho**2) ** 0.5 * eta) / (1 + rho**2) ** 0.5
        spectra = [np.fft.fftshift(np.fft.fftn(clip.double().numpy(), axes=(0, 2, 3)), axes=(0, 2, 3)) for clip in (x, y)]
        mixed = keep[:, None] * spectra[0] + (1 - keep[:, None] ** 2) ** 0.5 * spectra[1]
        parts.append(np.fft.ifftn(np.fft.ifftshift(mixed, axes=(0, 2, 3)), axes=(0, 2, 3)))
    return torch.from_numpy((parts[0].real + parts[0].imag + parts[1].real - parts[1].imag) / 2**0.5)


def test_freqprior_is_the_papers():
    """Of odd sizes, whose filters are symmetric; y is what the paper's two come to."""
    size = (7, 9, 5)
    freeinit = FreeInit(method=Method.FREQPRIOR, spatial_cutoff=0.5, temporal_cutoff=0.5)
    generator = torch.Generator().manual_seed(3)
    z, *noises = torch.randn(5, size[0], 4, *size[1:], generator=generator)
    keep = freeinit.filter(*size).double().numpy()
    centred = (keep + keep[::-1, ::-1, ::-1]) / 2  # the axis of an odd size is half a place off
    symmetric = FreeInit(method=Method.FREQPRIOR)
    object.__setattr__(symmetric, "filter", lambda *_: torch.from_numpy(centred))
    eta, y = ((noises[i] + noises[i + 1]) / 2**0.5 for i in (0, 2))
    expected = freqprior_of_the_paper(z, noises, centred)
    torch.testing.assert_close(symmetric.mix_keeping_variance(z.double(), eta.double(), y.double()), expected, rtol=0.0, atol=1e-6)


def test_freqprior_keeps_the_variance_that_freeinit_loses():
    low, fresh, high = torch.randn(3, 16, 16, 16, 16, generator=torch.Generator().manual_seed(4))
    cutoffs = {"spatial_cutoff": 0.6, "temporal_cutoff": 0.6, "order": 2}
    kept = FreeInit(**cutoffs, method=Method.FREQPRIOR).mix_keeping_variance(low, fresh, high).var().item()
    mixed = FreeInit(**cutoffs).mix(low, high).var().item()
    assert kept == pytest.approx(1.0, abs=0.015)
    assert mixed < 0.95


def test_freqpriors_runs_end_midway_but_for_the_last():
    sigmas = torch.linspace(10, 0, 26)
    runs = FreeInit(3, method=Method.FREQPRIOR).sigmas_of_runs(sigmas)
    assert [len(run) - 1 for run in runs] == [16, 16, 25] == FreeInit(3, method=Method.FREQPRIOR).steps_of_runs(25)
    assert torch.equal(runs[0], sigmas[:17])
    assert torch.equal(runs[2], sigmas)
    assert FreeInit(1, method=Method.FREQPRIOR).steps_of_runs(25) == [25]
    assert FreeInit(2, method=Method.FREQPRIOR).steps_of_runs(1) == [1, 1]
    with pytest.raises(InvalidInput, match="FreqPrior restarts from the first noise"):
        FreeInit(method=Method.FREQPRIOR, restart=Restart.PREVIOUS)
