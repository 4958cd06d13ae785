"""What is wrong with windows, noise, schedules and mergers is said at the node; the next good prompt is as good as before."""

from __future__ import annotations

import pytest
from launcher.client import Prompt
from launcher.errors import PromptRejectedError

from . import bad_files
from .test_bad_input import _the_next_good_prompt_is_as_before, failure, rejection  # noqa: F401
from .world import animation, changed, node


def with_model_node(class_type: str, **inputs) -> Prompt:
    """The animation with a node between the animated model and the sampler."""
    prompt = {**animation(), "added": node(class_type, model=["animated", 0], **inputs)}
    return changed(prompt, "sampled", model=["added", 0])


def windows(**inputs) -> Prompt:
    settings = {
        "context_length": 16, "context_overlap": 4, "context_schedule": "standard_static", "fuse_method": "pyramid",
        "context_stride": 1, "closed_loop": False, "freenoise": False,
    }  # fmt: skip
    return with_model_node("LoomContextWindows", **{**settings, **inputs})


def views(**inputs) -> Prompt:
    settings = {"view_length": 16, "view_overlap": 4, "fuse_method": "pyramid", "closed_loop": False}
    return with_model_node("LoomViewWindows", **{**settings, **inputs})


def apply_freenoise(**inputs) -> Prompt:
    settings = {"context_length": 16, "context_overlap": 4, "closed_loop": False, "context_stride": 1}
    return with_model_node("LoomApplyFreeNoise", **{**settings, **inputs})


def prompt_schedule(text: str, **inputs) -> Prompt:
    settings = {"frames": 4, "easing": "linear", "hold": 0.0, "interpolation": "linear", "closed_loop": False}
    schedule = node("LoomPromptSchedule", clip=["checkpoint", 1], text=text, **{**settings, **inputs})
    return changed({**animation(), "schedule": schedule}, "sampled", positive=["schedule", 0])


def value_schedule(text: str, frames: int = 4) -> Prompt:
    schedule = node("LoomValueSchedule", text=text, frames=frames, easing="linear", hold=0.0, closed_loop=False)
    return changed({**animation(), "schedule": schedule}, "animated", strength_values=["schedule", 0])


REJECTED = {
    "windows that get nowhere": (windows(context_length=8, context_overlap=8), "added", "can't overlap by 8"),
    "views that get nowhere": (views(view_length=4, view_overlap=6), "added", "can't overlap by 6"),
    "FreeNoise of no windows": (apply_freenoise(context_length=4, context_overlap=4), "added", "does not fit windows of 4"),
    "two prompts for one frame": (prompt_schedule("0: a\n0: b"), "schedule", "Line 2"),
    "a megabyte of values": (value_schedule("1," * 500_000), "schedule", "The text has 1000000 characters. Make it 100000 or fewer."),
    "no prompt": (prompt_schedule(" "), "schedule", "empty"),
    "code in a value": (value_schedule("0: (__import__('os').system('true'))"), "schedule", "Line 1"),
    "unknown name": (value_schedule("0: (wobble(t))"), "schedule", "wobble"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_is_wrong_is_said_before_it_runs(client, case):
    prompt, node_id, wrong = REJECTED[case]
    error = rejection(client, prompt, node_id)
    assert error["type"] == "custom_validation_failed"
    assert wrong in error["details"]


_PACE = {"hold": 0.0, "closed_loop": False}
FURTHER = {"LoomPromptSchedule": {**_PACE, "interpolation": "linear"}, "LoomValueSchedule": _PACE}
SCHEDULES = {
    "LoomPromptSchedule": ("0: a\n0: b", {"clip": ["checkpoint", 1], "frames": 4}),
    "LoomValueSchedule": ("0: 1\n0: 2", {"frames": 4}),
    "LoomFrameValues": ("0: 1\n0: 2", {"frames": 4}),
    "LoomStepCurve": ("0%: 1\n0%: 2", {}),
}


@pytest.mark.parametrize("class_type", SCHEDULES)
def test_one_mistake_in_a_schedule_is_one_error(client, class_type):
    text, inputs = SCHEDULES[class_type]
    schedule = {"schedule": node(class_type, text=text, easing="linear", **inputs, **FURTHER.get(class_type, {}))}
    shown = {"schedule": schedule["schedule"], "shown": node("PreviewAny", source=["schedule", 0])}
    with pytest.raises(PromptRejectedError) as caught:
        client.queue({**animation(), **shown})
    (error,) = caught.value.node_errors["schedule"]["errors"]
    assert error["extra_info"]["input_name"] == "text"
    assert error["details"].startswith("text - Line 2, character 1: ")


@pytest.mark.parametrize("prompt", [value_schedule("0: t", 10**10), prompt_schedule("0: a", frames=10**10)])
def test_a_schedule_for_years(client, prompt):
    assert rejection(client, prompt, "schedule")["type"] == "value_bigger_than_max"


def test_motion_models_that_cannot_be_merged(client, models, motion_folder):
    bad_files.animatediff_sdxl(motion_folder / "xl.safetensors", models)
    prompt = {
        **animation(),
        "other": node("LoomLoadMotionModel", motion_model_name="xl.safetensors"),
        "merged": node("LoomMergeMotionModels", motion_model_1=["motion_model", 0], motion_model_2=["other", 0], ratio=0.5),
    }
    error = failure(client, changed(prompt, "animated", motion_model=["merged", 0]))
    assert (error.node_id, error.node_type) == ("merged", "LoomMergeMotionModels")
    assert "xl.safetensors" in error.exception_message


VIDEO = {"video": node("EmptyHunyuanLatentVideo", width=64, height=64, length=17, batch_size=1)}


def test_a_plan_for_the_latent_of_a_video_model(client):
    plan = node("LoomPlan", model=["animated", 0], latent=["video", 0], steps=2, cfg=7.5)
    error = failure(client, {**animation(), **VIDEO, "plan": plan})
    assert (error.node_id, error.node_type) == ("plan", "LoomPlan")
    assert "so it is not a batch of frames. Connect Empty Animation Latent" in error.exception_message


def test_shared_noise_that_is_out_of_range(client):
    error = rejection(client, with_model_node("LoomSharedNoise", cutoff=1.5), "added")
    assert error["type"] == "value_bigger_than_max"


def test_freeinit_of_a_run_that_does_not_end(client):
    """It goes on from the finished frames, so they must be finished."""
    settings = {"iterations": 2, "filter": "butterworth", "spatial_cutoff": 0.25, "temporal_cutoff": 0.25, "order": 4}
    prompt = with_model_node("LoomFreeInit", **settings, coarse_to_fine=False)
    prompt["sampled"] = node(
        "KSamplerAdvanced", model=["added", 0], positive=["positive", 0], negative=["negative", 0], latent_image=["frames", 0],
        add_noise="enable", noise_seed=5, steps=4, cfg=2.0, sampler_name="euler", scheduler="normal", start_at_step=0,
        end_at_step=2, return_with_leftover_noise="enable",
    )  # fmt: skip
    error = failure(client, prompt)
    assert (error.node_id, error.node_type) == ("sampled", "KSamplerAdvanced")
    assert "FreeInit" in error.exception_message
