"""Motion scale, strength and positions that vary, against a direct evaluation of what they mean."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import comfy.samplers
import comfy_extras.nodes_context_windows  # loads comfy_api.latest, without which comfy_api.input can't be imported
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.input import LinearCurve, MonotoneCubicCurve
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel
from pack.motion_models.motion_model import MotionModule
from pack.nodes.host import injection, sampling
from pack.nodes.host.loading import load_motion_model
from pack.nodes.host.steering import BlockValues, Steered
from pack.nodes.host.unet_call import UNetCall
from torch import Tensor
from torch.nn import functional

from .world import NEGATIVE, POSITIVE, animate, make_base_for, make_model, motion_file, sample

FRAMES = 4
LEVELS = [1, 1, 2, 2, 3, 3, 4, 4], [4], [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1]
"""Of the modules of the way down, in the middle, and up, in the order in which an SD1.5 runs them; 1 is the outermost."""

PLACES = [(part, level) for part, levels in zip(("down", "mid", "up"), LEVELS, strict=True) for level in levels]


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model()


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V2))


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, seed=5))


class Call(NamedTuple):
    """One call of a motion module: what it got, and what it gave back."""

    module: MotionModule
    x: Tensor
    encoding: Tensor
    motion_scale: Any
    strength: Any
    out: Tensor


@pytest.fixture
def calls(monkeypatch) -> list[Call]:
    record, original = [], MotionModule.forward

    def forward(self, hidden_states, encoding, *, motion_scale, strength, **options):
        x = hidden_states.clone()
        out = original(self, hidden_states, encoding, motion_scale=motion_scale, strength=strength, **options)
        record.append(Call(self, x, encoding, motion_scale, strength, out.clone()))
        return out

    monkeypatch.setattr(MotionModule, "forward", forward)
    return record


# --- the definition ---------------------------------------------------------------------------------------------------


def encoding_of(positions: list[float], channels: int) -> Tensor:
    """``pe[k, 2i] = sin(k * 10000^(-2i/C))``, ``pe[k, 2i+1] = cos`` of the same."""
    rows = []
    for k in positions:
        angles = [k * 10000 ** (-2 * i / channels) for i in range(channels // 2)]
        rows.append([wave(angle) for angle in angles for wave in (math.sin, math.cos)])
    return torch.tensor(rows, dtype=torch.float64)


def apply_module(module: MotionModule, x: Tensor, scale: Tensor, strength: Tensor) -> Tensor:
    """``x (1 - s) + module(x) s`` for ``x``, ``(b f) c h w``; the keys times scale; both ``f h w``. In float64."""
    weights = {name.removeprefix("temporal_transformer."): value.double() for name, value in module.state_dict().items()}
    x = x.double()
    f, h, w = scale.shape
    bf, c = x.shape[:2]

    def linear(name: str, tokens: Tensor) -> Tensor:
        out = tokens @ weights[f"{name}.weight"].T
        return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out

    def layer_norm(name: str, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, (c,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    normed = functional.group_norm(x, 32, weights["norm.weight"], weights["norm.bias"], eps=1e-6)
    pe, block = encoding_of(list(range(f)), c), "transformer_blocks.0"
    through = torch.empty_like(x)
    for clip in range(bf // f):
        frames = slice(clip * f, (clip + 1) * f)
        for row in range(h):
            for column in range(w):
                t = linear("proj_in", normed[frames, :, row, column])
                for number in range(2):
                    name = f"{block}.attention_blocks.{number}"
                    u = layer_norm(f"{block}.norms.{number}", t) + pe
                    k = linear(f"{name}.to_k", u) * scale[:, row, column, None]
                    q, k, v = (part.view(f, 8, c // 8).transpose(0, 1) for part in (linear(f"{name}.to_q", u), k, linear(f"{name}.to_v", u)))
                    mixed = (q @ k.transpose(1, 2) / math.sqrt(c // 8)).softmax(-1) @ v
                    t = t + linear(f"{name}.to_out.0", mixed.transpose(0, 1).reshape(f, c))
                value, gate = linear(f"{block}.ff.net.0.proj", layer_norm(f"{block}.ff_norm", t)).chunk(2, dim=-1)
                t = t + linear(f"{block}.ff.net.2", value * functional.gelu(gate))
                through[frames, :, row, column] = linear("proj_out", t) + x[frames, :, row, column]
    s = strength.repeat(bf // f, 1, 1)[:, None]
    return x * (1 - s) + through * s


def resized(mask: Tensor, size: int) -> Tensor:
    """A mask ``f h w`` bilinearly at a block's ``size``: between the four pixels around each block pixel's middle."""

    def along(values: Tensor, dim: int) -> Tensor:
        length = values.shape[dim]
        places = [(i + 0.5) * length / size - 0.5 for i in range(size)]
        picked = []
        for place in places:
            place = min(max(place, 0.0), length - 1)
            low = int(place)
            high, share = min(low + 1, length - 1), place - low
            picked.append(values.select(dim, low) * (1 - share) + values.select(dim, high) * share)
        return torch.stack(picked, dim)

    return along(along(mask.double(), 1), 2)


def check_calls(calls: list[Call], expected, places=PLACES) -> None:
    """Compare what one step's modules gave back with the definition at their motion scale and strength."""
    assert len(calls) == len(places)
    for call, place in zip(calls, places, strict=True):
        size = call.x.shape[-1]
        assert size == 8 >> (place[1] - 1)
        values = [value.double().expand(FRAMES, size, size) for value in expected(place, size)]
        wanted = apply_module(call.module, call.x, *values)
        assert (call.out.double() - wanted).abs().max() < 2e-5 * wanted.abs().max(), place


def number(value: float) -> Tensor:
    return torch.tensor(value).view(1, 1, 1)


def per_frame(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


# --- over frames and pixels ---------------------------------------------------------------------------------------------

GENERATOR = torch.Generator().manual_seed(11)
MASK = torch.rand(8, 8, generator=GENERATOR)
MASKS = torch.rand(FRAMES, 16, 16, generator=GENERATOR)
LIST = [1.5, 0.0, 0.5, 1.0]

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
        ({"points": [[0, 1], [1, math.inf]], "interpolation": "linear"}, "{}_values is a curve without points, or with some that are not finite"),
        ({"curve": 1}, "{}_values is no curve: {{'curve': 1}}. Connect Step Curve or Curve Editor."),
        ({"points": "abc"}, "{}_values is no curve"),
    ],
)
def test_values_that_are_none(model, v3, name, values, wrong):
    with pytest.raises(IncompatibleMotionModel, match=wrong.format(name)):
        animate(model, v3, **{f"{name}_values": values})


@pytest.mark.parametrize("steps", [3, {"points": []}, {"points": [[0, math.nan]]}])
def test_steps_that_are_no_curve(model, v3, steps):
    with pytest.raises(IncompatibleMotionModel, match="strength_steps is (no curve|a curve without points)"):
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
    assert calls_a_step == 20
    shares = [call.strength - 1.0 for call in calls[::calls_a_step]]
    return list(zip(shares, sigmas, strict=True))


def schedule_of(model, steps: int, denoise: float = 1.0, sampler: str = "euler") -> list[float]:
    settings = {"device": "cpu", "sampler": sampler, "scheduler": "normal", "denoise": denoise}
    return comfy.samplers.KSampler(model, steps=steps, **settings).sigmas.tolist()


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
    assert [call.strength for call in calls[::20]] == pytest.approx([1.0, 1.5, 2.0])


def test_where_a_curve_is_0_the_motion_model_costs_nothing(model, v3, calls):
    first_half = LinearCurve([(0, 1), (0.5, 1), (0.5, 0), (1, 0)])
    sample(animate(model, v3, strength_steps=first_half), steps=4)
    assert len(calls) == 2 * 20
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


# --- identity, windows, several motion models ---------------------------------------------------------------------------

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
    module = v3.model.down_modules[0]
    x = torch.randn(2 * frames, module.channels, 3, 2, generator=torch.Generator().manual_seed(frames)).to(dtype)

    def run(motion_scale: Steered, strength: Steered) -> Tensor:
        call = injection.MotionCall([], frames, norm_over_frames=False)
        active = injection.ActiveModel({}, motion_scale.in_call(now), strength.in_call(now))
        return injection._run_module(module, x, active, call, {})

    with torch.inference_mode():
        steered = run(data.draw(identities(frames)), data.draw(identities(frames)))
        assert torch.equal(steered, run(Steered(), Steered()))
        assert not torch.equal(steered, run(Steered(), Steered(0.5)))


def windowed(model, **options):
    settings = {
        "context_length": 8, "context_overlap": 4, "context_schedule": "standard_static", "context_stride": 1,
        "closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False, "causal_window_fix": False,
    }  # fmt: skip
    return comfy_extras.nodes_context_windows.ContextWindowsManualNode.execute(model, **{**settings, **options})[0]


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
    found = calls[::20]
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
    for call, window, factor in zip(calls[::20], windows, factors, strict=True):
        torch.testing.assert_close(call.strength, masks[window] * factor)


def owner(call: Call, *motions) -> int:
    return next(i for i, motion in enumerate(motions) if call.module in list(motion.model.modules()))


def test_several_motion_models_have_each_their_own(model, v2, v3, tmp_path, calls):
    """In the order in which they were applied, each on the output of the one before, with its own values and range."""
    third = load_motion_model(motion_file(tmp_path, Family.V3, seed=9))
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
        expected += active * 8 + middle + active * 12
    assert by_step == expected
    assert {0, 1, 2} == set(by_step)
    joined = [i for i in range(1, len(calls)) if by_step[i - 1 : i + 1] == [0, 1]]
    assert joined
    assert all(torch.equal(calls[i].x, calls[i - 1].out) for i in joined)


def test_applying_again_replaces_in_its_place(model, v2, v3, calls):
    twice = animate(animate(animate(model, v3, strength=0.5), v2), v3, strength=0.25)
    sample(twice, steps=1, cfg=1.0)
    assert [owner(call, v3, v2) for call in calls[:16]] == [0, 1] * 8
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
    model = make_model()
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(), ())
    steered = animate(model, v3, strength_values=LIST, motion_scale_blocks=BlockValues((0.5,), 1.0, (2.0,)), end_percent=0.4)
    whole = sample(steered, frames=FRAMES)
    other = steered.deepclone_multigpu(torch.device("cpu"))
    calls.clear()
    assert torch.equal(sample(other, frames=FRAMES), whole)
    assert calls
    assert not any(call.module in list(v3.model.modules()) for call in calls)
