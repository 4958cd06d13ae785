"""Clips longer than a motion model sees at a time: windows that set themselves, values in them, views, several devices."""

from __future__ import annotations

import logging

import comfy.sampler_helpers
import comfy_extras.nodes_curve  # noqa: F401 -- loads comfy_api.latest, without which comfy_api.input can't be imported
import pytest
import torch
from comfy_api.input import LinearCurve
from pack.animation.noise_shuffle import FreeNoise
from pack.animation.retime import Retime
from pack.animation.windowing import Schedule, Windowing
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel
from pack.motion_models.motion_model import MotionModule
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.retiming import retime_motion
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.run_wrappers import FREENOISE_KEY, setting_of
from pack.nodes.windows import ContextWindowsNode, ViewWindowsNode

from .steering_world import encoding_of
from .test_windows import Waits
from .world import NEGATIVE, POSITIVE, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    """A motion model of each family."""
    folder = tmp_path_factory.mktemp("models")
    with torch.inference_mode():
        return {family: load_motion_model(motion_file(folder, family, **SMALL_MOTION)) for family in (Family.V3, Family.LONG)}


@pytest.fixture
def seen(monkeypatch) -> list[dict]:
    """What each motion module of the second down block got, and the frames of the window it was in."""
    record, original = [], MotionModule.forward

    def forward(self, hidden_states, inputs, **options):
        if self.place == ("down", 1):
            window = inputs.options.get("context_window")
            frames = None if window is None else tuple(window.index_list)
            record.append({"frames": frames, "batch": len(hidden_states), **vars(inputs), **options})
        return original(self, hidden_states, inputs, **options)

    monkeypatch.setattr(MotionModule, "forward", forward)
    return record


def run(model, frames, **options):
    return sample(model, frames, **{"steps": 1, "cfg": 1.0, **options})


def static(frames: int, length: int, overlap: int) -> list[tuple[int, ...]]:
    return Windowing(length, overlap).windows(frames)


# --- windows that set themselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "length"), [(Family.V3, 16), (Family.LONG, 32)], ids=["v3", "long"])
def test_more_frames_than_it_was_trained_on(model, motion, seen, caplog, monkeypatch, family, length):
    """They are what Context Windows would set, for this run alone, and the log says so once."""
    rooms, estimate = [], comfy.sampler_helpers.estimate_memory
    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", lambda m, shape, conds: rooms.append(shape[0]) or estimate(m, shape, conds))
    animated = animate(model, motion[family])
    with caplog.at_level(logging.INFO, logger="comfyui-animatediff-loom"):
        out = run(animated, length + 8, steps=2)
    assert [call["frames"] for call in seen] == 2 * static(length + 8, length, length // 4)
    said = [record.getMessage() for record in caplog.records if "windows" in record.getMessage()]
    assert len(said) == 1
    assert f"{length + 8} frames are more than the {length} that motion model '{family.name.lower()}_0.safetensors'" in said[0]
    assert f"windows of {length} frames that overlap by {length // 4}" in said[0]
    assert "context_handler" not in animated.model_options
    assert torch.equal(out, run(ContextWindowsNode.execute(animated, length, length // 4)[0], length + 8, steps=2))
    assert rooms == [length, length]
    seen.clear()
    run(animated, length)
    assert [call["frames"] for call in seen] == [None]


def test_several_motion_models_have_windows_of_the_shortest(model, motion, seen):
    run(animate(animate(model, motion[Family.LONG]), motion[Family.V3]), 40)
    assert [call["frames"] for call in seen[::2]] == static(40, 16, 4)


def test_windows_that_the_user_set_stay(model, motion, seen):
    animated = animate(model, motion[Family.V3])
    run(ContextWindowsNode.execute(animated, 32, 0)[0], 24)
    assert [(call["frames"], call["batch"]) for call in seen] == [(None, 24)]
    with pytest.raises(IncompatibleMotionModel, match="33 frames at a time are too many for motion model 'v3_0.safetensors', which has positions for 32. Lower context_length"):
        run(ContextWindowsNode.execute(animated, 40, 4)[0], 33)
    with pytest.raises(IncompatibleMotionModel, match="40 frames at a time are too many"):
        run(ContextWindowsNode.execute(animated, 40, 4)[0], 64)


def test_without_windows_all_frames_are_seen_at_once(model, motion, seen):
    animated = ContextWindowsNode.execute(animate(model, motion[Family.V3]), context_schedule="none", freenoise=True)[0]
    out = run(animated, 24)
    assert [(call["frames"], call["batch"]) for call in seen] == [(None, 24)]
    assert torch.equal(out, run(ContextWindowsNode.execute(animate(model, motion[Family.V3]), 32, 0)[0], 24))
    with pytest.raises(IncompatibleMotionModel, match="33 frames at a time .* A context_schedule of none has all frames at once: choose another one."):
        run(animated, 33)


@pytest.mark.parametrize(
    ("retime", "windows"),
    [
        (Retime(speed=0.5), [None]),
        (Retime(extend=True), [None]),
        (Retime(speed=0.9, offset=8.0), static(40, 16, 4)),
    ],
    ids=["slowed down", "extended", "past the last position"],
)
def test_retimed_frames_are_cut_only_if_they_must_be(model, motion, seen, retime, windows):
    run(animate(model, retime_motion(motion[Family.V3], retime)), 40)
    assert [call["frames"] for call in seen] == windows


def test_clips_are_cut_one_by_one(model, motion, caplog):
    animated = animate(model, motion[Family.V3])
    settings = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}

    def loom(frames, clips, seed):
        latent = {"samples": torch.zeros(frames, 4, 8, 8)}
        return sample_clips(animated, POSITIVE, NEGATIVE, latent, clips, SamplerSettings(seed, **settings))["samples"]

    with caplog.at_level(logging.INFO, logger="comfyui-animatediff-loom"):
        together = loom(48, 2, 11)
    assert sum("windows" in record.getMessage() for record in caplog.records) == 1
    for clip in (0, 1):
        assert torch.equal(together[24 * clip :][:24], loom(24, 1, 11 + clip))


# --- in a window ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [schedule for schedule in Schedule if schedule is not Schedule.NONE], ids=lambda schedule: schedule.value)
def test_motion_values_follow_the_windows(model, motion, seen, schedule):
    values = [0.5 + frame / 40 for frame in range(40)]
    masks = torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(2))
    animated = animate(model, motion[Family.V3], motion_scale_values=values, strength_values=masks)
    run(ContextWindowsNode.execute(animated, 16, 4, schedule.value, context_stride=2, closed_loop=True)[0], 40)
    windows = Windowing(16, 4, schedule, stride=2, closed_loop=True).windows(40)
    assert [call["frames"] for call in seen] == windows
    for call, window in zip(seen, windows, strict=True):
        assert call["motion_scale"].flatten().tolist() == pytest.approx([values[frame] for frame in window])
        expected = torch.nn.functional.interpolate(masks[None, list(window)], size=(4, 4), mode="bilinear")[0]
        torch.testing.assert_close(call["strength"], expected)


def test_positions_count_anew_in_each_window(model, motion, seen):
    run(ContextWindowsNode.execute(animate(model, motion[Family.V3]), 8, 2)[0], 20)
    assert len(seen) == 3
    for call in seen:
        torch.testing.assert_close(call["encoding"].double(), encoding_of(list(range(8)), 64), atol=2e-6, rtol=0)


def test_steps_are_told_without_waiting_in_each_window(model, motion):
    steered = animate(model, motion[Family.V3], strength_steps=LinearCurve([(0, 0.5), (1, 1)]))
    counts = []
    for frames in (9, 50):
        with Waits() as waits:
            run(ContextWindowsNode.execute(steered, 8, 2)[0], frames, steps=2)
        counts.append(waits.count)
    assert counts[0] == counts[1]


def test_freenoise_fits_the_windows(model):
    def of(**inputs):
        return setting_of(ContextWindowsNode.execute(model, 8, 2, **inputs)[0], FREENOISE_KEY)

    assert of() is None
    assert of(freenoise=True, context_stride=3) == FreeNoise(8, 2, False, 1)
    assert of(freenoise=True, context_schedule="looped_uniform", context_stride=3) == FreeNoise(8, 2, True, 3)


# --- views ----------------------------------------------------------------------------------------------------------------


def test_one_view_of_all_frames_changes_no_bit(model, motion):
    animated = animate(model, motion[Family.V3])
    for length in (12, 16):
        assert torch.equal(run(ViewWindowsNode.execute(animated, length, 4)[0], 12), run(animated, 12))


@pytest.mark.parametrize("closed_loop", [False, True])
def test_motion_modules_see_views(model, motion, seen, closed_loop):
    """The UNet sees all frames, and no windows set themselves; views of 8 have positions 0 to 7 each."""
    animated = animate(model, motion[Family.V3])
    out = run(ViewWindowsNode.execute(animated, 8, 4, closed_loop=closed_loop)[0], 20)
    assert out.isfinite().all()
    (call,) = seen
    assert (call["batch"], call["frames"]) == (20, None)
    torch.testing.assert_close(call["encoding"].double(), encoding_of(list(range(8)), 64), atol=2e-6, rtol=0)
    views = [view.frames for view in call["views"].windows]
    starts = range(0, 20, 4) if closed_loop else (0, 4, 8, 12)
    assert views == [tuple((start + k) % 20 for k in range(8)) for start in starts]


def test_views_inside_windows(model, motion, seen):
    both = ContextWindowsNode.execute(ViewWindowsNode.execute(animate(model, motion[Family.V3]), 8, 4)[0], 12, 4)[0]
    run(both, 20, cfg=2.0)
    assert [call["frames"] for call in seen] == static(20, 12, 4)
    assert [call["views"].num_frames for call in seen] == [12, 12]


def test_views_with_more_frames_than_positions(model, motion):
    animated = animate(model, motion[Family.V3])
    with pytest.raises(IncompatibleMotionModel, match="40 frames at a time are too many .* view_length of View Windows, to 32 or less"):
        run(ViewWindowsNode.execute(ContextWindowsNode.execute(animated, 64, 4)[0], 40, 4)[0], 50)
    with pytest.raises(ValueError, match="Windows of 8 frames can't overlap by 8"):
        ViewWindowsNode.execute(animated, 8, 8)
    assert ViewWindowsNode.validate_inputs(8, 8).startswith("Windows of 8 frames can't overlap by 8")
    assert ViewWindowsNode.validate_inputs(None, 8) is True


# --- several devices --------------------------------------------------------------------------------------------------------


def test_a_second_device_has_the_same_windows(motion):
    """ComfyUI's clone for another device has windows and views of its own accord, and gives the same frames."""
    model = make_model(**SMALL_UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**SMALL_UNET), ())
    for length in (8, 20):
        animated = ViewWindowsNode.execute(animate(model, motion[Family.V3]), 6, 2)[0]
        animated = ContextWindowsNode.execute(animated, length, 4, "looped_uniform")[0]
        clone = animated.deepclone_multigpu(torch.device("cpu"))
        assert clone.model is not animated.model
        assert torch.equal(run(clone, 20), run(animated, 20))


def test_prompts_of_a_window_are_work_for_two_devices(motion, seen):
    """As MultiGPU CFG Split does it: cond on one device, uncond on another, for each window."""
    model = make_model(**SMALL_UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**SMALL_UNET), ())
    animated = ContextWindowsNode.execute(animate(model, motion[Family.V3]), 8, 4)[0]
    expected = run(animated, 20, cfg=2.0)
    clone = animated.deepclone_multigpu(torch.device("cpu", 0))
    clone.is_multigpu_base_clone = True
    both = animated.clone()
    both.set_additional_models("multigpu", [clone])
    seen.clear()
    assert (run(both, 20, cfg=2.0) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert sorted(call["frames"] for call in seen) == sorted(2 * static(20, 8, 4))
    assert {call["batch"] for call in seen} == {8}
