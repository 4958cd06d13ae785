"""Shaped attention against its formulas, written out pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from pack.motion_models.attention_inputs import AttentionInputs
from pack.motion_models.attention_shaping import AttentionShaping
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.layers import sinusoidal_positions

from .conftest import make_motion_model, sdpa

CLIPS, PIXELS, FRAMES, HEADS, WIDTH = 2, 3, 5, 4, 8


def tokens(seed: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLIPS * PIXELS, FRAMES, HEADS * WIDTH, generator=generator) * scale


def written_out(q, k, v, enhance=0.0, neighbours=0.0, width=2.0) -> torch.Tensor:
    """One clip."""
    out, off_diagonal = torch.zeros_like(v), []
    for pixel in range(len(q)):
        for head in range(HEADS):
            part = slice(head * WIDTH, (head + 1) * WIDTH)
            for i in range(FRAMES):
                logits = [float(q[pixel, i, part] @ k[pixel, j, part]) / math.sqrt(WIDTH) for j in range(FRAMES)]
                highest = max(logits)
                logits = [
                    logit + neighbours * highest * math.exp(-((i - j) ** 2) / (2 * width**2)) for j, logit in enumerate(logits)
                ]
                whole = sum(map(math.exp, logits))
                for j, logit in enumerate(logits):
                    share = math.exp(logit) / whole
                    out[pixel, i, part] += share * v[pixel, j, part]
                    if i != j:
                        off_diagonal.append(share)
    intensity = sum(off_diagonal) / len(off_diagonal)
    return out * max(1.0, (FRAMES + enhance) * intensity) if enhance else out


@pytest.mark.parametrize("settings", [{"enhance": 4.0}, {"neighbours": 0.7, "width": 1.5}, {"enhance": 2.0, "neighbours": 1.0}])
def test_it_is_what_the_papers_say_for_each_clip_by_itself(settings):
    q, k, v = tokens(1), tokens(2), tokens(3)
    expected = torch.cat([written_out(*part, **settings) for part in zip(q.chunk(CLIPS), k.chunk(CLIPS), v.chunk(CLIPS), strict=True)])
    assert (expected - sdpa(q, k, v, HEADS)).abs().max() > 0.05
    torch.testing.assert_close(AttentionShaping(**settings).attend(q, k, v, HEADS, CLIPS), expected, rtol=1e-5, atol=1e-5)


def test_frames_that_see_one_another_alike_are_enhanced_by_the_weight_in_frames():
    v = tokens(3)
    even = sdpa(tokens(1), tokens(2, 0.0), v, HEADS)
    out = AttentionShaping(enhance=2.5).attend(tokens(1), tokens(2, 0.0), v, HEADS, CLIPS)
    torch.testing.assert_close(out, even * (FRAMES + 2.5) / FRAMES)


def test_frames_that_see_themselves_alone_stay():
    q = torch.eye(FRAMES).repeat(CLIPS * PIXELS, 1, HEADS).view(CLIPS * PIXELS, FRAMES, HEADS, FRAMES)
    q = torch.nn.functional.pad(q * 50, (0, WIDTH - FRAMES)).flatten(2)
    v = tokens(3)
    torch.testing.assert_close(AttentionShaping(enhance=3.0).attend(q, q, v, HEADS, CLIPS), v)


def test_neither_blocks_of_tokens_nor_the_batch_change_a_motion_module():
    module = make_motion_model(MotionModelConfig(Family.V3, block_channels=(64,), layers_per_block=1)).modules_by_part["down"][0]
    transformer, x = module.temporal_transformer, torch.randn(2 * 4, 64, 2, 3)
    inputs = AttentionInputs(sinusoidal_positions(torch.arange(4), 64), shaping=AttentionShaping(enhance=8.0, neighbours=0.5))
    both = transformer(x, inputs)
    torch.testing.assert_close(transformer(x, inputs, block_tokens=8), both, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([transformer(clip, inputs) for clip in x.chunk(2)]), both, rtol=1e-5, atol=1e-6)
