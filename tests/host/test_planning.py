"""Plans of real models, and the warnings in the log of real runs."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy.samplers
import comfy_extras.nodes_model_advanced
import pytest
import torch
from pack.motion_models.beta_schedules import LINEAR, SCALED_LINEAR, SCALED_LINEAR_XL
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.charts.plan_plot import draw_plan
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import load_motion_lora
from pack.nodes.host.motion.model_sampling import AUTO, KEEP, beta_schedule_of, set_beta_schedule
from pack.nodes.host.motion.retiming import Retime, retime_motion
from pack.nodes.host.motion.steered import BlockValues, Steered
from pack.nodes.host.runs import clip_sampling as sampling
from pack.nodes.host.runs import run_plan as planning
from pack.nodes.host.runs.freeinit_runs import set_freeinit
from pack.nodes.host.runs.starting_noise import set_freenoise, set_shared_noise
from pack.nodes.planning import AnimationPlanNode
from pack.nodes.windows import ViewWindowsNode
from safetensors.torch import save_file

from .steering_world import windowed
from .world import (
    NEGATIVE,
    POSITIVE,
    SMALLEST_MOTION,
    SMALLEST_UNET,
    animate,
    cond,
    make_base_for,
    make_model,
    motion_file,
    same_state,
    sample,
    state_of,
)


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALLEST_MOTION))


@pytest.fixture(scope="module")
def lcm(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.LCM, **SMALLEST_MOTION))


def latent(frames: int = 16, size: int = 8) -> dict:
    return {"samples": torch.zeros(frames, 4, size, size)}


def apply(model, motion, beta_schedule=AUTO, **inputs):
    return ApplyMotionModelNode.execute(model, motion, beta_schedule, **inputs)[0]


def plan_of(model, frames: int = 16, steps: int = 3, cfg: float = 7.5):
    return planning.plan_animation(model, latent(frames), steps, cfg)


# --- facts --------------------------------------------------------------------------------------------------------------


def test_every_noise_schedule_is_told_from_the_models_sigmas(model):
    assert beta_schedule_of(model.get_model_object("model_sampling")) == SCALED_LINEAR
    for name in (LINEAR, SCALED_LINEAR, SCALED_LINEAR_XL):
        clone = model.clone()
        set_beta_schedule(clone, name)
        assert beta_schedule_of(clone.get_model_object("model_sampling")) == name
        for sampling_name, zsnr in (("eps", True), ("v_prediction", False), ("lcm", False)):
            (advanced,) = comfy_extras.nodes_model_advanced.ModelSamplingDiscrete().patch(clone, sampling_name, zsnr)
            set_beta_schedule(advanced, name)
            assert beta_schedule_of(advanced.get_model_object("model_sampling")) == name, sampling_name


def test_a_noise_schedule_that_is_none_of_ours(model):
    (continuous,) = comfy_extras.nodes_model_advanced.ModelSamplingContinuousEDM().patch(model, "eps", 120.0, 0.002)
    assert beta_schedule_of(continuous.get_model_object("model_sampling")) is None
    other = make_model().get_model_object("model_sampling")
    other.set_sigmas(other.sigmas * 1.01)
    assert beta_schedule_of(other) is None


@pytest.mark.parametrize("family", [family for family in Family if not family.takes_image], ids=lambda family: family.name)
def test_each_family_with_auto_is_on_its_own_schedule(tmp_path, family):
    motion = load_motion_model(motion_file(tmp_path, family))
    trained = motion.model.config.trained_frames
    plan = planning.plan_animation(apply(make_base_for(family), motion), latent(trained, 128), 6, 1.5)
    (planned,) = plan.models
    assert (planned.family, planned.betas, planned.trained_frames) == (family.title, plan.betas, trained)
    assert planning.warnings_of(plan) == []


def test_models_settings_loras_and_positions(model, v3, tmp_path):
    first = retime_motion(v3, Retime(speed=0.5, offset=2.0))
    second = load_motion_model(motion_file(tmp_path, Family.V2, seed=3, **SMALLEST_MOTION))
    animated = animate(model, first, motion_scale=1.25, end_percent=0.5)
    animated = animate(animated, second, strength=0.5, strength_values=[1.0] * 16, strength_blocks=BlockValues())
    one, two = plan_of(animated).models
    assert (one.file_name, one.motion_scale, one.strength) == ("v3_0.safetensors", "1.25", "1")
    assert (one.positions, one.start_percent, one.end_percent) == ((2.0, 9.5), 0.0, 0.5)
    assert (two.file_name, two.family, two.strength) == ("v2_3.safetensors", "AnimateDiff v2", "0.5, varying over frames and blocks")
    assert two.positions == (0.0, 15.0)


def lora_file(folder, motion, spare: bool = False) -> str:
    """A motion LoRA in AnimateDiff's layout for one layer, and for one that no motion model has."""
    stem = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
    places = [stem, stem.replace("down_blocks.0", "mid_block")] if spare else [stem]
    width = motion.model.config.block_channels
    tensors = {}
    for place, channels in zip(places, (width[0], width[-1]), strict=False):
        tensors |= {f"{place}.down.weight": torch.ones(2, channels), f"{place}.up.weight": torch.ones(channels, 2)}
    path = folder / "pan.safetensors"
    save_file(tensors, path)
    return str(path)


def test_a_v2_lora_on_a_v3_motion_model_is_warned_of(model, v3, tmp_path):
    for strength, words in ((Steered(0.5), "0.5"), (Steered.of("strength", 0.5, [1.0] * 16), "0.5, varying over frames")):
        with_lora = load_motion_lora(v3, lora_file(tmp_path, v3, spare=True), strength)
        plan = plan_of(apply(model, with_lora).clone())
        (lora,) = plan.models[0].loras
        assert (lora.file_name, lora.strength) == ("pan.safetensors", words)
        (warning,) = planning.warnings_of(plan)
        assert warning.startswith("Motion LoRA 'pan.safetensors' on 'v3_0.safetensors': made for a motion model with a mid block (v2)")
    assert plan_of(apply(model, v3)).models[0].loras == ()


# --- windows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform", "batched"])
def test_the_windows_are_those_that_run(model, v3, schedule):
    """Recorded from the calls of a real run, step by step."""
    steps, frames = 3, 20
    animated = windowed(animate(model, v3), context_schedule=schedule)
    plan = plan_of(animated, frames, steps)
    ran = []

    def note(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        ran.append(tuple(transformer_options["context_window"].index_list))
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    animated.add_wrapper_with_key("apply_model", "test", note)
    sample(animated, frames=frames, steps=steps, cfg=1.0)
    assert [window for windows in plan.windows.by_step for window in windows] == ran
    assert len(plan.windows.by_step) == steps
    assert plan.relative_cost == pytest.approx(sum(map(len, ran)) / steps / frames)


@pytest.mark.parametrize("coarse_to_fine", [False, True])
def test_calls_of_repeated_runs_are_those_that_run(model, v3, coarse_to_fine):
    animated = windowed(animate(model, v3), context_schedule="looped_uniform", context_stride=2)
    set_freeinit(animated, 3, "gaussian", 0.25, 0.25, 4, coarse_to_fine)
    set_freenoise(animated, 8, 4, closed_loop=True)
    set_shared_noise(animated, 0.1)
    text = planning.describe_plan(plan_of(animated, 20, 4, 1.0))
    ran = []

    def note(executor, *args, **kwargs):
        ran.append(None)
        return executor(*args, **kwargs)

    animated.add_wrapper_with_key("apply_model", "test", note)
    sample(animated, frames=20, steps=4, cfg=1.0)
    steps = "1, 2, 4" if coarse_to_fine else "4, 4, 4"
    assert f"{len(ran)} in all in 3 runs of {steps} steps" in text
    assert (
        "Noise: FreeNoise for windows of 8 frames; one layout for all frames, up to 0.1 of the highest frequency; gaussian FreeInit\n" in text
    )


def test_looking_at_windows_changes_nothing(model, v3):
    animated = windowed(animate(model, v3), context_schedule="looped_uniform")
    handler, before = animated.model_options["context_handler"], state_of(animated)
    attributes, options = dict(vars(handler)), set(animated.model_options["transformer_options"])
    first = plan_of(animated, 20)
    assert plan_of(animated, 20) == first
    assert vars(handler) == attributes
    assert set(animated.model_options["transformer_options"]) == options
    assert same_state(animated, before)


def test_windows_that_are_not_in_use(model, v3):
    assert plan_of(windowed(animate(model, v3)), 8).windows is None
    assert plan_of(windowed(animate(model, v3), dim=2), 20).windows is None
    assert plan_of(windowed(animate(model, v3), causal_window_fix=True), 20).frames_at_once == 9


def test_windows_that_nobody_asked_for_are_planned_too(model, v3):
    plan = plan_of(animate(model, v3), 40)
    assert plan.windows.by_step[0] == (tuple(range(16)), tuple(range(12, 28)), tuple(range(24, 40)))
    assert "set automatically because there are more frames than in training" in planning.describe_plan(plan)
    assert "context_handler" not in animate(model, v3).model_options
    assert not plan_of(windowed(animate(model, v3)), 20).windows.is_automatic


def test_views_and_positions_that_go_on(model, v3):
    plan = plan_of(ViewWindowsNode.execute(animate(model, v3), 8, 4)[0], 20)
    assert (plan.frames_at_once, plan.windows) == (8, None)
    slow = animate(model, retime_motion(v3, Retime(speed=0.5, across_windows=True)))
    assert plan_of(windowed(slow), 20).models[0].positions == (0.0, 9.5)


# --- memory -------------------------------------------------------------------------------------------------------------


def test_memory_is_the_models_the_motion_models_and_what_comfyui_sets_aside(model, v3, tmp_path):
    plain, animated = plan_of(model).memory, plan_of(apply(model, v3)).memory
    assert plain.motion_models == 0
    assert animated.model == plain.model == sum(t.nbytes for t in model.model.state_dict().values())
    assert animated.motion_models == sum(t.nbytes for t in v3.model.state_dict().values())
    assert animated.call == pytest.approx(model.model.memory_required([32, 4, 8, 8]), abs=1)
    assert plan_of(model, cfg=1.0).memory.call == pytest.approx(model.model.memory_required([16, 4, 8, 8]), abs=1)
    assert plan_of(windowed(model), 64).memory.call == plan_of(model, 8).memory.call
    beside = load_motion_lora(v3, lora_file(tmp_path, v3), Steered.of("strength", 1.0, [1.0] * 16))
    assert plan_of(apply(model, beside)).memory.motion_models > animated.motion_models


# --- the node -----------------------------------------------------------------------------------------------------------


def test_the_node_shows_what_it_gives(model, v3):
    result = AnimationPlanNode.execute(apply(model, v3), latent())
    text, picture = result.args
    assert text.startswith("16 frames of 64 x 64 pixels\n\nMotion models, in the order in which they run:\n1. v3_0.safetensors (AnimateDiff v3)")
    assert f"Noise schedule: {LINEAR}\n" in text
    assert "UNet calls: 1 per step, 20 in all" in text
    assert "Warnings" not in text
    shown = result.ui if isinstance(result.ui, dict) else result.ui.as_dict()
    assert shown["text"] == (text,)
    assert len(shown["images"]) == 1
    assert picture.shape == (1, 360, 640, 3)
    assert "Warnings:\n- 8 frames are few" in AnimationPlanNode.execute(apply(model, v3), latent(8))[0]


def test_a_model_without_motion(model):
    assert "No motion model" in AnimationPlanNode.execute(model, latent())[0]


@pytest.mark.parametrize("samples", [torch.zeros(1, 16, 5, 8, 8), torch.zeros(1, 64, 100)])
def test_latents_of_other_kinds(model, v3, samples):
    with pytest.raises(InvalidInput, match=r"The latent has shape \(1, .* so it is not a batch of frames"):
        AnimationPlanNode.execute(apply(model, v3), {"samples": samples})


def test_the_picture_shows_windows_and_parts_of_the_run(model, v3, lcm):
    both = windowed(animate(animate(model, v3, end_percent=0.5), lcm, start_percent=0.25))
    plain, cut = draw_plan(plan_of(animate(model, v3), 40)), draw_plan(plan_of(both, 40))
    assert torch.isfinite(cut).all()
    assert 0 <= cut.min() <= cut.max() <= 1

    def bars(picture, colour) -> torch.Tensor:
        wanted = torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return (picture[0] - wanted).abs().amax(-1) < 0.01

    blue, orange = "#5aa9f0", "#f0a04b"
    # Nine windows of eight frames that overlap by half: most frames are in two, those at the ends in one.
    assert bars(cut, blue).any(dim=1).sum() > bars(plain, blue).any(dim=1).sum()
    columns = bars(cut, blue).sum(dim=0)
    assert columns[30:100].median() < columns[150:450].median()
    runs = bars(cut, orange)
    rows = [row for row in runs[220:] if row.any()]
    starts = {int(row.nonzero()[0]) for row in rows}
    assert len(starts) == 2
    assert draw_plan(plan_of(model, 1)).shape == cut.shape
    assert draw_plan(plan_of(windowed(animate(model, v3)), 2000, 1)).shape == cut.shape


# --- in the log ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.WARNING, logger="comfyui-animatediff-loom")

    def messages() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        caplog.clear()
        return found

    return messages


def test_warnings_of_a_run_come_once(model, v3, logged):
    sample(apply(model, v3, KEEP), frames=8, steps=4)
    few, betas = logged()
    assert few.startswith("8 frames are few for 'v3_0.safetensors'")
    assert betas.startswith(f"The noise schedule is {SCALED_LINEAR}, but 'v3_0.safetensors' was trained on {LINEAR}")
    sample(apply(model, v3), frames=16, steps=4)
    assert logged() == []


def test_repeats_by_freeinit_do_not_say_it_again(model, v3, logged):
    animated = apply(model, v3, KEEP)
    set_freeinit(animated, 3, "butterworth", 0.25, 0.25, 4, coarse_to_fine=False)
    for _ in range(2):  # and a second run says it as the first did
        sample(animated, frames=8, steps=1)
        assert len(logged()) == 2


def test_prompts_for_another_number_of_frames(model, v3, logged):
    per_frame = cond(1, batch=12)
    sample(apply(model, v3), frames=16, steps=2, positive=per_frame)
    (wrong,) = logged()
    assert wrong.startswith("A prompt is for 12 frames, but the clip has 16: it starts over.")
    sample(apply(model, v3), frames=12, steps=2, positive=per_frame)
    assert logged() == []


def test_prompts_of_all_clips_are_not_cut_off(model, v3, logged):
    settings = sampling.SamplerSettings(1, 1, 1.0, "euler", "normal")
    sampling.sample_clips(apply(model, v3), cond(1, batch=24), NEGATIVE, latent(24), 2, settings)
    assert logged() == []
    sampling.sample_clips(apply(model, v3), cond(1, batch=18), NEGATIVE, latent(24), 2, settings)
    assert [message[:42] for message in logged()] == ["A prompt is for 18 frames, but the clip ha"]


def discrete(model, *inputs):
    return comfy_extras.nodes_model_advanced.ModelSamplingDiscrete().patch(model, *inputs)[0]


@pytest.mark.parametrize("inputs", [("lcm", False), ("v_prediction", True), ("eps", True)])
def test_a_node_after_apply_that_replaces_the_schedule_is_named(model, v3, lcm, logged, inputs):
    sample(discrete(apply(model, v3), *inputs), frames=12, steps=1)
    (wrong,) = logged()
    assert "a node after Apply Motion Model, such as ModelSamplingDiscrete, replaced it. Put that node before" in wrong
    before = apply(discrete(model, *inputs), v3)
    sample(before, frames=12, steps=1)
    assert logged() == []
    # To sample AnimateLCM as other packs do is meant.
    sample(discrete(apply(model, lcm), "lcm", False), frames=12, steps=4, cfg=1.0, sampler_name="lcm")
    assert logged() == []


@pytest.mark.parametrize(
    ("percents", "options"),
    [
        ((0.0, 0.5), {"denoise": 0.3}), ((0.0, 0.0), {}), ((1.0, 1.0), {}), ((0.8, 1.0), {"start_step": 0, "last_step": 2}),
        ((0.3, 0.31), {}),
    ],
)  # fmt: skip
def test_a_motion_model_none_of_whose_steps_come(model, v3, logged, percents, options):
    """It runs as if it were not there, and that is said once."""
    start, end = percents
    options = {"frames": 12, "steps": 4, **options}
    out = sample(apply(model, v3, start_percent=start, end_percent=end), **options)
    (wrong,) = logged()
    assert f"is set to run from {start:.0%} to {end:.0%} of the sampling, but no step of this run lies there" in wrong
    alone = sample(apply(model, v3, strength=0.0), **options)
    assert torch.equal(out, alone)
    sample(apply(model, v3, end_percent=0.9), **options)
    logged()
    sample(apply(model, v3), **options)
    assert logged() == []


def test_a_plan_tells_of_ranges_without_steps(model, v3):
    assert "no step of this run lies there" in planning.describe_plan(plan_of(apply(model, v3, start_percent=1.0)))
    assert "no step of this run lies there" not in planning.describe_plan(plan_of(apply(model, v3, start_percent=0.9)))


def test_a_motion_model_trained_on_more_frames(model, tmp_path, logged):
    """The file says on how many; windows that nobody set and the plan go by it."""
    motion = load_motion_model(motion_file(tmp_path, Family.V3, trained_frames=32, **SMALLEST_MOTION))
    animated = apply(model, motion)
    sample(animated, frames=32, steps=1)
    assert logged() == []
    assert plan_of(animated, 32).windows is None
    longer = plan_of(animated, 40)
    assert (longer.windows.length, longer.windows.is_automatic) == (32, True)
    assert "trained on 32 frames" in planning.describe_plan(longer)
    sample(animated, frames=16, steps=1)
    assert [message[:18] for message in logged()] == []


def test_the_same_warnings_as_in_the_plan(model, v3, logged):
    animated = windowed(apply(model, v3), causal_window_fix=True)
    sample(animated, frames=20, steps=4, cfg=2.0)
    assert logged() == planning.warnings_of(plan_of(animated, 20, 4, 2.0)) != []


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"sampler_name": "lcm", "scheduler": "simple", "steps": 6, "cfg": 1.5}, None),
        ({"sampler_name": "euler", "scheduler": "simple", "steps": 6, "cfg": 1.5}, "but the settings are the sampler euler."),
        ({"sampler_name": "lcm", "scheduler": "simple", "steps": 12, "cfg": 7.5}, "but the settings are 12 steps and cfg 7.5."),
        # A part of a run says nothing about the steps of the whole.
        ({"sampler_name": "lcm", "scheduler": "simple", "steps": 4, "cfg": 1.5, "denoise": 0.5}, None),
        ({"sampler_name": "lcm", "scheduler": "simple", "steps": 6, "cfg": 1.5, "start_step": 0, "last_step": 2}, None),
    ],
)
def test_animatelcm_without_its_settings(model, lcm, logged, options, wrong):
    sample(apply(model, lcm), frames=16, **options)
    assert [wrong in message for message in logged()] == ([] if wrong is None else [True])


def test_lightning_is_told_by_its_name(model, tmp_path, logged):
    path = Path(motion_file(tmp_path, Family.V2, **SMALLEST_MOTION))
    motion = load_motion_model(str(path.rename(tmp_path / "animatediff_lightning_4step_comfyui.safetensors")))
    sample(apply(model, motion), frames=16, steps=4, cfg=1.0, scheduler="sgm_uniform")
    assert logged() == []
    sample(apply(model, motion), frames=16, steps=5, cfg=7.0, scheduler="sgm_uniform")
    (warning,) = logged()
    assert warning.endswith("4 steps and cfg 1, but the settings are 5 steps and cfg 7.")


def test_clips_of_one_batch_are_counted_each_for_itself(model, lcm, logged):
    """And the sampler keeps its name, though each clip has its own noise."""
    settings = sampling.SamplerSettings(1, 6, 1.5, "lcm", "simple")
    sampling.sample_clips(apply(model, lcm), POSITIVE, NEGATIVE, latent(24), 2, settings)
    assert [message[:17] for message in logged()] == []
    euler = sampling.SamplerSettings(1, 6, 1.5, "euler_ancestral", "simple")
    sampling.sample_clips(apply(model, lcm), POSITIVE, NEGATIVE, latent(8), 2, euler)
    few, sampler = logged()
    assert few.startswith("4 frames are few")
    assert sampler.endswith("but the settings are the sampler euler_ancestral.")
    alone = sampling.SamplerSettings(1, 6, 1.5, "euler", "simple")  # windows: one clip after the other
    sampling.sample_clips(windowed(apply(model, lcm)), POSITIVE, NEGATIVE, latent(8), 2, alone)
    assert len(logged()) == 2


def test_another_packs_guider_and_sampler(model, lcm, logged):
    """Of whose guidance and method nothing is known."""

    class Guider(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            return super().predict_noise(x, timestep, model_options or {}, seed)

    def own_way(model, noise, sigmas, extra_args=None, callback=None, disable=None):
        return noise

    guider = Guider(apply(model, lcm))
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(9.0)
    noise = torch.zeros(16, 4, 8, 8)
    guider.sample(noise, noise, comfy.samplers.KSAMPLER(own_way), torch.tensor([14.0, 8.0, 3.0, 1.0, 0.0]), disable_pbar=True)
    assert logged() == []
