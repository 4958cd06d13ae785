"""Motion scale and strength that are 1, follow context windows, and belong to several motion models."""

from __future__ import annotations

import comfy_extras.nodes_curve  # noqa: F401 -- loads comfy_api.latest, without which comfy_api.input can't be imported
import pytest
import torch
from comfy_api.input import LinearCurve, MonotoneCubicCurve
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.motion_models.config import Family
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion import injection as injection
from pack.nodes.host.motion.steered import BlockValues, Steered
from pack.nodes.host.motion.unet_call import UNetCall
from pack.nodes.host.runs import clip_sampling as sampling
from torch import Tensor

from .steering_world import (
    FRAMES,
    LIST,
    MASKS,
    MOTION,
    PLACES,
    UNET,
    WITHOUT_MID,
    Call,
    check_calls,
    per_frame,
    record_calls,
    resized,
    schedule_of,
    windowed,
)
from .world import NEGATIVE, POSITIVE, animate, make_model, motion_file, sample


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**UNET)


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V2, **MOTION))


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, seed=5, **MOTION))


@pytest.fixture
def calls(monkeypatch) -> list[Call]:
    return record_calls(monkeypatch)



IDENTITIES = {
    "numbers": {"motion_scale_values": 1.0, "strength_values": [1.0] * 8},
    "masks": {"motion_scale_values": torch.ones(8, 16, 16), "strength_values": torch.ones(32, 32)},
    "curves": {f"{name}_{kind}": LinearCurve([(0, 1), (1, 1)]) for name in ("motion_scale", "strength") for kind in ("values", "steps")},
    "cubics": {f"{name}_steps": MonotoneCubicCurve([(0, 1), (0.3, 1), (1, 1)]) for name in ("motion_scale", "strength")},
    "blocks": {"motion_scale_blocks": BlockValues(), "strength_blocks": BlockValues((1.0,) * 4, 1.0, (1.0,) * 4)},
}


@pytest.mark.parametrize("inputs", [*IDENTITIES.values(), {k: v for i in IDENTITIES.values() for k, v in i.items()}], ids=[*IDENTITIES, "all"])
def test_ones_change_no_bit(model, v3, inputs):
    assert torch.equal(sample(animate(model, v3, **inputs)), sample(animate(model, v3)))


FLAT = st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True).map(lambda xs: [(x, 1.0) for x in xs])
CURVES = st.one_of(FLAT.map(LinearCurve), FLAT.map(MonotoneCubicCurve))
ONES = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda size: torch.ones(size))


@st.composite
def identities(draw, frames: int) -> Steered:
    """One of the settings that ask for nothing, whatever it varies over."""
    over_frames = [st.none(), st.just(1.0), st.just([1.0]), st.just([1.0] * frames), ONES, ONES.map(lambda mask: mask.repeat(frames, 1, 1)), CURVES]
    levels = st.integers(1, 4).map(lambda count: (1.0,) * count)
    blocks = st.builds(BlockValues, levels, st.just(1.0), levels)
    return Steered.of("strength", 1.0, draw(st.one_of(over_frames)), draw(st.none() | CURVES), draw(st.none() | blocks))


@given(data=st.data(), frames=st.integers(1, 6), progress=st.floats(0, 1), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=60, deadline=None)
def test_whatever_is_1_changes_no_bit_of_a_motion_module(v3, data, frames, progress, dtype):
    sigmas = torch.linspace(10.0, 0.0, 6)
    now = UNetCall({"sample_sigmas": sigmas, "sigmas": torch.tensor([10.0 - 8.0 * progress])}, frames, None, frames)
    module = v3.model.modules_by_part["down"][0]
    x = torch.randn(2 * frames, module.channels, 3, 2, generator=torch.Generator().manual_seed(frames)).to(dtype)

    def run(motion_scale: Steered, strength: Steered) -> Tensor:
        how = injection.ModelInCall(motion_scale.in_call(now), strength.in_call(now))
        return injection.MotionStep(module, how)(x, injection.MotionCall(frames), {})

    with torch.inference_mode():
        steered = run(data.draw(identities(frames)), data.draw(identities(frames)))
        assert torch.equal(steered, run(Steered(), Steered()))
        assert not torch.equal(steered, run(Steered(), Steered(0.5)))


WINDOWS = {
    "static": ({}, [list(range(8)), list(range(4, 12))]),
    "anchor": ({"causal_window_fix": True}, [list(range(8)), list(range(3, 12))]),
    "batched": ({"context_schedule": "batched"}, [list(range(8)), list(range(8, 12))]),
    "looped": (
        {"context_schedule": "looped_uniform", "closed_loop": True},
        [list(range(8)), list(range(4, 12)), [8, 9, 10, 11, 0, 1, 2, 3]],
    ),
}


@pytest.mark.parametrize("kind", WINDOWS)
def test_frame_values_and_curves_follow_the_windows(model, v3, calls, kind):
    """Windows hold the frames that core's node gives them; a curve spans the whole clip, not a window."""
    options, windows = WINDOWS[kind]
    values = [0.5 + frame / 10 for frame in range(12)]
    curve = LinearCurve([(0, 1), (1, 2)])
    sample(windowed(animate(model, v3, motion_scale_values=values, strength_values=curve), **options), frames=12, steps=1, cfg=1.0)
    found = calls[::WITHOUT_MID]
    assert [call.motion_scale.shape[1:] for call in found] == [(1, 1)] * len(windows)
    for call, window in zip(found, windows, strict=True):
        assert call.motion_scale.flatten().tolist() == pytest.approx([values[frame] for frame in window])
        assert call.strength.flatten().tolist() == pytest.approx([1 + frame / 11 for frame in window])


def test_mask_videos_and_steps_follow_the_windows(model, v3, calls):
    masks = torch.rand(12, 8, 8, generator=torch.Generator().manual_seed(2))
    steered = animate(model, v3, strength_values=masks, strength_steps=LinearCurve([(0, 1), (1, 2)]))
    sample(windowed(steered), frames=12, steps=3, cfg=1.0)
    windows = [list(range(8)), list(range(4, 12))] * 3
    factors = [1.0, 1.0, 1.5, 1.5, 2.0, 2.0]
    for call, window, factor in zip(calls[::WITHOUT_MID], windows, factors, strict=True):
        torch.testing.assert_close(call.strength, masks[window] * factor)


def owner(call: Call, *motions) -> int:
    return next(i for i, motion in enumerate(motions) if call.module in list(motion.model.modules()))


def test_several_motion_models_have_each_their_own(model, v2, v3, tmp_path, calls):
    """In the order in which they were applied, each on the output of the one before, with its own values and range."""
    third = load_motion_model(motion_file(tmp_path, Family.V3, seed=9, **MOTION))
    both = animate(model, v3, strength=0.5, end_percent=0.5)
    both = animate(both, v2, motion_scale=1.5, strength_steps=LinearCurve([(0, 0), (0.3, 0), (0.3, 1), (1, 1)]))
    all_three = animate(both, third, strength_values=[0.1] * 8, start_percent=0.9)
    sample(all_three, steps=5, cfg=1.0)
    by_step, settings = [], {0: (1.0, 0.5), 1: (1.5, 1.0), 2: (1.0, 0.1)}
    for call in calls:
        who = owner(call, v3, v2, third)
        strength = call.strength if who < 2 else call.strength.unique().item()
        assert (call.motion_scale, strength) == pytest.approx(settings[who])
        by_step.append(who)
    # Sigma at 50 % lies between steps 3 and 4, and at 90 % between the last two; v2 has one module more, in the middle.
    sigmas = schedule_of(model, 5)
    half, nearly = (float(model.model.model_sampling.percent_to_sigma(percent)) for percent in (0.5, 0.9))
    expected = []
    for step, sigma in enumerate(sigmas[:-1]):
        active = [0] * (sigma >= half) + [1] * (step / 4 >= 0.3) + [2] * (sigma <= nearly)
        middle = [1] * (1 in active)
        expected += active * 4 + middle + active * 8
    assert by_step == expected
    assert {0, 1, 2} == set(by_step)
    joined = [i for i in range(1, len(calls)) if by_step[i - 1 : i + 1] == [0, 1]]
    assert joined
    assert all(torch.equal(calls[i].x, calls[i - 1].out) for i in joined)


def test_applying_again_replaces_in_its_place(model, v2, v3, calls):
    twice = animate(animate(animate(model, v3, strength=0.5), v2), v3, strength=0.25)
    sample(twice, steps=1, cfg=1.0)
    assert [owner(call, v3, v2) for call in calls[:8]] == [0, 1] * 4
    assert {call.strength for call in calls if owner(call, v3, v2) == 0} == {0.25}


def test_values_are_those_of_each_clip_s_own_frames(model, v3, calls):
    """Of several clips in one batch: the second one's first frame has the first value again."""
    steered = animate(model, v3, strength_values=LIST, motion_scale_values=MASKS)
    both = {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}
    sampling.sample_clips(steered, POSITIVE, NEGATIVE, both, 2, sampling.SamplerSettings(5, 1, 2.0, "euler", "normal"))
    assert {call.x.shape[0] for call in calls} == {2 * 2 * FRAMES}  # conds, clips, frames
    check_calls(calls, lambda place, size: (resized(MASKS, size), per_frame(LIST)), [place for place in PLACES if place[0] != "mid"])


def test_a_second_gpu_has_the_same_settings(v3, calls):
    """For which ComfyUI makes the models once more."""
    model = make_model(**UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**UNET), ())
    steered = animate(model, v3, strength_values=LIST, motion_scale_blocks=BlockValues((0.5,), 1.0, (2.0,)), end_percent=0.4)
    whole = sample(steered, frames=FRAMES)
    other = steered.deepclone_multigpu(torch.device("cpu"))
    calls.clear()
    assert torch.equal(sample(other, frames=FRAMES), whole)
    assert calls
    assert not any(call.module in list(v3.model.modules()) for call in calls)
