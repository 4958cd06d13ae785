"""Packs that look for a call's frames where AnimateDiff-Evolved says them, and AnimateDiff-Evolved itself."""

from __future__ import annotations

from contextlib import contextmanager

import comfy.context_windows as core
import comfy.controlnet
import comfy.samplers
import latent_preview
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from pack.animation.windowing import Windowing
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.windows import ContextWindowsNode, ViewWindowsNode

from .world import NEGATIVE, POSITIVE, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample

FRAMES, LENGTH, OVERLAP, SIZE = 12, 6, 2, 8


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def motion_model(tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), **SMALL_MOTION))


def windowed(model, length=LENGTH, **options):
    return ContextWindowsNode.execute(model, length, OVERLAP, **options)[0]


def core_windowed(model, **options):
    model = model.clone()
    model.model_options["context_handler"] = core.IndexListContextHandler(
        core.get_matching_context_schedule("standard_static"), core.get_matching_fuse_method("pyramid"),
        context_length=LENGTH, context_overlap=OVERLAP, dim=0, **options,
    )  # fmt: skip
    return model


def clips_of(model, clips=2, positive=POSITIVE, negative=NEGATIVE, seed=3):
    latent = {"samples": torch.zeros(clips * FRAMES, 4, SIZE, SIZE)}
    return sample_clips(model, positive, negative, latent, clips, SamplerSettings(seed, 2, 2.0, "euler", "normal"))["samples"]


def same(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


# --- readers ------------------------------------------------------------------------------------------------------------


def fitted(values: torch.Tensor, size: int) -> torch.Tensor:
    """As IPAdapter_plus and Advanced-ControlNet fit what they have to a number of frames: the last one goes on."""
    return values[:size] if len(values) >= size else torch.cat([values, values[-1:].expand(size - len(values), *values.shape[1:])])


ALL_FRAMES = {"sub_idxs": None}


def of_frames(values: torch.Tensor, frames: dict, batch: int) -> torch.Tensor:
    if frames["sub_idxs"] is None:
        return fitted(values, batch)
    return fitted(values, frames["full_length"])[frames["sub_idxs"]]


def with_images(model, number):
    """As IPAdapter_plus does with a batch of images: something of each frame's own is added to its cross-attention."""
    images = torch.randn(number, 1, 1, generator=torch.Generator().manual_seed(5)) * 3

    def patch(q, k, v, options):
        chunks = len(options["cond_or_uncond"])
        return q, k, v + of_frames(images, options.get("ad_params", ALL_FRAMES), len(v) // chunks).repeat(chunks, 1, 1)

    model = model.clone()
    model.set_model_attn2_patch(patch)
    return model


class Cutting(comfy.controlnet.ControlNet):
    """As Advanced-ControlNet's do: takes its hints by the call's frames, and strengths by the numbers of frames."""

    sub_idxs = None

    def __init__(self, hints, keyframes):
        super().__init__(AddsHints(), load_device=torch.device("cpu"))
        self.keyframes = keyframes
        self.set_cond_hint(hints, 1.0, (0.0, 1.0))

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        frames, batch = transformer_options.get("ad_params", ALL_FRAMES), len(x_noisy) // batched_number
        place = {number: i for i, number in enumerate(frames["sub_idxs"] or range(batch))}
        strengths = torch.zeros(batch)
        for number, strength in self.keyframes.items():
            if number in place:
                strengths[place[number]] = strength
        hints = of_frames(self.cond_hint_original, frames, batch) * strengths.view(-1, 1, 1, 1)
        previous = self.previous_controlnet and self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        return self.control_merge(self.control_model(x_noisy, hints.repeat(batched_number, 1, 1, 1)), previous, x_noisy.dtype)

    def copy(self):
        return self


class AddsHints(torch.nn.Module):
    """A control network that adds the mean of each frame's hint to the middle of the UNet."""

    dtype = torch.float32

    def forward(self, x, hint, *rest, **extra):
        return {"input": [], "middle": [hint.mean((1, 2, 3)).view(-1, 1, 1, 1)], "output": []}


def hints(number, seed):
    return torch.randn(number, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 20


def controls(chain: str, number=FRAMES):
    """Prompts with ControlNets: for each letter, first to last, c is one that cuts for itself, o one of ComfyUI's own."""
    control = None
    for seed, letter in enumerate(chain):
        if letter == "c":
            new = Cutting(hints(number, seed), {0: 0.5, 4: 1.0, 9: -1.0, 11: 2.0})
        else:
            new = comfy.controlnet.ControlNet(AddsHints(), load_device=torch.device("cpu"))
            new.set_cond_hint(hints(FRAMES, seed), 1.0, (0.0, 1.0))
        new.set_previous_controlnet(control)
        control = new
    return {name: [[embedding, {**rest, "control": control}]] for name, ((embedding, rest),) in (("positive", POSITIVE), ("negative", NEGATIVE))}


# --- what is said -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1.0, 2.0])
@pytest.mark.parametrize("way", ["frames", "views", "clips", "windows", "only windows", "ComfyUI's windows"])
def test_each_call_says_which_frames_it_holds(model, motion_model, way, cfg):
    found, whole = [], list(range(FRAMES))

    def record(executor, x, *args, **kwargs):
        options = args[4]
        found.append(options["ad_params"])
        assert len(x) == len(options["cond_or_uncond"]) * len(options["ad_params"]["sub_idxs"] or whole)
        return executor(x, *args, **kwargs)

    animated = animate(model, motion_model)
    source = {
        "views": lambda: ViewWindowsNode.execute(animated, LENGTH, OVERLAP)[0],
        "windows": lambda: windowed(animated),
        "only windows": lambda: windowed(model),
        "ComfyUI's windows": lambda: core_windowed(animated, causal_window_fix=True),
    }.get(way, lambda: animated)().clone()
    source.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", record)
    if way == "clips":
        clips_of(source)
        expected = [{"sub_idxs": whole * 2, "full_length": FRAMES, "context_length": FRAMES}]
    else:
        sample(source, FRAMES, steps=1, cfg=cfg)
        windows = [[*window] for window in Windowing(LENGTH, OVERLAP).windows(FRAMES)] if "windows" in way else [None]
        if "ComfyUI" in way:  # which puts the frame before a window in front of it
            windows = [[window[0] - 1, *window] if window[0] else window for window in windows]
        expected = [
            {"sub_idxs": window, "full_length": FRAMES, "context_length": len(window or whole)} for window in windows
        ]
    assert found[: len(expected)] == expected
    assert "ad_params" not in source.model_options["transformer_options"]


# --- readers get what they would get without windows --------------------------------------------------------------------

WINDOWS = {
    "windows": lambda model, motion_model: windowed(animate(model, motion_model, strength=0.0)),
    "windows, a loop": lambda model, motion_model: windowed(model, context_schedule="looped_uniform", closed_loop=True),
    "ComfyUI's windows": lambda model, motion_model: core_windowed(animate(model, motion_model, strength=0.0)),
}


@pytest.mark.parametrize("number", [5, FRAMES])
@pytest.mark.parametrize("windows", WINDOWS.values(), ids=list(WINDOWS))
def test_images_of_frames(model, motion_model, windows, number):
    expected = sample(with_images(model, number), FRAMES, steps=1)
    same(sample(with_images(windows(model, motion_model), number), FRAMES, steps=1), expected)
    same(sample(windows(with_images(model, number), motion_model), FRAMES, steps=1), expected)


@pytest.mark.parametrize(("chain", "number"), [("c", 5), ("oc", FRAMES), ("co", 5)])
def test_controlnets_that_cut_for_themselves_and_comfyuis_own(model, motion_model, chain, number):
    expected = sample(animate(model, motion_model, strength=0.0), FRAMES, **controls(chain, number))
    same(sample(WINDOWS["windows"](model, motion_model), FRAMES, **controls(chain, number)), expected)


def test_clips_have_the_images_and_hints_that_each_would_have_alone(model, motion_model):
    source = with_images(animate(model, motion_model), FRAMES)
    for prompts in ({}, controls("coc")):
        for way in (source, windowed(source)):
            alone = [clips_of(way, 1, seed=seed, **prompts) for seed in (3, 4)]
            same(clips_of(way, 2, **prompts), torch.cat(alone))


# --- previews -----------------------------------------------------------------------------------------------------------


class Plays(latent_preview.LatentPreviewer):
    """As VideoHelperSuite's: plays the frames of a step itself, and gives the sampler no picture."""

    def __init__(self):
        self.steps = []

    def decode_latent_to_preview_image(self, preview_format, x0):
        self.steps.append(len(x0))


def test_a_model_has_no_patches_of_looms(model, motion_model):
    """Nodes that look through a MODEL's patches before a run may stop at those they do not know, as UltimateSDUpscale 1.7.1 does."""
    animated = ContextWindowsNode.execute(animate(model, motion_model), 8, 2)[0]
    assert "patches" not in animated.model_options["transformer_options"]


def test_another_packs_previews_are_given_all_frames_and_may_return_none(model, monkeypatch):
    previewer = Plays()
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: previewer)
    clips_of(model, 1)
    assert previewer.steps == [FRAMES] * 2


# --- AnimateDiff-Evolved ------------------------------------------------------------------------------------------------


class Options:
    """As it keeps its context options: under ``ADE_params`` of the MODEL."""

    def __init__(self, length):
        self.context_options, self.context_length, self.use_on_equal_length = self, length, False

    def on_model_patcher_clone(self):
        return self


def evolved(model, length=None, motion=False):
    """A MODEL that a stand-in for AnimateDiff-Evolved samples: the process is changed during a run, as it does."""
    model = model.clone()
    if motion:
        model.set_additional_models("ADE", [make_model(**SMALL_UNET)])
    model.set_attachments("ADE_params", Options(length))
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "ADE", _sample_evolved)
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "ADE", _cut_evolved)
    return model


def _sample_evolved(executor, noise, *args, **kwargs):
    """It replaces ComfyUI's sampling function and the forward of all group norms for the length of a run."""
    function, forward = comfy.samplers.sampling_function, torch.nn.GroupNorm.forward

    def sampling(inner, x, timestep, uncond, cond, cond_scale, model_options=None, seed=None):
        frames = {"full_length": len(x), "context_length": None, "sub_idxs": None}
        model_options = {**model_options, "transformer_options": {**model_options["transformer_options"], "ad_params": frames}}
        predictions = comfy.samplers.calc_cond_batch(inner, [cond, uncond], x, timestep, model_options)
        return comfy.samplers.cfg_function(inner, *predictions, cond_scale, x, timestep, model_options, cond, uncond)

    comfy.samplers.sampling_function = sampling
    torch.nn.GroupNorm.forward = lambda norm, x: forward(norm, x)
    try:
        return executor(noise, *args, **kwargs)
    finally:
        comfy.samplers.sampling_function, torch.nn.GroupNorm.forward = function, forward


def _cut_evolved(executor, inner, conds, x, timestep, model_options):
    frames = model_options["transformer_options"]["ad_params"]
    length = inner.current_patcher.get_attachment("ADE_params").context_length
    if length is None or frames["full_length"] <= length:
        return executor(inner, conds, x, timestep, model_options)
    out, counts = [torch.zeros_like(x) for _ in conds], torch.zeros(len(x), 1, 1, 1)
    for window in map(list, Windowing(length, OVERLAP).windows(frames["full_length"])):
        frames |= {"sub_idxs": window, "context_length": length}
        for total, part in zip(out, executor(inner, conds, x[window], timestep[window], model_options), strict=True):
            total[window] += part
        counts[window] += 1
    return [total / counts for total in out]


@contextmanager
def process_unchanged():
    before = comfy.samplers.sampling_function, torch.nn.GroupNorm.forward, comfy.samplers.calc_cond_batch
    yield
    assert (comfy.samplers.sampling_function, torch.nn.GroupNorm.forward, comfy.samplers.calc_cond_batch) == before


@pytest.mark.parametrize("order", ["Loom first", "Evolved first"])
def test_motion_models_follow_evolveds_windows(model, motion_model, order):
    """Values for each frame, too, and what reads the frames; more frames than the motion model was trained on."""
    values = [frame / 20 for frame in range(20)]
    expected = sample(windowed(animate(with_images(model, 20), motion_model, strength_values=values), fuse_method="flat"), 20)
    with process_unchanged():
        if order == "Loom first":
            both = evolved(animate(with_images(model, 20), motion_model, strength_values=values), LENGTH)
        else:
            both = animate(evolved(with_images(model, 20), LENGTH), motion_model, strength_values=values)
        same(sample(both, 20), expected)


def test_a_run_of_evolved_changes_no_byte_of_loom(model, motion_model):
    before = sample(animate(model, motion_model), FRAMES)
    sample(evolved(model, LENGTH), FRAMES)
    sample(evolved(animate(model, motion_model), LENGTH), FRAMES)
    assert torch.equal(sample(animate(model, motion_model), FRAMES), before)


def test_windows_of_both_are_refused(model, motion_model):
    for both in (evolved(windowed(model), LENGTH), evolved(windowed(animate(model, motion_model)), motion=True)):
        with process_unchanged(), pytest.raises(InvalidInput, match="would take each of these context windows for a whole clip"):
            sample(both, FRAMES)
    sample(evolved(windowed(model, FRAMES), motion=True), FRAMES)  # nothing is cut


def test_no_windows_are_set_where_evolved_animates(model, motion_model):
    """Its motion models see all frames of a call as one clip, and so Loom's have to."""
    seen = []

    def record(executor, x, *args, **kwargs):
        seen.append(len(x))
        return executor(x, *args, **kwargs)

    both = evolved(animate(model, motion_model), motion=True)
    both.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", record)
    sample(both, 20, steps=1)
    assert seen == [2 * 20]


def test_clips_are_not_one_clip_to_evolved(model, motion_model):
    both = evolved(animate(model, motion_model), LENGTH)
    same(clips_of(both, 2), torch.cat([clips_of(both, 1, seed=seed) for seed in (3, 4)]))
