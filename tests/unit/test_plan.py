"""A run in words, and the warnings about it, from facts alone."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack.animation.plan import (
    ContextWindows,
    Memory,
    Plan,
    PlannedLora,
    PlannedModel,
    SamplingAdvice,
    stretches,
    text_of,
    window_in_words,
)
from pack.animation.plan_warnings import warnings_of

LINEAR, SCALED, XL = "linear", "scaled_linear", "scaled_linear 0.020"
V2 = PlannedModel("mm_sd_v15_v2.ckpt", "AnimateDiff v2", LINEAR)
V1 = PlannedModel("mm_sd_v15.ckpt", "AnimateDiff v1", LINEAR, max_frames=24, norm_over_frames=True)
XL_MODEL = PlannedModel("mm_sdxl_v10_beta.ckpt", "AnimateDiff-SDXL", XL, trained_side=1024)
HOTSHOT = PlannedModel("hsxl.ckpt", "HotshotXL", SCALED, max_frames=24, trained_frames=8)
LONG = PlannedModel("lt_long_mm_32.ckpt", "LongAnimateDiff", LINEAR, max_frames=64, trained_frames=32)
LCM = PlannedModel(
    "AnimateLCM_sd15_t2v.ckpt", "AnimateLCM", LINEAR, 64, distilled_timesteps=100,
    advice=SamplingAdvice("lcm", "simple", (4, 8), (1.0, 2.0)),
)  # fmt: skip
LIGHTNING = replace(V2, file_name="lightning_4step.safetensors", advice=SamplingAdvice("euler", "sgm_uniform", (4, 4), (1.0, 1.0)))


def plan(*models: PlannedModel, frames: int = 16, **changes) -> Plan:
    defaults = {"size": (512, 512), "betas": models[0].betas if models else None}
    return Plan(frames, models=models, **{**defaults, **changes})


def windows(length: int, frames: int, overlap: int = 4, steps: int = 1, **changes) -> ContextWindows:
    starts = [*range(0, frames - length, length - overlap), frames - length]
    return ContextWindows(length, (tuple(tuple(range(start, start + length)) for start in starts),) * steps, **changes)


def test_what_families_were_made_for_gives_no_warning():
    good = [
        plan(V1), plan(V2, steps=20, cfg=7.5, sampler="euler"), plan(V2, frames=12), plan(HOTSHOT, frames=8),
        plan(XL_MODEL, size=(1024, 1024)), plan(XL_MODEL, size=(768, 768)), plan(LONG, frames=32),
        plan(LCM, timesteps=100, steps=6, cfg=1.5, sampler="lcm"), plan(LIGHTNING, steps=4, cfg=1.0, sampler="euler"),
        plan(V2, frames=64, windows=windows(16, 64)), plan(V2, LCM, betas=LINEAR, timesteps=100, steps=4, cfg=2.0),
        plan(replace(V2, positions=(0.0, 15.5)), frames=32), plan(),
    ]  # fmt: skip
    assert [warnings_of(one) for one in good] == [[]] * len(good)


WRONG = {
    "prompt of fewer frames": (plan(V2, prompt_frames=(8,)), "A prompt is for 8 frames, but the clip has 16: it starts over"),
    "prompt of more frames": (plan(V2, prompt_frames=(24,)), "A prompt is for 24 frames, but the clip has 16: it is cut off. Connect the clip's latent to Prompt Schedule, or set its frames to 16"),
    "1 frame": (plan(V2, frames=1), "A single frame will not move."),
    "1 frame without a motion model": (plan(frames=1), "A single frame will not move."),
    "few": (plan(V2, frames=11), "11 frames are few for 'mm_sd_v15_v2.ckpt', which was trained on 16"),
    "few for 8": (plan(HOTSHOT, frames=7), "7 frames are few for 'hsxl.ckpt', which was trained on 8"),
    "many for 8": (plan(HOTSHOT, frames=16), "16 frames at a time are many for 'hsxl.ckpt', which was trained on 8"),
    "many": (plan(V2, frames=17), "17 frames at a time are many for .* add context windows of 16"),
    "too many": (plan(V2, frames=33), "33 frames at a time are too many for .* positions 0 to 32, but it has positions for 32. The run will stop"),
    "too many by retiming": (plan(replace(V2, positions=(16.5, 32.0))), "positions 16.5 to 32, but it has positions for 32"),
    "below 0": (plan(replace(V2, positions=(-1.0, 8.0))), "positions -1 to 8, but it has positions for 32"),
    "extended": (plan(replace(V2, may_extend=True), frames=40), "40 frames at a time are many"),
    "window of another length": (plan(V2, frames=64, windows=windows(24, 64)), "A context window has 24 frames, but .* trained on 16. Set context_length to 16"),
    "window of too many frames": (plan(V2, frames=64, windows=windows(40, 64)), "40 frames at a time are too many"),
    "anchor": (plan(V2, frames=64, windows=windows(16, 64, has_anchor=True)), "Turn causal_window_fix off"),
    "v1 in windows": (plan(V1, frames=64, windows=windows(16, 64)), r"'mm_sd_v15.ckpt' \(AnimateDiff v1\) balances light and colours"),
    "betas": (plan(V2, betas=SCALED), "The noise schedule is scaled_linear, but 'mm_sd_v15_v2.ckpt' was trained on linear"),
    "schedule of a later node": (plan(V2, betas=SCALED, changed_after=True), "trained on linear: a node after Apply Motion Model, such as ModelSamplingDiscrete, replaced it. Put that node before"),
    "no steps": (plan(replace(V2, start_percent=0.5, end_percent=0.6, has_no_steps=True)), "set to run from 50% to 60% of the sampling, but no step of this run lies there"),
    "no betas": (plan(V2, betas=None), "The noise schedule is none of AnimateDiff's, but"),
    "two schedules": (plan(XL_MODEL, HOTSHOT, frames=8, size=(1024, 1024)), "different noise schedules: 'mm_sdxl_v10_beta.ckpt' on scaled_linear 0.020, 'hsxl.ckpt' on scaled_linear"),
    "not distilled": (plan(LCM, steps=6, cfg=1.5), "Sampling uses 1000 timesteps, but .* was distilled on 100"),
    "LCM sampler": (plan(LCM, timesteps=100, steps=6, cfg=1.5, sampler="euler"), "made for the sampler lcm, the scheduler simple, 4 to 8 steps and cfg 1 to 2, but the settings are the sampler euler."),
    "LCM steps and cfg": (plan(LCM, timesteps=100, steps=20, cfg=7.5), "but the settings are 20 steps and cfg 7.5."),
    "Lightning steps": (plan(LIGHTNING, steps=8, cfg=1.0), "made for the sampler euler, the scheduler sgm_uniform, 4 steps and cfg 1, but the settings are 8 steps."),
    "small": (plan(XL_MODEL, size=(512, 512)), "512 x 512 pixels are too small for .*, which was trained at 1024 x 1024"),
    "LoRA": (plan(replace(V2, loras=(PlannedLora("pan.ckpt", notices=("4 of its keys are left out.",)),))), "Motion LoRA 'pan.ckpt' on 'mm_sd_v15_v2.ckpt': 4 of its keys are left out."),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_each_fault_is_warned_of(case):
    faulty, wrong = WRONG[case]
    found = [warning for warning in warnings_of(faulty) if re.search(wrong, warning)]
    assert len(found) == 1, warnings_of(faulty)
    assert found[0].endswith(".")


def test_faults_alone_are_warned_of_alone():
    """But for those that come in pairs: of windows too long the error and the length; of two XL models the frames."""
    several = {"window of too many frames", "two schedules"}
    assert [case for case, (faulty, _) in WRONG.items() if len(warnings_of(faulty)) != 1 and case not in several] == []


def test_calls_cost_and_prompts():
    long = plan(V2, frames=40, windows=windows(16, 40, steps=5), steps=5, cfg=7.5)
    assert long.windows_by_step[0] == (tuple(range(16)), tuple(range(12, 28)), tuple(range(24, 40)))
    assert long.relative_cost == pytest.approx(48 / 40)
    text = text_of(long)
    assert "UNet calls: 3 per step, 15 in all, each with 2 prompts" in text
    assert "Cost: 1.20 times that of one pass over all 40 frames" in text
    assert "Context windows: 3 of 16 frames\n   0-15, 12-27, 24-39" in text
    assert "UNet calls: 1 per step, 4 in all, each with 1 prompt;" in text_of(plan(V2, steps=4, cfg=1.0))
    assert "UNet calls: 1 per step, each" in text_of(plan(V2))


def test_windows_that_move_are_counted_step_by_step():
    by_step = (((0, 1, 2, 3), (4, 5, 0, 1)), ((0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 0, 1)))
    text = text_of(plan(V2, frames=6, windows=ContextWindows(4, by_step), steps=2))
    assert "UNet calls: 2 to 3 per step, 5 in all" in text
    assert "Context windows: 2 of 4 frames at the first step; they move from step to step\n   0-3, 4-5+0-1" in text
    assert f"Cost: {20 / 2 / 6:.2f} times" in text


def test_repeated_runs_are_counted():
    moving = ContextWindows(8, ((tuple(range(8)), tuple(range(8, 16))), (tuple(range(8)), tuple(range(4, 12)), tuple(range(8, 16)))))
    text = text_of(plan(V2, steps=2, windows=moving, noise=("FreeNoise", "FreeInit"), runs=(1, 1, 2)))
    assert "UNet calls: 2 to 3 per step, 9 in all in 3 runs of 1, 1, 2 steps, each with 2 prompts" in text
    assert "Noise: FreeNoise; FreeInit" in text
    assert "Noise: " not in text_of(plan(V2))


def test_everything_is_in_the_text():
    lora = PlannedLora("pan.ckpt", "0.5")
    model = replace(LCM, motion_scale="1.2", strength="0.8, varying over frames", end_percent=0.75, loras=(lora,))
    memory = Memory(2 * 2**30, 2**30, 2**29)
    text = text_of(plan(model, V2, memory=memory, timesteps=100), ["Look out."])
    for part in (
        "16 frames of 512 x 512 pixels",
        "1. AnimateLCM_sd15_t2v.ckpt (AnimateLCM)\n   trained on 16 frames, positions for 64; here it sees 16 at a time, at positions 0 to 15\n",
        "motion_scale 1.2; strength 0.8, varying over frames; from 0% to 75% of the sampling",
        "motion LoRA pan.ckpt: strength 0.5",
        "made for the sampler lcm, the scheduler simple, 4 to 8 steps and cfg 1 to 2",
        "2. mm_sd_v15_v2.ckpt (AnimateDiff v2)",
        "Noise schedule: linear, on 100 timesteps",
        "Context windows: none",
        "Estimated memory: 3.5 GB = 2.0 model + 1.0 motion models + 0.5 activations",
        "Warnings:\n- Look out.",
    ):
        assert part in text, part
    plain = text_of(plan(frames=1))
    assert plain.startswith("1 frame of 512 x 512 pixels\n\nNo motion model")
    assert "Noise schedule: none that motion models were trained on" in plain
    assert "Warnings" not in plain
    assert "Memory" not in plain


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_stretches_hold_a_windows_frames_in_its_order(window):
    pieces = stretches(tuple(window))
    assert [frame for first, last in pieces for frame in range(first, last + 1)] == window
    assert all(after != last + 1 for (_, last), (after, _) in pairwise(pieces))


def test_windows_in_words():
    assert window_in_words((0, 1, 2, 3)) == "0-3"
    assert window_in_words((14, 15, 0, 1)) == "14-15+0-1"
    assert window_in_words((0, 4, 8)) == "0+4+8"
