"""Nodes that change how long a clip is: held at its last frame, and run back and forth."""

from __future__ import annotations

import pytest
import torch
from pack.motion_models.errors import InvalidInput
from pack.nodes.latents import PingPongNode, RepeatLastFrameNode


def clip(frames: int, **more: object) -> dict:
    return {"samples": torch.arange(frames).float()[:, None, None, None].expand(-1, 4, 2, 2), **more}


def numbers(frames: torch.Tensor) -> list[float]:
    return frames.flatten(1)[:, 0].tolist()


@pytest.mark.parametrize(("before", "frames", "after"), [(1, 3, [0, 0, 0]), (3, 5, [0, 1, 2, 2, 2]), (3, 3, [0, 1, 2]), (4, 2, [0, 1, 2, 3])])
def test_the_last_frame_is_repeated(before, frames, after):
    latent = clip(before)
    assert numbers(RepeatLastFrameNode.execute(latent, frames)[0]["samples"]) == after
    assert len(latent["samples"]) == before


def test_what_has_an_entry_per_frame_is_as_long():
    masks = torch.tensor([0.0, 1.0])[:, None, None].expand(-1, 16, 16)
    made = RepeatLastFrameNode.execute(clip(2, noise_mask=masks, batch_index=[4, 9]), 4)[0]
    assert numbers(made["noise_mask"]) == [0, 1, 1, 1]
    assert made["batch_index"] == [4, 9, 10, 11]
    one = torch.ones(1, 16, 16)
    assert RepeatLastFrameNode.execute(clip(2, noise_mask=one), 4)[0]["noise_mask"] is one


def test_latents_of_video_models_are_refused():
    with pytest.raises(InvalidInput, match="Repeat Last Frame needs a latent whose batch holds the frames"):
        RepeatLastFrameNode.execute({"samples": torch.zeros(1, 16, 3, 4, 4)}, 16)


@pytest.mark.parametrize(("frames", "after"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3, 2, 1])])
def test_a_clip_runs_forth_and_back(frames, after):
    images = torch.arange(frames).float()[:, None, None, None].expand(-1, 8, 8, 3)
    assert numbers(PingPongNode.execute(images)[0]) == after
