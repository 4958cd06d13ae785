"""Motion scale, strength and positions that vary, against a direct evaluation of what they mean."""

from __future__ import annotations

import math

import comfy.samplers
import comfy_extras.nodes_curve  # noqa: F401 -- loads comfy_api.latest, without which comfy_api.input can't be imported
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.input import LinearCurve, MonotoneCubicCurve
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.steered import BlockValues

from .steering_world import (
    FRAMES,
    LIST,
    MASK,
    MASKS,
    MOTION,
    PLACES,
    UNET,
    WITHOUT_MID,
    Call,
    check_calls,
    number,
    per_frame,
    record_calls,
    resized,
    schedule_of,
)
from .world import BOTH, animate, make_base_for, make_model, motion_file, sample


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**UNET)


@pytest.fixture(scope="module")
def v2(patchers, tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V2, **MOTION))


@pytest.fixture(scope="module")
def v3(patchers, tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, seed=5, **MOTION))


@pytest.fixture
def calls(monkeypatch) -> list[Call]:
    return record_calls(monkeypatch)


# --- over frames and pixels ---------------------------------------------------------------------------------------------

OVER_FRAMES = {  # what is connected, and the values of the frames in a block of some size
    "number": (0.7, lambda size: number(0.7)),
    "numbers": (LIST, lambda size: per_frame(LIST)),
    "mask": (MASK, lambda size: resized(MASK[None], size)),
    "one mask": (MASK[None], lambda size: resized(MASK[None], size)),
    "mask video": (MASKS, lambda size: resized(MASKS, size)),
    "line": (LinearCurve([(0.0, 0.2), (1.0, 1.4)]), lambda size: per_frame([0.2, 0.6, 1.0, 1.4])),
    # Between two points of the same slope a monotone cubic is the straight line.
    "cubic": (MonotoneCubicCurve([(0.0, 2.0), (1.0, 0.5)]), lambda size: per_frame([2.0, 1.5, 1.0, 0.5])),
    "curve as the editor stores it": (
        {"points": [[0, 1], [0.5, 0], [1, 1]], "interpolation": "linear"},
        lambda size: per_frame([1.0, 1 / 3, 1 / 3, 1.0]),
    ),
}


@pytest.mark.parametrize("kind", OVER_FRAMES)
def test_strength_over_frames(model, v2, calls, kind):
    values, expected = OVER_FRAMES[kind]
    sample(animate(model, v2, strength=0.8, strength_values=values), frames=FRAMES, steps=1, cfg=1.0)
    check_calls(calls, lambda place, size: (number(1.0), 0.8 * expected(size)))


@pytest.mark.parametrize("kind", OVER_FRAMES)
def test_motion_scale_over_frames(model, v2, calls, kind):
    values, expected = OVER_FRAMES[kind]
    sample(animate(model, v2, motion_scale=1.3, motion_scale_values=values), frames=FRAMES, steps=1, cfg=1.0)
    check_calls(calls, lambda place, size: (1.3 * expected(size), number(1.0)))


@BOTH
def test_everything_multiplies(model, v2, calls):
    """Both numbers, masks, curves over the steps and blocks, with two conds in the call."""
    inputs = {
        "motion_scale": 1.2, "motion_scale_values": LIST, "motion_scale_steps": LinearCurve([(0, 0.5), (1, 2.0)]),
        "motion_scale_blocks": BlockValues((1.0, 0.9, 0.8, 0.7), 0.6, (0.5, 1.1, 1.2, 1.3)),
        "strength": 0.9, "strength_values": MASKS, "strength_steps": LinearCurve([(0, 1.0), (1, 0.4)]),
        "strength_blocks": BlockValues((0.3, 0.4, 0.5, 0.6), 0.7, (0.8, 0.9, 1.0, 1.1)),
    }  # fmt: skip
    sample(animate(model, v2, **inputs), frames=FRAMES, steps=2)
    scale_of = {"down": (1.0, 0.9, 0.8, 0.7), "mid": (0, 0, 0, 0.6), "up": (0.5, 1.1, 1.2, 1.3)}
    strength_of = {"down": (0.3, 0.4, 0.5, 0.6), "mid": (0, 0, 0, 0.7), "up": (0.8, 0.9, 1.0, 1.1)}
    modules = len(PLACES)
    for step, (scale_then, strength_then) in enumerate([(0.5, 1.0), (2.0, 0.4)]):
        check_calls(
            calls[step * modules : (step + 1) * modules],
            lambda place, size, m=scale_then, s=strength_then: (
                1.2 * m * scale_of[place[0]][place[1] - 1] * per_frame(LIST),
                0.9 * s * strength_of[place[0]][place[1] - 1] * resized(MASKS, size),
            ),
        )


@pytest.mark.parametrize("name", ["motion_scale", "strength"])
@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ([1.0, math.nan], "{}_values has shape .* or values that are not finite"),
        (torch.ones(2, 3, 4, 4), r"{}_values has shape \(2, 3, 4, 4\)"),
        ([], "{}_values has shape"),
        ({"points": []}, "{}_values is a curve without points"),
        ({"points": [[0, 1], [1, math.inf]], "interpolation": "linear"}, "{}_values is a curve without points, or with points that are not finite"),
        ({"curve": 1}, "{}_values is not a curve: {{'curve': 1}}. Connect Step Curve or Curve Editor."),
        ({"points": "abc"}, "{}_values is not a curve"),
    ],
)
def test_values_that_are_none(model, v3, name, values, wrong):
    with pytest.raises(InvalidInput, match=wrong.format(name)):
        animate(model, v3, **{f"{name}_values": values})


@pytest.mark.parametrize("steps", [3, {"points": []}, {"points": [[0, math.nan]]}])
def test_steps_that_are_no_curve(model, v3, steps):
    with pytest.raises(InvalidInput, match="strength_steps is (not a curve|a curve without points)"):
        animate(model, v3, strength_steps=steps)


# --- over the steps of a run --------------------------------------------------------------------------------------------


def shares_of(model, motion, calls: list[Call], **options) -> list[tuple[float, float]]:
    """Run with a curve that is its own x, from 1 to 2: each UNet call's share of the run, and its sigma."""
    animated, sigmas = animate(model, motion, strength_steps=LinearCurve([(0, 1), (1, 2)])), []

    def note(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        sigmas.append(transformer_options["sigmas"][0].item())
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    animated.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", note)
    sample(animated, frames=2, cfg=1.0, **options)
    calls_a_step = len(calls) // len(sigmas)
    assert calls_a_step == WITHOUT_MID
    shares = [call.strength - 1.0 for call in calls[::calls_a_step]]
    return list(zip(shares, sigmas, strict=True))


@pytest.mark.parametrize(("steps", "denoise"), [(2, 1.0), (5, 1.0), (9, 1.0), (5, 0.5), (4, 0.3)])
def test_the_first_step_is_0_and_the_last_is_1(model, v3, calls, steps, denoise):
    found = shares_of(model, v3, calls, steps=steps, denoise=denoise)
    assert [share for share, _ in found] == pytest.approx([step / (steps - 1) for step in range(steps)], abs=1e-9)
    assert [sigma for _, sigma in found] == pytest.approx(schedule_of(model, steps, denoise)[:-1], rel=1e-6)


def test_a_single_step_is_at_0(model, v3, calls):
    assert [share for share, _ in shares_of(model, v3, calls, steps=1)] == [0.0]


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_sde", "dpm_fast", "uni_pc"])
@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_calls_between_steps_are_placed_by_sigma(model, v3, calls, sampler, denoise):
    steps = 5
    found = shares_of(model, v3, calls, steps=steps, denoise=denoise, sampler_name=sampler)
    if sampler in ("heun", "dpm_2", "dpmpp_sde"):
        assert len(found) == 2 * steps - 1
    schedule = schedule_of(model, steps, denoise, sampler)
    for share, sigma in found:
        index = max(i for i, value in enumerate(schedule[:-1]) if i == 0 or sigma <= value * (1 + 1e-6))
        here, after = schedule[index : index + 2]
        place = index + max(0.0, (here - sigma) / (here - after))
        assert share == pytest.approx(min(place / (steps - 1), 1.0), abs=1e-5)
    assert found[0][0] == 0.0
    if sampler != "dpm_fast":  # which goes its own way, from the first sigma to the last but one
        assert found[-1][0] == pytest.approx(1.0, abs=1e-5)
    between = [share for share, _ in found if abs(share * (steps - 1) - round(share * (steps - 1))) > 0.01]
    assert bool(between) == (sampler in ("dpm_2", "dpmpp_sde", "dpm_fast"))


def test_sigmas_that_rise(model, v3, calls):
    """As in a run that puts noise in."""
    animated = animate(model, v3, strength_steps=LinearCurve([(0, 1), (1, 2)]))
    sigmas = torch.tensor([0.1, 1.0, 3.0, 10.0])
    guider = comfy.samplers.CFGGuider(animated)
    guider.set_conds([[torch.zeros(1, 7, 16), {}]], [[torch.zeros(1, 7, 16), {}]])
    guider.set_cfg(1.0)
    latent = torch.ones(2, 4, 8, 8)
    guider.sample(torch.zeros_like(latent), latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True)
    assert [call.strength for call in calls[::WITHOUT_MID]] == pytest.approx([1.0, 1.5, 2.0])


def test_where_a_curve_is_0_the_motion_model_costs_nothing(model, v3, calls):
    first_half = LinearCurve([(0, 1), (0.5, 1), (0.5, 0), (1, 0)])
    sample(animate(model, v3, strength_steps=first_half), steps=4)
    assert len(calls) == 2 * WITHOUT_MID
    calls.clear()
    nothing = sample(animate(model, v3, strength_steps=LinearCurve([(0, 0)])), steps=4)
    assert calls == []
    assert torch.equal(nothing, sample(model, steps=4))


# --- over the blocks of the UNet ----------------------------------------------------------------------------------------


def test_blocks_of_sdxl(tmp_path, calls):
    """Three levels; a fourth number is left over."""
    model = make_base_for(Family.SDXL)
    motion = load_motion_model(motion_file(tmp_path, Family.SDXL))
    blocks = BlockValues((0.1, 0.2, 0.3, 9.0), 9.0, (1.1, 1.2, 1.3, 9.0))
    down, up = [0.1, 0.1, 0.2, 0.2, 0.3, 0.3], [1.3, 1.3, 1.3, 1.2, 1.2, 1.2, 1.1, 1.1, 1.1]
    animated = animate(model, motion, motion_scale_blocks=blocks, strength=2.0, strength_blocks=blocks)
    for applied in (animated, animated.clone()):
        calls.clear()
        sample(applied, frames=2, steps=1)
        assert [call.motion_scale for call in calls] == down + up
        assert [call.strength for call in calls] == [2 * value for value in down + up]


def test_blocks_stay_with_clones(model, v2, calls):
    animated = animate(model, v2, strength_blocks=BlockValues((0.5,), 0.25, (0.75,)))
    whole = sample(animated, steps=1)
    expected = [{"down": 0.5, "mid": 0.25, "up": 0.75}[part] for part, _ in PLACES]
    assert [call.strength for call in calls] == expected
    assert torch.equal(sample(animated.clone().clone(), steps=1), whole)
    assert [call.strength for call in calls[len(PLACES) :]] == expected


def test_blocks_at_0_are_left_out(model, v2, calls):
    sample(animate(model, v2, strength_blocks=BlockValues((1, 0, 1, 1), 0, (1, 1, 1, 0))), steps=1)
    kept = [place for place in PLACES if place not in (("down", 2), ("mid", 4), ("up", 4))]
    assert [(call.module.place.part, call.module.place.level + 1) for call in calls] == kept
    assert torch.equal(sample(animate(model, v2, strength_blocks=BlockValues((0,), 0, (0,))), steps=1), sample(model, steps=1))
