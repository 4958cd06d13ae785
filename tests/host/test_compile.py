"""The option compile of Apply Motion Model: the same numbers, and never an error."""

from __future__ import annotations

import logging
import shutil

import comfy.ops
import pytest
import torch
import torch._dynamo
from pack.motion_models.attention_inputs import AttentionInputs
from pack.motion_models.config import Family
from pack.motion_models.temporal_transformer import TemporalTransformer
from pack.motion_models.token_function import transform_tokens
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.files.loading import load_motion_model, temporal_attention
from pack.nodes.host.motion import compiled_tokens
from pack.nodes.host.motion.compiled_tokens import CompiledTokens
from pack.nodes.host.runs import applying
from pack.nodes.windows import ViewWindowsNode
from torch import nn

from .world import BOTH, SMALLEST_MOTION, SMALLEST_UNET, make_model, motion_file, sample

CHANNELS, HEADS = 64, 8


@pytest.fixture
def transformer():
    made = TemporalTransformer(CHANNELS, HEADS, operations=comfy.ops.manual_cast, attention=temporal_attention())
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -0.2, 0.2)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


@pytest.fixture
def eager(monkeypatch):
    """Compiling without a compiler: graphs are made, and run as PyTorch runs them."""
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    made = torch.compile(transform_tokens, backend=backend, dynamic=False)
    monkeypatch.setattr(compiled_tokens, "_compiled", lambda _: made)
    return graphs


def motion(folder, **changes):
    return load_motion_model(motion_file(folder, Family.V3, **SMALLEST_MOTION, **changes))


def compiled(model, motion_model, **options):
    return ApplyMotionModelNode.execute(model, motion_model, compile=True, **options)[0]


def tokens(pixels: int, frames: int):
    generator = torch.Generator().manual_seed(pixels)
    return torch.randn(pixels, frames, CHANNELS, generator=generator), torch.randn(frames, CHANNELS, generator=generator)


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_the_function_is_the_module(transformer, scale):
    x, encoding = tokens(5, 16)
    number = None if scale == 1.0 else torch.tensor(scale)
    found = transform_tokens(x, encoding, number, dict(transformer.named_parameters()), HEADS)
    torch.testing.assert_close(found, transformer.forward_tokens(x, AttentionInputs(encoding, scale)), atol=1e-5, rtol=1e-5)


@BOTH
def test_compiled_models_give_the_same_frames(model, tmp_path, eager):
    motion_model = motion(tmp_path)
    for options in ({}, {"motion_scale": 1.3, "strength": 0.5}):
        expected = sample(ApplyMotionModelNode.execute(model, motion_model, **options)[0])
        torch.testing.assert_close(sample(compiled(model, motion_model, **options)), expected, atol=1e-5, rtol=1e-5)
    assert eager


def test_a_width_has_one_graph_whatever_frames_and_size(model, tmp_path, eager):
    animated = compiled(model, motion(tmp_path))
    sample(animated, steps=1)
    count = len(eager)
    sample(animated, frames=12, size=16, steps=1)
    sample(animated, frames=5, size=24, steps=1)
    assert len(eager) == count == 1


def test_what_cannot_be_compiled_runs_as_it_is(model, tmp_path, eager):
    motion_model = motion(tmp_path)
    for change in (
        {"motion_scale_values": [1.0, 0.5] * 4},
        {"views": True},
        {"optimized_attention_override": lambda function, *args, **kwargs: function(*args, **kwargs)},
    ):
        views, override = change.pop("views", False), change.pop("optimized_attention_override", None)
        pair = [ApplyMotionModelNode.execute(model, motion_model, **change)[0], compiled(model, motion_model, **change)]
        if views:
            pair = [ViewWindowsNode.execute(each, 4, 2)[0] for each in pair]
        if override:
            for each in pair:
                each.model_options["transformer_options"]["optimized_attention_override"] = override
        assert torch.equal(*map(sample, pair))
    assert eager == []


def test_without_a_compiler_there_is_one_warning(model, tmp_path, monkeypatch, caplog):
    torch._dynamo.reset()

    def failing(graph, inputs):
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(compiled_tokens, "_compiled", lambda _: torch.compile(transform_tokens, backend=failing, dynamic=False))
    motion_model = motion(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = sample(compiled(model, motion_model), steps=2)
    assert torch.equal(found, sample(ApplyMotionModelNode.execute(model, motion_model)[0], steps=2))
    assert sum("compile of Apply Motion Model has no effect" in record.message for record in caplog.records) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_inductor_gives_the_same_numbers(transformer):
    """With PyTorch's own compiler; the graph is the same for other numbers of frames and pixels."""
    torch._dynamo.reset()
    compiled_tokens._compiled.cache_clear()
    run = CompiledTokens()
    for pixels, frames in ((7, 16), (9, 8)):
        x, encoding = tokens(pixels, frames)
        expected = transformer.forward_tokens(x, AttentionInputs(encoding))
        torch.testing.assert_close(run(transformer, x, AttentionInputs(encoding)), expected, atol=1e-5, rtol=1e-5)
    assert not run.has_failed


def test_a_run_that_does_not_ask_for_it_makes_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setattr(applying, "CompiledTokens", lambda: pytest.fail("was asked for"))
    sample(ApplyMotionModelNode.execute(model, motion(tmp_path))[0], steps=1)
