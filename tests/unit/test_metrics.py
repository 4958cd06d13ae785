"""Measures of clips whose answers are known: still, moving, noisy, flickering, jumping, looping, drifting ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.animation.metrics import measure, structural_similarity, window_edges
from pack.demo.clips import DIRECTIONS, Look, Scene, random_scene, render
from scipy.ndimage import gaussian_filter
from torch import Tensor

COMPASS = {"right": 0, "up": 90, "left": 180, "down": 270}
few_examples = settings(max_examples=10, derandomize=True)


def pattern(shifts: list[tuple[float, float]], width: int = 64, height: int = 64, seed: int = 0, contrast: float = 0.1) -> Tensor:
    """A sum of waves, so exact at any fraction of a pixel, moved by ``(x to the right, y down)`` in each frame."""
    draw = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    lengths, angles = draw.uniform(9, 40, (3, 8)), draw.uniform(0, 2 * math.pi, (2, 3, 8))
    frames = []
    for dx, dy in shifts:
        along = np.cos(angles[0])[..., None, None] * (x - dx) + np.sin(angles[0])[..., None, None] * (y - dy)
        waves = np.sin(2 * math.pi * along / lengths[..., None, None] + angles[1][..., None, None])
        frames.append(0.5 + contrast * waves.sum(1) / 2)
    return torch.from_numpy(np.stack(frames)).float().clamp(0, 1).movedim(1, -1)


def straight(speed: float, degrees: float, frames: int = 4) -> list[tuple[float, float]]:
    angle = math.radians(degrees)
    return [(i * speed * math.cos(angle), -i * speed * math.sin(angle)) for i in range(frames)]


def disc(centres: list[tuple[float, float]], radius: float = 10, size: int = 64, colour=(0.9, 0.3, 0.1), ground=None) -> Tensor:
    """A disc with a one pixel wide soft edge before a plain background, or before an image ``(h, w, 3)``."""
    pixel = torch.arange(size) + 0.5
    ground = torch.tensor([0.2, 0.25, 0.4]) if ground is None else ground
    frames = []
    for x, y in centres:
        distance = torch.hypot(pixel[None, :] - x, pixel[:, None] - y)
        cover = (radius - distance + 0.5).clamp(0, 1)[..., None]
        frames.append(ground * (1 - cover) + torch.tensor(colour) * cover)
    return torch.stack(frames)


def along_row(speed: float, frames: int = 5, start: float = 20.0) -> list[tuple[float, float]]:
    return [(start + i * speed, 32.0) for i in range(frames)]


def noise(shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def turned(degrees: float, other: float) -> float:
    """The angle between two directions."""
    return abs((degrees - other + 180) % 360 - 180)


STILL = pattern([(0, 0)] * 6)


# --- still --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [STILL, torch.zeros(4, 32, 32, 3), torch.ones(2, 9, 17, 3), torch.full((3, 16, 16, 3), 0.4)])
def test_a_still_clip_has_nothing_to_measure(clip):
    metrics = measure(clip, edges=[1])
    assert metrics.flicker == pytest.approx(0, abs=1e-4)  # fetching pixels rounds
    assert (metrics.motion_amount, metrics.motion_direction, metrics.colour_drift) == (0, 0, 0)
    assert metrics.frame_consistency == pytest.approx(1, abs=1e-4)
    assert (metrics.loop_closure, metrics.worst_seam) == pytest.approx((1, 1))
    assert metrics.direction_word == "still"
    assert len(metrics.frame_flicker) == len(clip)
    assert len(metrics.frame_steps) == len(metrics.frame_changes) == len(metrics.frame_motion) == len(clip) - 1


# --- motion -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed", "degrees"), [(0.4, 0), (0.4, 90), (0.4, 210), (2.3, 30), (2.3, 180), (2.3, 270), (10.0, 0), (10.0, 90), (10.0, 210)]
)
def test_a_moving_picture(speed, degrees):
    metrics = measure(pattern(straight(speed, degrees)))
    assert metrics.motion_amount == pytest.approx(100 * speed / 64, rel=0.06)
    assert turned(metrics.motion_direction, degrees) < 3
    assert metrics.direction_word == min(COMPASS, key=lambda word: turned(COMPASS[word], degrees))
    assert metrics.frame_consistency > (0.95 if speed < 10 else 0.8)  # at the border new things come in
    # Of a frame between, everything is in one neighbour or the other.
    assert max(metrics.frame_flicker[1:-1]) < 0.15 * min(metrics.frame_steps)
    assert max(metrics.frame_changes) < 0.4 * min(metrics.frame_steps)


@pytest.mark.parametrize("speed", [0.7, 2.3, 10.5])
@pytest.mark.parametrize("radius", [4, 12])
def test_a_shape_moves_over_a_plain_background(speed, radius):
    """However little of the frame it fills."""
    metrics = measure(disc(along_row(speed, frames=5 if speed > 5 else 6, start=10), radius))
    assert metrics.motion_amount == pytest.approx(100 * speed / 64, rel=0.05)
    assert turned(metrics.motion_direction, 0) < 2
    assert metrics.flicker < 0.25
    assert metrics.frame_consistency > 0.995


def test_a_shape_moves_over_a_textured_background():
    ground = pattern([(0, 0)], contrast=0.08)[0]
    metrics = measure(disc(along_row(2.3), 11, ground=ground))
    assert metrics.motion_amount == pytest.approx(100 * 2.3 / 64, rel=0.1)
    assert metrics.direction_word == "right"
    assert metrics.flicker < 0.3 * np.mean(metrics.frame_steps)


@pytest.mark.parametrize("size", [128, 200, 512])
def test_numbers_do_not_depend_on_the_size(size):
    def clip(size: int) -> Tensor:
        return disc([(size * (0.3 + 0.04 * i), size * 0.5) for i in range(4)], size / 6, size)

    small, large = measure(clip(64)), measure(clip(size))
    assert large.motion_amount == pytest.approx(small.motion_amount, rel=0.05) == pytest.approx(4, rel=0.05)
    assert large.frame_steps == pytest.approx(small.frame_steps, rel=0.05)
    assert large.flicker < 0.2


def test_two_shapes_that_part_have_no_direction():
    left, right = [(26 - 2 * i, 18.0) for i in range(5)], [(38 + 2 * i, 46.0) for i in range(5)]
    metrics = measure(torch.maximum(disc(left, ground=torch.zeros(3)), disc(right, ground=torch.zeros(3))))
    assert metrics.motion_amount == pytest.approx(100 * 2 / 64, rel=0.06)
    assert metrics.direction_word == "mixed"


@few_examples
@given(st.floats(0, 360), st.floats(0.5, 9), st.integers(0, 99))
def test_backwards_is_the_other_way(degrees, speed, seed):
    clip = pattern(straight(speed, degrees, frames=3), width=48, height=40, seed=seed)
    forwards, backwards = measure(clip), measure(clip.flip(0))
    assert turned(forwards.motion_direction, backwards.motion_direction) == pytest.approx(180, abs=0.1)
    for name in ("flicker", "motion_amount", "frame_consistency", "loop_closure", "colour_drift"):
        assert getattr(backwards, name) == pytest.approx(getattr(forwards, name), rel=1e-3, abs=1e-3)


@few_examples
@given(st.floats(0.4, 1), st.floats(0, 1), st.integers(0, 99))
def test_motion_does_not_depend_on_brightness(contrast, lift, seed):
    clip = pattern(straight(2.5, 200, frames=3), seed=seed)
    other = measure(clip * contrast + lift * (1 - contrast))
    assert other.motion_amount == pytest.approx(100 * 2.5 / 64, rel=0.06)
    assert turned(other.motion_direction, 200) < 3


# --- flicker ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", [0, 0.05])
@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_noise_flickers_and_does_not_move(sigma, contrast):
    clip = (pattern([(0, 0)] * 5, contrast=contrast) + sigma * noise((5, 64, 64, 3))).clamp(0, 1)
    metrics = measure(clip)
    # The mean absolute difference of two normal numbers is 2 / sqrt(pi) of their standard deviation.
    assert metrics.flicker == pytest.approx(255 * sigma * 2 / math.sqrt(math.pi), rel=0.06)
    assert metrics.direction_word == "still"
    assert metrics.colour_drift < 0.2
    assert metrics.loop_closure == pytest.approx(1, abs=0.05)


def test_brightness_that_flickers():
    clip = STILL + torch.tensor([0.02, -0.02] * 3)[:, None, None, None]
    metrics = measure(clip)
    assert metrics.flicker == pytest.approx(255 * 0.04, rel=1e-3)
    assert metrics.motion_amount == 0
    assert metrics.colour_drift == 0


@pytest.mark.parametrize("seed", range(3))
def test_frames_that_have_nothing_to_do_with_each_other(seed):
    unrelated = torch.cat([pattern([(0, 0)], seed=100 * seed + i) for i in range(5)])
    moving = pattern(straight(2.3, 0), seed=seed)
    metrics = measure(unrelated)
    assert metrics.flicker > 10 * measure(moving).flicker
    assert metrics.flicker > 10
    assert metrics.frame_consistency < 0.7 < measure(moving).frame_consistency


def test_one_bad_frame_is_named():
    clip = disc(along_row(2.3, frames=8))
    clip[5] = clip[5] * 0.8
    flicker = measure(clip).frame_flicker
    assert flicker[5] > 10
    assert max(flicker[:5] + flicker[6:]) < 0.3


def test_what_comes_into_view_is_no_flicker():
    """It is in the next frame; only the first and the last frame have no such second neighbour."""
    flicker = measure(disc(along_row(6.0), 11, ground=pattern([(0, 0)], contrast=0.15, seed=3)[0])).frame_flicker
    assert max(flicker[1:-1]) < 0.7 * min(flicker[0], flicker[-1])


# --- consistency --------------------------------------------------------------------------------------------------------


def reference_ssim(one: Tensor, other: Tensor) -> float:
    """Wang et al.'s formula, with SciPy's Gaussian filter."""
    x, y = (frame.double().numpy() @ np.array([0.299, 0.587, 0.114]) for frame in (one, other))

    def blur(values):
        return gaussian_filter(values, 1.5, radius=5, mode="nearest")

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def test_structural_similarity_is_the_papers():
    images = pattern([(0, 0), (3, 1), (0, 0)], width=50, height=37)
    others = (images + 0.04 * noise(images.shape)).clamp(0, 1)
    others[2] = images[2] - 0.15
    found = structural_similarity(images.movedim(-1, 1), others.movedim(-1, 1))
    assert found.tolist() == pytest.approx([reference_ssim(one, other) for one, other in zip(images, others, strict=True)], abs=1e-4)
    assert found.max() < 0.95


def test_consistency_is_the_similarity_of_neighbours():
    """Where nothing moves, of the frames as they are."""
    clip = torch.stack([STILL[0], STILL[0], STILL[0] - 0.15, STILL[0] - 0.15])
    expected = (1 + reference_ssim(clip[1], clip[2]) + 1) / 3
    assert measure(clip).motion_amount == 0
    assert measure(clip).frame_consistency == pytest.approx(expected, abs=1e-4)


# --- jumps, seams, loops ------------------------------------------------------------------------------------------------


def test_a_jump_is_a_seam():
    shifts = straight(2.0, 0, frames=9)
    jumping = [*shifts[:4], *((x + 25, y + 17) for x, y in shifts[4:])]
    smooth, jump = measure(pattern(shifts), range(1, 9)), measure(pattern(jumping), range(1, 9))
    assert smooth.worst_seam < 1.3
    assert jump.seam_scores[3] == jump.worst_seam > 5
    assert max(jump.seam_scores[:3] + jump.seam_scores[4:]) < 1.3
    assert jump.frame_consistency < smooth.frame_consistency - 0.02


@pytest.mark.parametrize("kind", ["place", "colour"])
def test_a_jump_of_a_shape_is_a_seam(kind):
    centres = along_row(1.5, frames=9, start=15)
    if kind == "place":
        centres[5:] = [(x, y + 7) for x, y in centres[5:]]
    clip = disc(centres)
    if kind == "colour":
        clip[5:] = disc(centres[5:], colour=(0.7, 0.5, 0.1))
    metrics = measure(clip, edges=(2, 5, 7))
    assert metrics.edges == (2, 5, 7)
    assert metrics.seam_scores[1] > 2.5
    assert max(metrics.seam_scores[0], metrics.seam_scores[2]) < 1.2


def test_a_loop_closes_and_a_part_of_it_does_not():
    turns = torch.linspace(0, 2 * math.pi, 17)[:-1].tolist()
    clip = disc([(32 + 14 * math.cos(turn), 32 + 14 * math.sin(turn)) for turn in turns])
    whole = measure(clip)
    assert whole.loop_closure == pytest.approx(1, abs=0.15)
    assert whole.direction_word == "mixed"
    assert measure(clip[:8]).loop_closure > 3


@pytest.mark.parametrize(
    ("frames", "length", "overlap", "edges"),
    [
        (32, 16, 0, (16,)),
        (32, 16, 4, (12, 16, 28)),  # windows 0-15, 12-27, 16-31
        (24, 16, 8, (8, 16)),
        (16, 16, 4, ()),
        (8, 16, 4, ()),
        (5, 1, 0, (1, 2, 3, 4)),
    ],
)
def test_edges_of_context_windows(frames, length, overlap, edges):
    assert window_edges(frames, length, overlap) == edges


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (16, 16), (16, 20), (16, -1), (-3, 0)])
def test_windows_that_get_nowhere(length, overlap):
    with pytest.raises(ValueError, match=f"windows of {length} frames can't overlap by {overlap}"):
        window_edges(32, length, overlap)


# --- colours ------------------------------------------------------------------------------------------------------------


def test_colours_that_drift():
    times = torch.linspace(0, 1, 6)[:, None, None, None]
    assert measure(0.4 + 0.1 * times * torch.ones(3) + 0 * STILL).colour_drift == pytest.approx(25.5 * math.sqrt(3), rel=1e-4)
    drifting = STILL + 0.1 * times * torch.tensor([0.3, 0.0, -0.4])
    assert measure(drifting).colour_drift == pytest.approx(25.5 * 0.5, rel=1e-3)
    unsteady = drifting + torch.tensor([0.002, -0.003, 0.001, 0.002, -0.001, -0.001])[:, None, None, None]
    assert measure(unsteady).colour_drift == pytest.approx(25.5 * 0.5, rel=0.1)


def test_colours_that_go_up_and_down_do_not_drift():
    quiet = sum(measure(0.5 + 0.02 * noise((8, 1, 1, 3), seed) * torch.ones(8, 8, 8, 3)).colour_drift == 0 for seed in range(20))
    assert quiet >= 17


# --- what can be measured -------------------------------------------------------------------------------------------------


@few_examples
@given(st.integers(2, 4), st.integers(8, 41), st.integers(8, 41), st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_any_size(frames, height, width, channels, seed):
    clip = torch.rand(frames, height, width, channels, generator=torch.Generator().manual_seed(seed))
    metrics = measure(clip)
    assert 0 < metrics.flicker < 255
    assert 0 <= metrics.motion_amount < 100 * max(height, width) / width / 3
    assert 0 <= metrics.motion_direction <= 360
    assert -1 <= metrics.frame_consistency <= 1
    assert metrics.loop_closure > 0
    assert metrics.colour_drift >= 0


def test_a_long_strip():
    metrics = measure(pattern(straight(4.0, 0), width=400, height=16))
    assert metrics.motion_amount == pytest.approx(1, rel=0.1)


def test_alpha_does_not_count_and_one_channel_is_grey():
    clip = pattern(straight(2, 45, frames=3))
    assert measure(torch.cat([clip, torch.rand(3, 64, 64, 1)], -1)) == measure(clip)
    assert measure(clip[..., :1]) == measure(clip[..., :1].expand(-1, -1, -1, 3))


def test_half_precision():
    clip = pattern(straight(2, 45, frames=3))
    assert measure(clip.half()).motion_amount == pytest.approx(measure(clip).motion_amount, rel=0.01)


def test_values_outside_count_as_black_and_white():
    clip = pattern(straight(2, 45, frames=3), contrast=0.9)
    assert measure(2 * clip - 0.5) == measure((2 * clip - 0.5).clamp(0, 1))


def test_the_clip_is_left_alone():
    clip = pattern(straight(2, 45, frames=3))
    before = clip.clone()
    measure(clip)
    assert torch.equal(clip, before)


def test_a_long_clip_is_measured_as_its_parts_are():
    clip = pattern(straight(1.1, 20, frames=12))
    whole, part = measure(clip), measure(clip[7:])
    assert whole.frame_motion[7:] == pytest.approx(np.array(part.frame_motion), abs=1e-4)
    assert whole.frame_flicker[8:] == pytest.approx(part.frame_flicker[1:], abs=1e-4)


def test_progress_is_told_and_may_stop_it():
    told = []
    measure(torch.zeros(12, 16, 16, 3), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(9, 12), (12, 12)]

    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        measure(torch.zeros(12, 16, 16, 3), on_progress=stop)


def with_nan() -> Tensor:
    clip = STILL.clone()
    clip[3, 7, 7, 1] = float("nan")
    return clip


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (STILL[:1], "at least 2 frames, but the clip has 1"),
        (STILL[:0], "at least 2 frames, but the clip has 0"),
        (STILL[0], "shape \\(64, 64, 3\\)"),
        (STILL.movedim(-1, 1), "shape \\(6, 3, 64, 64\\)"),
        ((STILL * 255).byte(), "uint8"),
        (STILL[:, :4], "64 x 4 pixels are too small"),
        (with_nan(), "Frame 3 has values that are not numbers"),
        (STILL / 0, "not numbers"),
    ],
)
def test_what_is_no_clip_is_refused(clip, said):
    with pytest.raises(ValueError, match=said):
        measure(clip)


@pytest.mark.parametrize("edges", [(0,), (6,), (3, -1)])
def test_edges_outside_the_clip_are_refused(edges):
    with pytest.raises(ValueError, match="clip of 6: 1 to 5"):
        measure(STILL, edges)


# --- the demo world ------------------------------------------------------------------------------------------------------


def scenes(look: Look, count: int) -> list[Scene]:
    generator = torch.Generator().manual_seed(7)
    drawn = [scene for scene in (random_scene(generator, look) for _ in range(3 * count)) if scene.motion in DIRECTIONS]
    assert {scene.motion for scene in drawn[:count]} == set(DIRECTIONS)
    return drawn[:count]


@pytest.mark.parametrize(("look", "count"), [(Look.FILLED, 16), (Look.OUTLINED, 8)], ids=["filled", "outlined"])
def test_the_demo_worlds_directions_are_told(look, count):
    for scene in scenes(look, count):
        metrics = measure(render(scene, 64)[5:7].movedim(1, -1))
        assert metrics.direction_word == scene.motion, scene
        travel = max(abs(end - start) for start, end in zip(scene.start, scene.end, strict=True))
        assert metrics.motion_amount == pytest.approx(100 * travel / 2 / 15, rel=0.1), scene
