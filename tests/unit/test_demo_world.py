"""The demo world's clips: what is drawn is what is said, and what is held back is never drawn."""

from __future__ import annotations

import itertools

import pytest
import torch
from pack.demo.clips import (
    COLOURS,
    DIRECTIONS,
    SHAPES,
    Look,
    Scene,
    held_back_prompts,
    is_held_back,
    random_scene,
    render,
)
from pack.demo.look import centroids, judge, subject_masks

SCENES = 20


def scenes(look: Look) -> list[Scene]:
    generator = torch.Generator().manual_seed(11)
    return [random_scene(generator, look) for _ in range(SCENES)]


def first_scene(**wanted: str) -> Scene:
    generator = torch.Generator().manual_seed(13)
    drawn = (random_scene(generator) for _ in itertools.count())
    return next(scene for scene in drawn if all(getattr(scene, name) == value for name, value in wanted.items()))


@pytest.mark.parametrize("look", Look)
def test_the_judge_sees_what_the_caption_says(look):
    generator = torch.Generator().manual_seed(12)
    for scene in scenes(look):
        frames = render(scene, 64)
        seen = judge(frames + 0.02 * torch.randn(frames.shape, generator=generator), outlined=look is Look.OUTLINED)
        direction = scene.motion if scene.motion in DIRECTIONS else "still"
        assert (seen.colour, seen.shape, seen.direction) == (scene.colour, scene.shape, direction), scene.caption


@pytest.mark.parametrize("change", ["colour", "shape", "direction"])
def test_the_judge_sees_what_is_wrong(change):
    """A judge that guessed from anything but the picture would not see this."""
    frames = render(first_scene(motion="left", colour="red"), 96)
    before = judge(frames)
    if change == "colour":
        assert before.colour == "red"
        assert judge(frames.flip(1)).colour == "blue"
    elif change == "direction":
        assert judge(frames.flip(0)).direction == "right"
        assert judge(frames.transpose(-1, -2)).direction == "up"
        assert judge(frames[:1].expand(16, -1, -1, -1)).direction == "still"
    else:
        assert {shape: judge(render(first_scene(shape=shape), 64)).shape for shape in SHAPES} == {s: s for s in SHAPES}


def test_centroid_follows_the_path():
    for scene in scenes(Look.FILLED)[:12]:
        if scene.motion not in DIRECTIONS or scene.shape == "triangle":  # whose centre is not that of its circle
            continue
        path = centroids(subject_masks(render(scene, 128)))
        inside = [abs(value) + scene.start_radius < 1 for point in (scene.start, scene.end) for value in point]
        if all(inside):
            assert torch.allclose(path[0], torch.tensor(scene.start), atol=0.03)
            assert torch.allclose(path[-1], torch.tensor(scene.end), atol=0.03)


def test_held_back_combinations_are_never_drawn():
    generator = torch.Generator().manual_seed(0)
    drawn = {(s.colour, s.shape, s.motion) for s in (random_scene(generator) for _ in range(4000))}
    assert not [combination for combination in drawn if is_held_back(*combination)]
    # All others are.
    directed = {(c, s, d) for c in COLOURS for s in SHAPES for d in DIRECTIONS if not is_held_back(c, s, d)}
    assert directed <= drawn


def test_held_back_prompts_cover_everything():
    prompts = held_back_prompts()
    assert len(prompts) == len(set(prompts)) == 18
    for names, each in ((COLOURS, 3), (SHAPES, 6)):
        assert all(sum(name in prompt.split() for prompt in prompts) == each for name in names)
    assert all(4 <= sum(name in prompt.split() for prompt in prompts) <= 5 for name in DIRECTIONS)


def test_a_scene_looks_the_same_at_any_size():
    for scene in scenes(Look.FILLED)[:10]:
        small, large = render(scene, 48), render(scene, 96)
        assert torch.allclose(torch.nn.functional.avg_pool2d(large, 2), small, atol=0.3)  # edges are a pixel wide
        assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.01


def test_a_window_is_a_part_of_the_image():
    scene = scenes(Look.OUTLINED)[0]
    assert torch.equal(render(scene, 64, window=(8, 24, 32)), render(scene, 64)[..., 24:56, 8:40])
