"""The steering nodes, and motion models whose frames have other positions."""

from __future__ import annotations

import asyncio
import math

import comfy_extras.nodes_context_windows  # loads comfy_api.latest, without which comfy_api.input can't be imported
import comfy_extras.nodes_curve
import pytest
import torch
from comfy_api.input import CurveInput, LinearCurve, MonotoneCubicCurve
from pack.animation.schedule import Easing, Pace, ScheduleError
from pack.animation.value_schedule import values_of_schedule
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput
from pack.motion_models.motion_model import MotionModule
from pack.nodes import LoomExtension
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.steered import BlockValues
from pack.nodes.steering import FrameValuesNode, MotionBlocksNode, RetimeMotionNode, StepCurveNode
from pack.nodes.windows import ViewWindowsNode

from .steering_world import encoding_of, windowed
from .world import SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample

MODULES = 6
EASINGS = ["linear", "ease-in-out", "hold"]


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, seed=5, **SMALL_MOTION))


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """A motion model of 16 positions."""
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, seed=6, max_frames=16, **SMALL_MOTION))


@pytest.fixture
def encodings(monkeypatch) -> list[torch.Tensor]:
    """What each motion module got for positions."""
    record, original = [], MotionModule.forward

    def forward(self, hidden_states, inputs, **options):
        record.append(inputs.encoding)
        return original(self, hidden_states, inputs, **options)

    monkeypatch.setattr(MotionModule, "forward", forward)
    return record


def apply(model, motion_model, **inputs):
    """By the node, as ComfyUI calls it; the noise schedule stays the model's."""
    return ApplyMotionModelNode.execute(model, motion_model, "keep model's", **inputs)[0]


def retimed(motion_model, **inputs):
    return RetimeMotionNode.execute(motion_model, **inputs)[0]


# --- texts ------------------------------------------------------------------------------------------------------------


def test_frame_values_for_apply(model, v3):
    (values,) = FrameValuesNode.execute("0: 1, -1: 0.25", 4, "linear").args
    assert values == [1.0, 0.75, 0.5, 0.25]
    assert torch.equal(
        sample(apply(model, v3, strength_values=values), frames=4),
        sample(animate(model, v3, strength_values=torch.tensor(values).view(4, 1, 1)), frames=4),
    )
    with pytest.raises(InvalidInput, match="motion_scale_values has values for 4 frames, but a clip has 8. Give one value, or 8."):
        sample(apply(model, v3, motion_scale_values=values), frames=8)


@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize("text", ["0%: 1, 50%: 0.2, 100%: 2", "0.1: 3\n0.3: -1\n0.7: -1\n0.9: 5", "1, 0, 4, 2", "0.5: 7", "30%: 1, 0.6: 2"])
def test_a_step_curve_is_core_s_and_means_what_frame_values_mean(text, easing):
    (curve,) = StepCurveNode.execute(text, easing).args
    assert type(curve) in (LinearCurve, MonotoneCubicCurve)
    assert CurveInput.from_raw(curve) is curve
    assert comfy_extras.nodes_curve.CurveEditor.execute(curve).args == (curve,)
    as_frames = "\n".join(
        f"{float(key.strip().removesuffix('%')) * (1 if '%' in key else 100)!r}%: {value}" if value else key
        for key, _, value in (entry.partition(":") for entry in text.replace(",", "\n").splitlines())
    )
    expected = values_of_schedule(as_frames, 1001, Pace(Easing(easing)))
    assert [curve.interp(i / 1000) for i in range(1001)] == pytest.approx(expected, abs=1e-9)


def test_step_curves_and_the_curve_editor_s_stand_for_each_other(model, v3):
    (curve,) = StepCurveNode.execute("0%: 1\n50%: 0.2\n100%: 1", "linear").args
    edited = {"points": [[0, 1], [0.5, 0.2], [1, 1]], "interpolation": "linear"}
    (editor_s,) = comfy_extras.nodes_curve.CurveEditor.execute(edited).args
    plain = sample(apply(model, v3), frames=4, steps=3)
    for name in ("strength_steps", "motion_scale_steps", "strength_values", "motion_scale_values"):
        ours, theirs, stored = (sample(apply(model, v3, **{name: c}), frames=4, steps=3) for c in (curve, editor_s, edited))
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, stored)
        assert not torch.equal(ours, plain)


@pytest.mark.parametrize("steps", [4, 7])
def test_a_curve_over_the_noise_schedule_jumps_where_a_range_ends(model, v3, steps):
    (curve,) = StepCurveNode.execute("0%: 1\n37%: 0", "hold").args
    over_schedule = sample(apply(model, v3, strength_steps=curve, curves_over="noise schedule"), frames=4, steps=steps)
    assert torch.equal(over_schedule, sample(apply(model, v3, end_percent=0.37), frames=4, steps=steps))
    assert not torch.equal(over_schedule, sample(apply(model, v3), frames=4, steps=steps))


@pytest.mark.parametrize(
    ("node", "inputs", "wrong"),
    [
        (FrameValuesNode, {"text": "0: 1\n120%: 0"}, "Line 2, character 1: percentages go from 0% to 100%."),
        (FrameValuesNode, {"text": ""}, "The text is empty"),
        (StepCurveNode, {"text": "0%: 1\n5: 0"}, "Line 2, character 1: '5' is not a position in the run. Write a percentage or a number from 0 to 1"),
        (StepCurveNode, {"text": "0%: 1, 0: 2"}, "Line 1, character 8: '0%' and '0' are for the same position."),
    ],
)
def test_a_bad_text_is_refused_before_the_run_and_in_it(node, inputs, wrong):
    assert node.validate_inputs(**inputs).startswith(wrong)
    with pytest.raises(ScheduleError) as caught:
        node.execute(**inputs)
    assert str(caught.value).startswith(wrong)


def test_a_keyframe_after_the_clip_is_refused_in_the_run():
    assert FrameValuesNode.validate_inputs("0: 1\n20: 0") is True
    with pytest.raises(ScheduleError, match="Line 2, character 1: '20' is after the clip's last frame, 15."):
        FrameValuesNode.execute("0: 1\n20: 0", 16)


def test_what_comes_over_a_link_is_not_judged_before_the_run():
    assert FrameValuesNode.validate_inputs(text=None) is True
    assert StepCurveNode.validate_inputs(text=None) is True


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_motion_blocks_multiply_parts_and_levels():
    inputs = {"down": 2.0, "mid": 3.0, "up": 0.5, **{f"down_{i}": i / 10 for i in range(1, 5)}, **{f"up_{i}": float(i) for i in range(1, 5)}}
    (blocks,) = MotionBlocksNode.execute(**inputs).args
    assert blocks.down == pytest.approx((0.2, 0.4, 0.6, 0.8))
    assert blocks.mid == 3.0
    assert blocks.up == (0.5, 1.0, 1.5, 2.0)


def test_motion_blocks_by_default_change_no_bit(model, v3):
    (blocks,) = MotionBlocksNode.execute().args
    assert blocks == BlockValues((1.0,) * 4, 1.0, (1.0,) * 4)
    assert torch.equal(sample(apply(model, v3, strength_blocks=blocks, motion_scale_blocks=blocks)), sample(apply(model, v3)))


# --- retime -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs", [{}, {"extend": True}, {"repeat_frames": 5}, {"repeat": "loop"}, {"ease": LinearCurve([(0, 0), (1, 1)])}]
)
def test_retime_that_asks_for_nothing_changes_no_bit(model, v3, inputs):
    assert torch.equal(sample(apply(model, retimed(v3, **inputs))), sample(apply(model, v3)))


def check_positions(encodings: list[torch.Tensor], positions: list[float]) -> None:
    assert len({encoding.shape for encoding in encodings}) == 2  # 32 and 64 channels
    for encoding in encodings:
        torch.testing.assert_close(encoding.double(), encoding_of(positions, encoding.shape[1]), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("inputs", "frames", "positions"),
    [
        ({"speed": 0.5}, 32, [k / 2 for k in range(32)]),
        ({"speed": 1.5, "offset": 2.0}, 6, [2, 3.5, 5, 6.5, 8, 9.5]),
        ({"repeat": "loop", "repeat_frames": 3}, 8, [0, 1, 2, 0, 1, 2, 0, 1]),
        ({"repeat": "ping-pong", "repeat_frames": 3, "offset": 4.0}, 8, [4, 5, 6, 5, 4, 5, 6, 5]),
        ({"ease": LinearCurve([(0, 1), (1, 0)])}, 4, [3, 2, 1, 0]),
        ({"ease": {"points": [[0, 0], [0.5, 1], [1, 0]], "interpolation": "linear"}}, 5, [0, 2, 4, 2, 0]),
        ({"speed": 2.0, "extend": True}, 20, [2 * k for k in range(20)]),
    ],
    ids=["slow", "fast", "loop", "ping-pong", "reversed", "there and back", "extended"],
)
def test_frames_get_the_positions(model, sixteen, encodings, inputs, frames, positions):
    out = sample(apply(model, retimed(sixteen, **inputs)), frames=frames, steps=1, cfg=1.0)
    assert out.isfinite().all()
    check_positions(encodings, positions)


@pytest.mark.parametrize(
    ("inputs", "frames", "said"),
    [
        ({"speed": 2.0}, 9, "from 0 to 16"),
        ({"offset": 12.0}, 5, "from 12 to 16"),
        ({"speed": 1.1}, 16, "from 0 to 16.5"),
        ({"repeat": "loop", "repeat_frames": 9, "offset": 8.0}, 9, "from 8 to 16"),
        ({"ease": LinearCurve([(0, -0.5), (1, 1)])}, 5, "from -2 to 4"),
    ],
)
def test_positions_that_a_motion_model_has_not(model, sixteen, inputs, frames, said):
    wrong = (
        rf"Retime Motion places {frames} frames {said}, but motion model 'v3_6.safetensors' has positions from 0 to below 16. "
        "Lower speed, offset or the number of frames, or turn extend on."
    )
    with pytest.raises(IncompatibleMotionModel, match=wrong):
        sample(apply(model, retimed(sixteen, **inputs)), frames=frames, steps=1)
    assert sample(apply(model, retimed(sixteen, **inputs, extend=True)), frames=frames, steps=1).isfinite().all()


def test_extend_without_anything_else(model, sixteen, encodings):
    sample(apply(model, retimed(sixteen)), frames=17, steps=1, cfg=1.0)
    check_positions(encodings, list(range(16)))  # in windows
    encodings.clear()
    sample(apply(model, retimed(sixteen, extend=True)), frames=40, steps=1, cfg=1.0)
    check_positions(encodings, list(range(40)))


def test_context_windows_are_retimed_each_for_itself(model, sixteen, encodings):
    eased = retimed(sixteen, speed=0.5, ease=LinearCurve([(0, 0), (1, 1)]))
    sample(windowed(apply(model, eased)), frames=24, steps=1, cfg=1.0)
    assert len(encodings) == 5 * MODULES
    check_positions(encodings, [k / 2 for k in range(8)])


def test_positions_that_go_on_from_window_to_window(model, sixteen, encodings):
    slow = apply(model, retimed(sixteen, speed=0.5, across_windows=True))
    sample(windowed(slow), frames=24, steps=1, cfg=1.0)
    starts = range(0, 24, 4)[:5]
    assert len(encodings) == len(starts) * MODULES
    for number, start in enumerate(starts):
        check_positions(encodings[number * MODULES :][:MODULES], [(start + k) / 2 for k in range(8)])


def test_positions_that_go_on_must_all_be_there(model, sixteen):
    with pytest.raises(IncompatibleMotionModel, match="Retime Motion places 24 frames from 0 to 23, but .* below 16"):
        sample(windowed(apply(model, retimed(sixteen, across_windows=True))), frames=24, steps=1)


def test_positions_that_go_on_in_views(model, sixteen, encodings):
    animated = apply(model, retimed(sixteen, speed=0.5, across_windows=True))
    sample(ViewWindowsNode.execute(animated, 8, 4)[0], frames=12, steps=1, cfg=1.0)
    check_positions(encodings, [k / 2 for k in range(12)])


def test_retiming_leaves_the_motion_model_as_it_was_and_replaces_itself(model, v3):
    plain = sample(apply(model, v3))
    slow = retimed(v3, speed=0.5)
    slower = sample(apply(model, slow))
    assert not torch.equal(slower, plain)
    assert torch.equal(sample(apply(model, v3)), plain)
    assert torch.equal(sample(apply(model, retimed(slow))), plain)
    assert torch.equal(sample(apply(model, retimed(retimed(v3, offset=3.0), speed=0.5))), slower)
    assert torch.equal(sample(apply(model, slow).clone()), slower)


def test_two_motion_models_have_each_their_own_positions(model, v3, sixteen, encodings):
    ease = MonotoneCubicCurve([(0, 0), (1, 1)])
    both = apply(apply(model, retimed(v3, speed=0.5, ease=ease)), retimed(sixteen, speed=2.0, ease=ease))
    sample(both, frames=4, steps=1, cfg=1.0)
    check_positions(encodings[::2], [0, 0.5, 1, 1.5])
    check_positions(encodings[1::2], [0, 2, 4, 6])


@pytest.mark.parametrize("points", [[(0, 0), (0.5, 0), (0.5, 1), (1, 1)], [(0.5, 0.5)], [(-1, 0), (2, 1)], [(0, 0), (0, 1)]])
@pytest.mark.parametrize("curve", [LinearCurve, MonotoneCubicCurve])
def test_odd_curves_give_finite_positions(model, sixteen, encodings, points, curve):
    sample(apply(model, retimed(sixteen, ease=curve(points))), frames=5, steps=1, cfg=1.0)
    assert all(encoding.isfinite().all() for encoding in encodings)


@pytest.mark.parametrize(
    ("inputs", "wrong"),
    [
        ({"ease": {"points": []}}, "ease is a curve without points"),
        ({"ease": LinearCurve([(0, 0), (1, math.nan)])}, "ease is a curve without points, or with points that are not finite"),
        ({"ease": 0.5}, "ease is not a curve: 0.5"),
    ],
)
def test_bad_input_of_retime(v3, inputs, wrong):
    with pytest.raises(InvalidInput, match=wrong):
        RetimeMotionNode.execute(v3, **inputs)


def test_curves_come_over_links_only():
    """At an input of curves alone the editor would draw a curve of its own, and send its ramp from 0 to 1."""
    found = []
    for node in asyncio.run(LoomExtension().get_node_list()):
        for part in node.GET_NODE_INFO_V1()["input"].values():
            found += [options for kind, *options in part.values() if kind == "CURVE"]
    assert len(found) == 4
    assert all(options["forceInput"] for (options,) in found)
