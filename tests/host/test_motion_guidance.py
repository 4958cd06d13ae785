"""Motion guidance and shaped attention: what they do, where they act, what they cost."""

from __future__ import annotations

import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.guidance import MotionGuidanceNode, TemporalAttentionNode
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.steered import BlockValues
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.clip_seeds import clip_seed
from pack.nodes.windows import ContextWindowsNode

from .world import BOTH, NEGATIVE, POSITIVE, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample

SCALE = 1.5


def assert_same(result, expected):
    """To 1e-5 of the largest value."""
    torch.testing.assert_close(result, expected, rtol=0.0, atol=1e-5 * expected.abs().max().item())


def guided(model, scale=SCALE, blocks="all", *percents):
    return MotionGuidanceNode.execute(model, scale, blocks, *percents)[0]


@pytest.fixture
def base(patchers):
    return make_model(**SMALL_UNET)


@pytest.fixture
def motion(patchers, tmp_path):
    return load_motion_model(motion_file(tmp_path, Family.V2, has_mid_block=True, **SMALL_MOTION))


@BOTH
@pytest.mark.parametrize(
    ("blocks", "left"),
    [("all", BlockValues((0.0,), 0.0, (0.0,))), ("down", BlockValues((0.0,))), ("mid", BlockValues(mid=0.0)), ("up", BlockValues(up=(0.0,)))],
)
def test_it_adds_what_the_motion_modules_bring(base, motion, blocks, left):
    """One step of Euler's to no noise is the prediction itself."""
    animated, without = animate(base, motion), animate(base, motion, strength_blocks=left)
    one_step = {"steps": 1, "frames": 4}
    prediction = sample(animated, **one_step)
    brought = sample(animated, cfg=1.0, **one_step) - sample(without, cfg=1.0, **one_step)
    assert brought.abs().max() > 0.01
    for model in (guided(animated, SCALE, blocks), animate(guided(base, SCALE, blocks), motion)):
        assert_same(sample(model, **one_step), prediction + SCALE * brought)
    again = guided(guided(animated, 9.0), SCALE, blocks)  # takes the place of the one before
    assert_same(sample(again, **one_step), prediction + SCALE * brought)


@BOTH
def test_it_goes_through_the_windows_that_are_set(base, motion):
    one_step = {"steps": 1, "frames": 7, "cfg": 1.0}
    animated = ContextWindowsNode.execute(animate(base, motion), 4, 2)[0]
    without = ContextWindowsNode.execute(animate(base, motion, strength=0.0), 4, 2)[0]
    prediction = sample(animated, **one_step)
    expected = prediction + SCALE * (prediction - sample(without, **one_step))
    assert_same(sample(guided(animated), **one_step), expected)


@BOTH
def test_it_costs_one_evaluation_of_the_positive_prompt_where_it_acts_and_nothing_elsewhere(base, motion):
    conds: list[int] = []

    def count(apply_model, args):
        conds.append(len(args["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"])

    def run(model, **options):
        model = model.clone()
        model.set_model_unet_function_wrapper(count)
        conds.clear()
        return sample(model, frames=4, steps=4, **options), sum(conds)

    animated = animate(base, motion)
    plain, evaluations = run(animated)
    assert evaluations == 8
    assert run(guided(animated))[1] == 12
    assert run(guided(animated, SCALE, "all", 0.0, 0.4))[1] == 10
    for model in (guided(animated, 0.0), guided(animated, SCALE, "all", 1.0, 1.0)):
        result, evaluations = run(model)
        assert torch.equal(result, plain)
        assert evaluations == 8
    # Nor where no motion model runs.
    assert run(guided(base))[1] == 8
    assert run(guided(animate(base, motion, end_percent=0.4)))[1] == 10


def test_blocks_without_motion_modules_are_named(tmp_path):
    motion = load_motion_model(motion_file(tmp_path, Family.V3, **SMALL_MOTION))
    animated = animate(make_model(**SMALL_UNET), motion)
    with pytest.raises(InvalidInput, match="UNet's mid blocks, but the motion model has none there. Choose other blocks"):
        sample(guided(animated, SCALE, "mid"), frames=4)
    assert torch.isfinite(sample(guided(animated), frames=4)).all()
    with pytest.raises(InvalidInput, match="start_percent 0.5 is after end_percent 0.2"):
        guided(animated, SCALE, "all", 0.5, 0.2)


@BOTH
def test_attention_is_shaped_in_its_range_and_nothing_is_changed_outside_of_it(base, motion):
    def run(*values, **options):
        return sample(animate(base, TemporalAttentionNode.execute(motion, *values)[0]), frames=4, steps=3, **options)

    plain = sample(animate(base, motion), frames=4, steps=3)
    shaped = run(6.0, 0.5)
    assert not torch.allclose(shaped, plain, atol=1e-3)
    assert not torch.allclose(run(6.0, 0.5, 2.0, 0.0, 0.4), shaped, atol=1e-3)
    assert torch.equal(run(), plain)
    assert torch.equal(run(6.0, 0.5, 2.0, 1.0, 1.0), plain)
    again = TemporalAttentionNode.execute(TemporalAttentionNode.execute(motion, 6.0)[0])[0]  # takes the place of the one before
    assert torch.equal(sample(animate(base, again), frames=4, steps=3), plain)
    assert torch.equal(sample(animate(base, motion), frames=4, steps=3), plain)


def test_shaped_clips_of_one_batch_are_each_as_alone(tmp_path):
    motion = load_motion_model(motion_file(tmp_path, Family.V3, **SMALL_MOTION))
    animated = animate(make_model(**SMALL_UNET), TemporalAttentionNode.execute(motion, 6.0, 0.5)[0])
    latent, settings = {"samples": torch.zeros(2 * 4, 4, 8, 8)}, SamplerSettings(5, 2, 2.0, "euler", "normal", 1.0)
    both = sample_clips(animated, POSITIVE, NEGATIVE, latent, 2, settings)["samples"]
    for clip, part in enumerate(both.chunk(2)):
        alone = sample_clips(
            animated, POSITIVE, NEGATIVE, {"samples": latent["samples"][:4]}, 1, settings._replace(seed=clip_seed(5, clip))
        )
        assert_same(alone["samples"], part)
