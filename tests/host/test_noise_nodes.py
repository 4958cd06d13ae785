"""The noise nodes, as ComfyUI calls them, and FreeNoise under core's own windows."""

from __future__ import annotations

import comfy.context_windows
import comfy_extras.nodes_custom_sampler as core
import pytest
import torch
from pack.animation.noise_shuffle import FreeNoise, Shuffle
from pack.motion_models.errors import InvalidInput
from pack.nodes import noise as nodes
from pack.nodes.host.runs.run_wrappers import FREEINIT_KEY, FREENOISE_KEY, setting_of

from .test_freenoise import Recorded, random_noise
from .world import NEGATIVE, POSITIVE, SMALLEST_UNET, make_model, sample

FRAMES, SEED, WINDOWS = 10, 3, (4, 1)


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


def sample_advanced(model, noise, steps: int = 2):
    """By core's nodes."""
    guider = core.CFGGuider.execute(model, POSITIVE, NEGATIVE, 2.0)[0]
    sigmas = core.BasicScheduler.execute(model, "normal", steps, 1.0)[0]
    sampler = core.KSamplerSelect.execute("euler")[0]
    return core.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": torch.zeros(FRAMES, 4, 8, 8)})[0]["samples"]


def test_freenoise_is_the_same_by_either_node_and_by_both(model):
    noise = nodes.FreeNoiseNode.execute(SEED, *WINDOWS)[0]
    applied = nodes.ApplyFreeNoiseNode.execute(model, *WINDOWS)[0]
    by_noise = sample_advanced(model, noise)
    assert torch.equal(sample(applied, frames=FRAMES, seed=SEED), by_noise)
    assert torch.equal(sample_advanced(applied, noise), by_noise)
    assert not torch.equal(sample(model, frames=FRAMES, seed=SEED), by_noise)


def test_models_that_come_in_stay_as_they_are(model):
    nodes.ApplyFreeNoiseNode.execute(model, *WINDOWS)
    nodes.FreeInitNode.execute(model)
    assert setting_of(model, FREENOISE_KEY) is None
    assert FREEINIT_KEY not in model.wrappers.get("outer_sample", {})


def test_freeinit_s_inputs_reach_it(model):
    changed = nodes.FreeInitNode.execute(model, 2, "box", 0.5, 0.75, 6, True, "previous noise")[0]
    (wrapper,) = changed.get_wrappers("outer_sample", FREEINIT_KEY)
    freeinit = wrapper.setting
    assert (freeinit.iterations, freeinit.low_pass.value, freeinit.spatial_cutoff) == (2, "box", 0.5)
    assert (freeinit.temporal_cutoff, freeinit.order, freeinit.coarse_to_fine) == (0.75, 6, True)
    assert freeinit.restart.value == "previous noise"


def test_bad_windows_are_refused_at_the_node(model):
    wrong = "context_overlap 16 does not fit windows of 16 frames. Use 0 to 15."
    for node in (nodes.FreeNoiseNode, nodes.ApplyFreeNoiseNode):
        assert node.validate_inputs(16, 16) == wrong
        assert node.validate_inputs(16, None) is True
        assert node.validate_inputs() is True
    with pytest.raises(InvalidInput, match=wrong):
        nodes.FreeNoiseNode.execute(0, 16, 16)
    with pytest.raises(InvalidInput, match=wrong):
        nodes.ApplyFreeNoiseNode.execute(model, 16, 16)
    with pytest.raises(ValueError, match="spatial_cutoff is 2.0, but it must be a number from 0.0 to 1.0."):
        nodes.FreeInitNode.execute(model, spatial_cutoff=2.0)


# --- core's windows ---------------------------------------------------------------------------------------------------


def core_windows(schedule: str, frames: int, steps: int, length: int, overlap: int) -> list[list[int]]:
    chosen = comfy.context_windows.get_matching_context_schedule(schedule)
    handler = comfy.context_windows.IndexListContextHandler(chosen, None, length, overlap, closed_loop=True)
    windows = []
    for step in range(steps):
        handler._step = step
        windows += chosen.func(frames, handler, {})
    return windows


def twice(order: list[int], windows: list[list[int]]) -> int:
    return sum(len({order[i] for i in window}) < len(window) for window in windows)


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform", "batched"])
def test_none_of_core_s_windows_holds_a_noise_twice(schedule):
    for frames in (17, 31, 32, 48, 64, 97):
        for length, overlap in ((16, 4), (16, 12), (8, 0)):
            windows = core_windows(schedule, frames, 20, length, overlap)
            order = FreeNoise(length, overlap, closed_loop=schedule == "looped_uniform").order(frames, SEED)
            assert twice(order, windows) == 0


@pytest.mark.parametrize("schedule", ["standard_uniform", "looped_uniform"])
def test_core_s_own_freenoise_leaves_many_of_them_so(schedule):
    """That this pack has its own."""
    frames, length, overlap = 64, 16, 8
    numbers = torch.arange(frames, dtype=torch.float32).view(-1, 1, 1, 1)
    order = comfy.context_windows.apply_freenoise(numbers, 0, length, overlap, SEED).flatten().int().tolist()
    windows = core_windows(schedule, frames, 20, length, overlap)
    assert twice(order, windows) > len(windows) / 4


@pytest.mark.parametrize(("frames", "length", "overlap"), [(40, 16, 4), (33, 16, 12), (17, 16, 0), (16, 16, 4), (9, 4, 3)])
def test_the_published_order_is_core_s(frames, length, overlap):
    numbers = torch.arange(frames, dtype=torch.float32).view(-1, 1, 1, 1)
    expected = comfy.context_windows.apply_freenoise(numbers, 0, length, overlap, SEED).flatten().int().tolist()
    assert FreeNoise(length, overlap, shuffle=Shuffle.PUBLISHED).order(frames, SEED) == expected


def test_a_recorded_run_by_the_node_starts_as_counted(model):
    applied = nodes.ApplyFreeNoiseNode.execute(model, *WINDOWS, closed_loop=True)[0]
    recorded = Recorded(applied)
    sample(applied, frames=FRAMES, seed=SEED, steps=1)
    found = recorded.noises[0]
    plain = random_noise(FRAMES)
    held = [next(i for i in range(FRAMES) if torch.equal(plain[i], frame)) for frame in found]
    assert held == FreeNoise(*WINDOWS, closed_loop=True).order(FRAMES, SEED)
    assert len(set(held)) < FRAMES
