"""Paths as text, boxes as masks, noise that travels, and attention that keeps inside and outside apart."""

from __future__ import annotations

import pytest
import torch
from pack.animation.path_schedule import boxes_of_path, check_path
from pack.animation.schedule import Easing, Pace, ScheduleError
from pack.animation.trajectories import carry, coverage, travelling_noise
from pack.motion_models.box_bias import box_bias

SIZE = (0.4, 0.3)


def centres(text, frames, **options):
    return [tuple(round(side, 4) for side in box[:2]) for box in boxes_of_path(text, frames, SIZE, **options).tolist()]


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0: 0.2, 0.5\n2: 0.4, 0.7\n-1: 0.8, 0.7", "0: 0.2, 0.5; 50%: 0.4, 0.7; 4: (0.8, 0.7)", "0.2, 0.5\n0.4, 0.7\n0.8, 0.7",
        "0: [0.2, 0.5]  # from here\n2: 0.4, 0.7, 0.4, 0.3\n100%: 0.8, 0.7", "max_f/2: 0.4, 0.7\n0: 0.2, 0.5\n-1: 0.8, 0.7",
    ],
)  # fmt: skip
def test_ways_to_write_a_path(text):
    assert centres(text, 5) == [(0.2, 0.5), (0.3, 0.6), (0.4, 0.7), (0.6, 0.7), (0.8, 0.7)]


def test_boxes_have_the_given_size_or_their_own():
    sizes = boxes_of_path("0: 0.5, 0.5\n2: 0.5, 0.5, 0.2, 0.1", 3, SIZE)[:, 2:]
    torch.testing.assert_close(sizes, torch.tensor([[0.4, 0.3], [0.3, 0.2], [0.2, 0.1]]))


def test_a_circle_is_a_formula():
    found = boxes_of_path("0: 0.5 + 0.25*cos(2*pi*t/8), 0.5 + 0.25*sin(2*pi*t/8)", 8, SIZE)[:, :2] - 0.5
    torch.testing.assert_close(found.norm(dim=1), torch.full((8,), 0.25))
    torch.testing.assert_close(found[2], torch.tensor([0.0, 0.25]), atol=1e-6, rtol=0)


def test_easings_are_those_of_schedules():
    assert centres("0: 0, 0.5\n4: 1, 0.5", 5, pace=Pace(Easing.HOLD))[3] == (0.0, 0.5)
    assert centres("0: 0, 0.5\n4: 1, 0.5", 5, pace=Pace(Easing.EASE_IN_OUT))[1] == (0.1562, 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The text is empty"),
        ("0: 0.5", "Line 1, character 4: '0.5' is no place in the picture. Write a centre"),
        ("0: 0.5, 0.5\n8: 0.5, 0.5, 0.2", "Line 2, character 4: '0.5, 0.5, 0.2' is no place in the picture"),
        ("0: 1.2, 0.5", "x is 1.2, outside the picture. It goes from 0, the left edge, to 1, the right"),
        ("0: 0.2, -0.5", "y is -0.5, outside the picture. It goes from 0, the upper edge, to 1, the lower"),
        ("0: 256, 256", "x is 256, outside the picture"),
        ("0: 0.2, 0.5, 0, 0.5", "the width is 0. It goes from 0.01 to 1"),
        ("0: 0.2, 0.5, 0.5, 1.5", "the height is 1.5. It goes from 0.01 to 1"),
        ("0: nan, 0.5", "'nan' is not known"),
        ("0: 0.2, there", "'there' is not known"),
        ("0: 0.2, 0.5\n0.4, 0.7", "Line 2, character 1: a frame and a colon are missing"),
        ("0: 0.2, 0.5\n0: 0.4, 0.7", "'0' and '0' are for the same position"),
        ("here: 0.2, 0.5", "'here' is not known"),
        ("0: 0.2, (0.5", "the expression cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(text, said):
    with pytest.raises(ScheduleError) as raised:
        check_path(text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0: 0.2, 0.5\n16: 0.4, 0.7", "'16' is after the clip's last frame, 15"),
        ("0: t/10, 0.5", "Frame 11: x is 1.1, outside the picture"),
        ("0: 1/(t-3), 0.5", "has no value for t = 3"),
    ],
)
def test_what_does_not_fit_a_clip_is_said(text, said):
    check_path(text)
    with pytest.raises(ScheduleError) as raised:
        boxes_of_path(text, 16, SIZE)
    assert said in str(raised.value)


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_coverage_is_the_area_of_a_pixel_in_the_box():
    """Against counting points of a grid 40 times as fine; one box is partly outside the picture."""
    boxes = torch.tensor([[0.3, 0.6, 0.41, 0.27], [0.9, 0.1, 0.5, 0.33]])
    fine = 40
    ys, xs = torch.meshgrid((torch.arange(6 * fine) + 0.5) / (6 * fine), (torch.arange(8 * fine) + 0.5) / (8 * fine), indexing="ij")
    for (x, y, width, height), found in zip(boxes.tolist(), coverage(boxes, 6, 8), strict=True):
        points = ((xs - x).abs() <= width / 2) & ((ys - y).abs() <= height / 2)
        counted = points.float().unflatten(0, (6, fine)).unflatten(2, (8, fine)).mean((1, 3))
        torch.testing.assert_close(found, counted, atol=0.03, rtol=0)


def test_noise_travels_with_the_box_and_is_each_frames_own_elsewhere():
    noise = torch.randn(5, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    boxes = boxes_of_path("0: 0.25, 0.25\n-1: 0.75, 0.5", 5, (0.25, 0.25))
    kept = noise.clone()
    moved = travelling_noise(noise, boxes, 1.0, seed=3)
    assert torch.equal(noise, kept)
    patch = moved[0, :, 2:6, 2:6]
    for frame, (left, top) in enumerate(((2, 2), (4, 3), (6, 4), (8, 5), (10, 6))):
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[top : top + 4, left : left + 4] = True
        assert torch.equal(moved[frame, :, top : top + 4, left : left + 4], patch)
        assert torch.equal(moved[frame][:, ~inside], noise[frame][:, ~inside])


def test_boxes_that_grow_or_leave_the_picture_keep_their_patch():
    noise = torch.zeros(2, 4, 16, 16)
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [1.0, 0.5, 0.25, 0.25]])
    large, small = travelling_noise(noise, boxes, 1.0, seed=3)
    assert torch.equal(small[:, 6:10, 14:16], large[:, 6:10, 6:8])
    assert small.count_nonzero() == 4 * 4 * 2


def test_a_share_of_the_noise_keeps_its_variance():
    noise = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(1))
    mixed = travelling_noise(noise, torch.tensor([[0.5, 0.5, 1.0, 1.0]]), 0.6, seed=3)
    assert mixed.std().item() == pytest.approx(1.0, abs=0.02)
    assert (mixed * noise).mean().item() == pytest.approx(0.8, abs=0.02)


# --- attention --------------------------------------------------------------------------------------------------------


def test_pairs_are_apart_by_the_share_that_one_is_inside():
    inside = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.0]])  # of five places in two boxes
    bias = box_bias(inside, (2.0, 3.0))
    expected = torch.zeros(5, 5)
    for a in range(5):
        for b in range(5):
            for box, strength in enumerate((2.0, 3.0)):
                p, q = inside[a, box], inside[b, box]
                expected[a, b] -= strength * (p * (1 - q) + q * (1 - p))
    torch.testing.assert_close(bias, expected)
    assert bias[0, 1] == 0.0
    assert bias[0, 2] == -5.0
    assert bias[0, 3] == -2.0


# --- carrying ---------------------------------------------------------------------------------------------------------


def test_what_is_salient_and_what_is_in_the_box_change_places():
    """Frame by frame, also where the two overlap, and where a box reaches over the edge."""
    frames = torch.arange(3 * 64.0).view(3, 1, 8, 8)
    saliency = torch.zeros(3, 8, 8)
    saliency[0, 1:3, 1:3] = 1.0  # far from its box
    saliency[1, 4:6, 5:7] = 1.0  # overlaps it
    saliency[2, 6:8, 0:2] = 1.0
    boxes = torch.tensor([[0.75, 0.75, 0.25, 0.25], [0.625, 0.625, 0.25, 0.25], [1.0, 0.0, 0.25, 0.25]])
    moved = carry(frames, saliency, [boxes])
    for frame, ((top, left), (to_top, to_left)) in enumerate((((1, 1), (5, 5)), ((4, 5), (4, 4)), ((6, 0), (0, 6)))):
        assert torch.equal(moved[frame, :, to_top : to_top + 2, to_left : to_left + 2], frames[frame, :, top : top + 2, left : left + 2])
    assert sorted(moved[0].flatten().tolist()) == frames[0].flatten().tolist()
    assert sorted(moved[2].flatten().tolist()) == frames[2].flatten().tolist()
    changed = (moved != frames).sum((1, 2, 3)).tolist()
    assert changed == [8, 6, 8]


def test_two_subjects_go_to_two_boxes():
    frames = torch.zeros(1, 1, 8, 8)
    frames[0, 0, 0:2, 0:2], frames[0, 0, 6:8, 0:2] = 2.0, 1.0
    boxes = [torch.tensor([[0.875, y, 0.25, 0.25]]) for y in (0.125, 0.875)]
    moved = carry(frames, frames[:, 0], boxes)[0, 0]
    assert torch.equal(moved[0:2, 6:8], torch.full((2, 2), 2.0))
    assert torch.equal(moved[6:8, 6:8], torch.full((2, 2), 1.0))
    assert moved.count_nonzero() == 8


def test_what_is_in_its_box_stays():
    frames = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    saliency = torch.zeros(1, 8, 8)
    saliency[0, 3:5, 3:5] = 1.0
    assert torch.equal(carry(frames, saliency, [torch.tensor([[0.5, 0.5, 0.25, 0.25]])]), frames)
