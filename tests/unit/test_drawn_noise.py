"""Noise drawn anew, against PyTorch's generator asked for it by hand."""

from __future__ import annotations

import pytest
import torch
from pack.animation.drawn_noise import DrawnNoise, NoiseRepeat, Seeding

FRAMES, SEED, CPU = 6, 7, torch.device("cpu")


def randn(frames: int, seed: int, first: int = 0) -> torch.Tensor:
    return torch.randn(frames + first, 4, 3, 3, generator=torch.Generator().manual_seed(seed))[first:]


def drawn(**changes) -> torch.Tensor:
    noise = DrawnNoise(**changes)
    return noise.draw(torch.empty(FRAMES, 4, 3, 3), noise.seed_of(SEED), CPU)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, randn(FRAMES, 7)),
        ({"seed_offset": 3}, randn(FRAMES, 10)),
        ({"seed": 20, "seed_offset": -3}, randn(FRAMES, 17)),
        ({"first_frame": 2}, randn(FRAMES, 7, first=2)),
        ({"seeding": Seeding.FRAMES, "first_frame": 1}, torch.cat([randn(1, 8 + frame) for frame in range(FRAMES)])),
        ({"repeat": NoiseRepeat.WINDOWS, "length": 4}, randn(FRAMES, 7)[[0, 1, 2, 3, 0, 1]]),
        ({"repeat": NoiseRepeat.WINDOWS, "length": 40}, randn(FRAMES, 7)),
        ({"repeat": NoiseRepeat.ALL, "first_frame": 1}, randn(1, 7, first=1).expand(FRAMES, -1, -1, -1)),
        ({"repeat": NoiseRepeat.ALL, "seeding": Seeding.FRAMES}, randn(1, 7).expand(FRAMES, -1, -1, -1)),
        ({"repeat": NoiseRepeat.NO_NOISE}, torch.zeros(FRAMES, 4, 3, 3)),
        ({"seeding": Seeding.CLIP_GPU}, randn(FRAMES, 7)),  # the GPU of this test is the CPU
    ],
)
def test_each_setting_is_what_a_generator_gives(changes, expected):
    state = torch.get_rng_state()
    assert torch.equal(drawn(**changes), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_stay_in_pytorchs_range():
    assert DrawnNoise(seed_offset=-8).seed_of(SEED) == 2**64 - 1
    assert DrawnNoise(seed_offset=2).seed_of(2**64 - 1) == 1
    last = DrawnNoise(seeding=Seeding.FRAMES).draw(torch.empty(2, 4, 3, 3), 2**64 - 1, CPU)
    assert torch.equal(last, torch.cat([randn(1, 2**64 - 1), randn(1, 0)]))
