"""Chunks of a long clip: all frames, once each; overlaps that fade."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.chunks import blend_overlap, plan_chunks
from pack.animation.errors import InvalidInput


@given(st.data())
def test_every_frame_is_finished_by_one_chunk(data):
    total, length = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 64))
    overlap, least = data.draw(st.integers(0, length - 1)), data.draw(st.integers(1, length))
    chunks = plan_chunks(total, length, overlap, least)
    finished = [frame for chunk in chunks for frame in range(chunk.start, chunk.start + chunk.finished)]
    assert finished == list(range(total))
    assert len({chunk.frames for chunk in chunks}) == 1
    assert chunks[0].frames <= length
    assert chunks[0].frames >= min(total, least)
    assert all(chunk.overlap >= overlap for chunk in chunks[1:])
    for earlier, later in pairwise(chunks):
        assert earlier.end - later.start == earlier.shared == later.overlap


def test_chunks_are_no_longer_than_they_need_to_be():
    assert [(chunk.start, chunk.end) for chunk in plan_chunks(66, 64, 8)] == [(0, 37), (29, 66)]
    assert [(chunk.start, chunk.end) for chunk in plan_chunks(66, 64, 8, least=48)] == [(0, 48), (18, 66)]


@pytest.mark.parametrize(("total", "length", "overlap"), [(0, 8, 2), (9, 8, 8), (9, 0, 0)])
def test_what_does_not_fit_is_refused(total, length, overlap):
    with pytest.raises(InvalidInput, match="can't be cut"):
        plan_chunks(total, length, overlap)


def test_an_overlap_fades_from_one_chunk_to_the_next():
    blended = blend_overlap(torch.zeros(4, 2, 1, 1), torch.ones(4, 2, 1, 1))
    assert blended[:, 1, 0, 0].tolist() == [0.125, 0.375, 0.625, 0.875]
