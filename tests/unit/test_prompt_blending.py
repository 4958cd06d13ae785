"""Embeddings of prompts, blended."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pack.animation.prompt_blending import Interpolation, blend, match_lengths
from pack.animation.schedule import ScheduleError
from torch.nn import functional

LINEAR, SLERP = Interpolation


def embeddings(number: int = 3, shape=(1, 7, 8)) -> list[torch.Tensor]:
    return [torch.randn(shape) for _ in range(number)]


@pytest.mark.parametrize("how", Interpolation)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_at_the_ends_a_blend_is_the_one_embedding_bit_for_bit(how, dtype):
    a, b, _ = (embedding.to(dtype) for embedding in embeddings())
    out = blend([a, b], [0, 0, 1], [1, 1, 1], [0.0, 1.0, 0.3], how)
    assert out.dtype == dtype
    assert torch.equal(out[:2], torch.cat([a, b]))
    torch.testing.assert_close(out[2:], b)


def test_linear_is_the_weighted_mean_in_doubles():
    made = embeddings()
    firsts, seconds, shares = [0, 0, 1, 2], [1, 2, 2, 0], [0.25, 0.5, 0.9, 1 / 3]
    expected = [made[a].double() * (1 - s) + made[b].double() * s for a, b, s in zip(firsts, seconds, shares, strict=True)]
    torch.testing.assert_close(blend(made, firsts, seconds, shares, LINEAR), torch.cat(expected).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 5, 8), (1, 8)], ids=["tokens", "pooled"])
def test_slerp_is_scipy_s_for_each_vector(shape):
    spatial = pytest.importorskip("scipy.spatial")
    a, b = (functional.normalize(embedding.double(), dim=-1) for embedding in embeddings(2, shape))
    shares = [0.0, 0.1, 0.5, 0.75, 1.0]
    found = blend([a.float(), b.float()], [0] * 5, [1] * 5, shares, SLERP).reshape(5, -1, 8)
    for token, (start, end) in enumerate(zip(a.reshape(-1, 8), b.reshape(-1, 8), strict=True)):
        expected = spatial.geometric_slerp(start.numpy(), end.numpy(), shares)
        np.testing.assert_allclose(found[:, token], expected, atol=2e-6)
    longer = blend([3 * a.float(), 3 * b.float()], [0] * 5, [1] * 5, shares, SLERP)
    torch.testing.assert_close(longer.norm(dim=-1), torch.full_like(longer[..., 0], 3.0))


def test_slerp_of_vectors_without_an_angle_between_them_is_linear():
    a = torch.randn(1, 1, 8)
    for b in (a, 2 * a, -a, a + 1e-5):
        torch.testing.assert_close(blend([a, b], [0], [1], [0.25], SLERP), 0.75 * a + 0.25 * b)
    zero = torch.zeros_like(a)
    assert torch.equal(blend([zero, zero], [0], [1], [0.25], SLERP), zero)


def test_repeated_tokens_leave_an_attention_as_it_is():
    short, long, longer = embeddings(1, (1, 77, 8))[0], embeddings(1, (1, 154, 8))[0], embeddings(1, (1, 231, 8))[0]
    matched = match_lengths([short, long, longer])
    assert [embedding.shape[1] for embedding in matched] == [462] * 3
    query = torch.randn(1, 4, 8)
    for before, after in zip((short, long, longer), matched, strict=True):
        attended = functional.scaled_dot_product_attention(query, before, before)
        torch.testing.assert_close(functional.scaled_dot_product_attention(query, after, after), attended)
    assert match_lengths([short])[0].shape == short.shape


def test_lengths_that_are_too_far_apart():
    with pytest.raises(ScheduleError, match="Prompts of 385, 462 tokens cannot be blended. Make their lengths more similar."):
        match_lengths([torch.zeros(1, 77 * chunks, 2) for chunks in (5, 6, 5)])
