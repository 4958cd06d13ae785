"""Reuse Motion: what earlier steps gave goes where it belongs, and nowhere else.

Most tests let a "sampler" ask for the same picture at noise levels that are almost the same, so that what is reused should be, but for
little, what would be made anew; of another prompt, window, clip or tile it would not.
"""

from __future__ import annotations

import logging

import comfy.controlnet
import comfy.sample
import comfy.samplers
import comfy_extras.nodes_curve  # noqa: F401 -- loads comfy_api.latest, without which comfy_api.input can't be imported
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy_api.input import LinearCurve
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.motion_models.temporal_transformer import TemporalTransformer
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.deep_reuse import outer_blocks
from pack.nodes.host.types import CLIPS_KEY, REUSE_KEY
from pack.nodes.reuse_motion import ReuseMotionNode
from pack.nodes.windows import ContextWindowsNode

from .world import BOTH, SMALL_MOTION, SMALL_UNET, animate, cond, make_base_for, make_model, motion_file, sample

FRAMES, MODULES = 8, 6
WHOLE = {"start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def v3(patchers, tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALL_MOTION))


@pytest.fixture
def animated(model, v3):
    return animate(model, v3)


@pytest.fixture
def calls(monkeypatch) -> dict[type, int]:
    """How often motion modules and residual blocks worked."""
    counts = {TemporalTransformer: 0, ResBlock: 0}

    def count(kind, method):
        original = getattr(kind, method)

        def call(self, *args, **kwargs):
            counts[kind] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, method, call)

    count(TemporalTransformer, "residual")
    count(ResBlock, "forward")
    return counts


def reusing(model, interval=3, deep_interval=1, **options):
    return ReuseMotionNode.execute(model, interval, deep_interval, **{**WHOLE, **options})[0]


def answers(model, steps=2, calls_a_step=1, frames=FRAMES, positive=None, negative=None, size=8):
    """What a model makes of the same noise in each of some steps at almost the same noise level."""
    sigma = model.get_model_object("model_sampling").sigmas[600].item()
    levels = torch.tensor([sigma * (1 + 3e-4 * (steps / 2 - step)) for step in range(steps + 1)])
    noise, found = torch.randn(calls_a_step, frames, 4, size, size, generator=torch.Generator().manual_seed(3)) * sigma, []

    def ask(model, x, sigmas, extra_args=None, **_):
        for level in sigmas[:-1]:
            found.extend(model(picture, level * x.new_ones(len(x)), **extra_args) for picture in noise)
        return x

    comfy.sample.sample_custom(
        model, noise[0], 2.0, comfy.samplers.KSAMPLER(ask), levels, positive or cond(1), negative or cond(2), torch.zeros_like(noise[0]),
        disable_pbar=True, seed=3,
    )  # fmt: skip
    return torch.stack(found)


def largest(x) -> float:
    return x.abs().max().item()


# --- what is left out ---------------------------------------------------------------------------------------------------


def test_nothing_is_reused_at_interval_1_or_outside_the_range(animated):
    """Bit for bit what it is without the node; so is a run of which only one step lies in the range."""
    expected = sample(animated, steps=3)
    assert torch.equal(sample(reusing(animated, 1, 1), steps=3), expected)
    assert torch.equal(sample(reusing(animated, 3, 3, start_percent=0.0, end_percent=0.001), steps=3), expected)


@BOTH
@pytest.mark.parametrize(("interval", "made"), [(2, 3), (20, 1)])
def test_motion_modules_work_once_in_so_many_steps(animated, calls, interval, made):
    result = sample(reusing(animated, interval), steps=5)
    assert calls == {TemporalTransformer: made * MODULES, ResBlock: 5 * 8}
    assert torch.isfinite(result).all()


def test_deep_layers_work_once_in_so_many_steps(animated, calls):
    """Three of eight residual blocks and three of six motion modules are the outer ones."""
    result = sample(reusing(animated, 1, 3), steps=5)
    assert calls == {TemporalTransformer: 2 * 6 + 3 * 3, ResBlock: 2 * 8 + 3 * 3}
    assert torch.isfinite(result).all()
    calls.update(dict.fromkeys(calls, 0))
    sample(reusing(animated, 3, 3), steps=5)
    assert calls[TemporalTransformer] == 2 * 6


def test_the_range_is_counted_as_comfyui_does(animated, calls):
    sigmas = comfy.samplers.calculate_sigmas(animated.get_model_object("model_sampling"), "normal", 10)
    start, end = (animated.get_model_object("model_sampling").percent_to_sigma(percent) for percent in (0.25, 0.65))
    inside = [float(end) <= float(sigma) <= float(start) for sigma in sigmas[:-1]]
    sample(reusing(animated, 20, start_percent=0.25, end_percent=0.65), steps=10)
    assert calls[TemporalTransformer] == MODULES * (10 - sum(inside) + 1)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_sde"])
def test_samplers_with_several_calls_a_step(animated, calls, sampler):
    result = sample(reusing(animated, 2, 2), steps=4, sampler_name=sampler)
    whole = dict(calls)
    calls.update(dict.fromkeys(calls, 0))
    expected = sample(animated, steps=4, sampler_name=sampler)
    assert torch.isfinite(result).all()
    assert whole[ResBlock] < 0.85 * calls[ResBlock]
    assert largest(result - expected) < largest(expected)


def test_outer_blocks():
    assert outer_blocks(make_model().model.diffusion_model) == 3
    assert outer_blocks(make_base_for(Family.SDXL).model.diffusion_model) == 3
    assert outer_blocks(make_model(**SMALL_UNET).model.diffusion_model) == 2


# --- what goes where ------------------------------------------------------------------------------------------------------


def prompts(kind: str) -> dict:
    """Two prompts a side; or for parts of the picture; or with a ControlNet, which reaches outer and deep blocks."""
    if kind == "areas":
        area = {"area": (8, 4, 0, 0), "strength": 1.0}
        return {"positive": [*cond(1, **area), *cond(3, **{**area, "area": (8, 4, 0, 4)})]}
    if kind == "control":
        control = comfy.controlnet.ControlNet(ReachesAllBlocks(), load_device=torch.device("cpu"), manual_cast_dtype=torch.float32)
        control.set_cond_hint(torch.rand(FRAMES, 3, 64, 64, generator=torch.Generator().manual_seed(1)), 1.0, (0.0, 1.0))
        return {"positive": cond(1, control=control, control_apply_to_uncond=False)}
    return {"positive": [*cond(1), *cond(3)]} if kind == "two" else {}


class ReachesAllBlocks(torch.nn.Module):
    dtype = torch.float32

    def forward(self, x, hint, timesteps, context, **extra):
        def features(channels, size):
            return hint.mean((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, channels, size, size).clone()

        shapes = [(32, 8), (32, 8), (32, 4), (64, 4)]
        return {"output": [features(*shape) for shape in shapes], "middle": [features(64, 4)]}


@pytest.mark.parametrize(("kind", "keep_on"), [("one", "RAM"), ("two", "device"), ("areas", "device"), ("control", "RAM")])
def test_each_prompt_gets_its_own(animated, calls, kind, keep_on):
    options = prompts(kind)
    expected, plain = answers(animated, **options), dict(calls)
    calls.update(dict.fromkeys(calls, 0))
    found = answers(reusing(animated, 4, 4, keep_on=keep_on), **options)
    assert torch.equal(found[0], expected[0])
    assert largest(found - expected) < 5e-3 * largest(expected)
    assert calls[TemporalTransformer] * 2 == plain[TemporalTransformer]


def test_each_window_gets_its_own(animated):
    windowed = ContextWindowsNode.execute(animated, 8, 2)[0]
    expected = answers(windowed, frames=20)
    assert largest(answers(reusing(windowed, 4, 4), frames=20) - expected) < 5e-3 * largest(expected)


def test_each_clip_gets_its_own(animated):
    animated.model_options["transformer_options"][CLIPS_KEY] = 2
    expected = answers(animated, frames=16)
    assert largest(answers(reusing(animated, 4, 4), frames=16) - expected) < 5e-3 * largest(expected)


def test_each_tile_gets_its_own(animated):
    """Two calls a step that nothing tells apart but their order, as nodes for tiles make them."""
    expected = answers(animated, calls_a_step=2)
    assert largest(expected[0] - expected[1]) > 0.1 * largest(expected)
    assert largest(answers(reusing(animated, 4, 4), calls_a_step=2) - expected) < 5e-3 * largest(expected)


# --- what changes ---------------------------------------------------------------------------------------------------------


def test_strength_may_vary_over_the_steps(model, v3, calls):
    """What modules add is kept as it is at strength 1; only what a weaker module changes for later ones is not known."""
    steered = animate(model, v3, strength_steps=LinearCurve([(0.0, 1.0), (1.0, 0.2)]))
    expected = answers(steered)
    before = calls[TemporalTransformer]
    found = answers(reusing(steered, 4))
    assert calls[TemporalTransformer] - before == MODULES
    change = expected[0] - expected[1]
    assert (found - expected)[1].norm() < 0.3 * change.norm()


@pytest.mark.parametrize("intervals", [(4, 1), (1, 4)])
def test_a_motion_scale_that_varies_over_the_steps_is_made_anew(model, v3, intervals, caplog):
    steered = animate(model, v3, motion_scale_steps=LinearCurve([(0.0, 1.0), (1.0, 3.0)]))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(answers(reusing(steered, *intervals), steps=3), answers(steered, steps=3))
    assert "Reuse Motion found nothing to reuse" in caplog.text


def test_a_motion_model_that_comes_in_has_no_old_deep_features(model, v3, calls):
    """From the middle of a group of steps on, deep layers are those with motion."""
    late = animate(model, v3, start_percent=0.5)
    sample(reusing(late, 1, 20), steps=4)
    assert calls[ResBlock] == 2 * 8 + 2 * 3


def test_windows_that_move_are_made_anew(animated, caplog):
    windowed = ContextWindowsNode.execute(animated, 8, 2, "looped_uniform")[0]
    latent = torch.zeros(16, 4, 8, 8)
    with caplog.at_level(logging.WARNING):
        result = sample(reusing(windowed, 2, 2), steps=2, latent=latent)
    assert torch.equal(result, sample(windowed, steps=2, latent=latent))
    assert "whose windows stay in place" in caplog.text


def test_runs_share_nothing(animated):
    reuse = reusing(animated, 3, 3)
    first = sample(reuse, steps=4)
    other = sample(reuse, steps=4, positive=cond(5), size=16)
    assert other.shape[-1] == 16
    assert torch.equal(sample(reuse, steps=4), first)
    assert REUSE_KEY not in reuse.model_options["transformer_options"]


def test_an_error_leaves_nothing(animated):
    reuse = reusing(animated, 3, 3)
    expected = sample(reuse, steps=4)

    def stop(step, *_):
        if step == 1:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        sample(reuse, steps=4, callback=stop)
    assert torch.equal(sample(reuse, steps=4), expected)


# --- beside other nodes -------------------------------------------------------------------------------------------------


def test_block_patches_of_other_nodes(animated):
    """FreeU writes into what it is given; patches of deep blocks are in what is kept, those of outer blocks run each time."""
    patched, seen = animated.clone(), []

    def halve(h, skip, options):
        seen.append(options["block"])
        h[:, :8] *= 0.5
        return h, skip

    def shift(h, options):
        assert h.shape[0] == 2 * FRAMES
        return h + 0.1

    patched.set_model_output_block_patch(halve)
    patched.set_model_input_block_patch(shift)
    expected = answers(patched)
    seen.clear()
    assert largest(answers(reusing(patched, 4, 4)) - expected) < 5e-3 * largest(expected)
    assert [number for _, number in seen] == [0, 1, 2, 3, 2, 3]


def test_attention_that_is_replaced_as_ip_adapter_does(animated):
    patched, seen = animated.clone(), []

    def attention(q, k, v, options):
        seen.append(options["transformer_index"])
        return q * 0.1

    for block in [("input", 1), ("input", 3), ("output", 0), ("output", 3), ("middle", 0)]:
        patched.set_model_attn2_replace(attention, *block)
    expected = answers(patched)
    plain = set(seen)
    seen.clear()
    assert largest(answers(reusing(patched, 4, 4)) - expected) < 5e-3 * largest(expected)
    assert set(seen) == plain
    assert len(seen) == 5 + 2


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_beside_core_s_caches(animated, calls, node):
    """Both skip steps of their own; a step that was skipped made nothing, and the next one makes it."""
    cached = node.execute(animated, 3.0, 0.0, 1.0, False)[0]
    result = sample(cached, steps=8)
    alone = calls[TemporalTransformer]
    calls.update(dict.fromkeys(calls, 0))
    both = sample(reusing(cached, 3, 3), steps=8)
    assert alone < 8 * MODULES
    assert calls[TemporalTransformer] <= alone
    assert torch.isfinite(torch.stack([both, result])).all()


def test_bad_input(animated, model, caplog):
    with pytest.raises(InvalidInput, match="start_percent 0.5 is after end_percent 0.4"):
        ReuseMotionNode.execute(animated, start_percent=0.5, end_percent=0.4)
    with caplog.at_level(logging.WARNING):
        sample(reusing(model), steps=1)
    assert "Add Apply Motion Model" in caplog.text
