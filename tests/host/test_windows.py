"""Context windows of Loom: what each window gets, frame by frame, and that together they are the whole clip."""

from __future__ import annotations

import comfy.context_windows as core
import comfy.controlnet
import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.animation.windowing import Schedule, Windowing
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.motion.context_windows import FUSE_METHODS, SCHEDULES
from pack.nodes.host.runs.run_wrappers import FREENOISE_KEY, setting_of
from pack.nodes.windows import ContextWindowsNode
from torch.utils._python_dispatch import TorchDispatchMode

from .world import CONTEXT, SMALLEST_UNET, cond, make_model

FRAMES, LENGTH, SIZE, SIGMA = 12, 6, 8, 5.0


CORES_SCHEDULES = [name for name in SCHEDULES if name != "none"]
CORES_FUSE_METHODS = [name for name in FUSE_METHODS if name != "overlap-linear, open ends"]


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALLEST_UNET)


def windowed(model, length=LENGTH, overlap=2, **options):
    return ContextWindowsNode.execute(model, length, overlap, **options)[0]


def core_handler(length=LENGTH, overlap=2, schedule="standard_static", fuse="pyramid", **options):
    return core.IndexListContextHandler(
        core.get_matching_context_schedule(schedule), core.get_matching_fuse_method(fuse),
        context_length=length, context_overlap=overlap, dim=0, causal_window_fix=False, **options,
    )  # fmt: skip


def core_windowed(model, **options):
    model = model.clone()
    model.model_options["context_handler"] = core_handler(**options)
    return model


def numbered(frames=FRAMES, *shape):
    """A tensor whose every value in frame k is k + 1."""
    return (torch.arange(frames) + 1.0).view(-1, *[1] * len(shape)).expand(frames, *shape).clone()


def run(model, noise=None, positive=None, negative=None, sigmas=(SIGMA, 2.0, 0.0), cfg=2.0, **options):
    """A few of Euler's steps from noise that is added as it is."""
    noise = comfy.sample.prepare_noise(torch.zeros(FRAMES, 4, SIZE, SIZE), 3) if noise is None else noise
    latent = options.pop("latent", torch.zeros(noise.shape))
    return comfy.sample.sample_custom(
        model, noise, cfg, comfy.samplers.sampler_object(options.pop("sampler", "euler")), torch.tensor(sigmas), positive or cond(1),
        negative or cond(2), latent, disable_pbar=True, seed=3, **options,
    )  # fmt: skip


class ReadsHints(torch.nn.Module):
    """A control network that adds each frame's hint to the middle of the UNet, and remembers what it was given."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[list[int], list[int]]] = []

    def forward(self, x, hint, timesteps, context, **extra):
        hints = hint.mean((1, 2, 3))
        self.seen.append(((x[:, 0, 0, 0] / x[0, 0, 0, 0] * hints[0]).round().int().tolist(), hints.round().int().tolist()))
        return {"input": [], "middle": [hints.view(-1, 1, 1, 1) * 0.05], "output": []}


def controlled(prompt, hints, *, previous=None, extra=None):
    control = comfy.controlnet.ControlNet(ReadsHints(), load_device=torch.device("cpu"))
    control.set_cond_hint(hints, 1.0, (0.0, 1.0), extra_concat=[] if extra is None else [extra])
    control.set_previous_controlnet(previous)
    return [[prompt[0][0], {**prompt[0][1], "control": control, "control_apply_to_uncond": False}]], control


# --- index lists and weights: ComfyUI's own are the oracle --------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    length=st.integers(2, 24), overlap=st.integers(0, 23), frames=st.integers(1, 200), step=st.integers(0, 40),
    schedule=st.sampled_from(CORES_SCHEDULES), closed_loop=st.booleans(),
)
def test_windows_are_comfyuis_at_stride_1(length, overlap, frames, step, schedule, closed_loop):
    if frames <= length:
        return  # ComfyUI's handler leaves such a clip as it is
    overlap = overlap % length
    closed_loop &= schedule == "looped_uniform"  # ComfyUI closes no others
    windowing = Windowing(length, overlap, Schedule(schedule), closed_loop=closed_loop)
    theirs = core_handler(length, overlap, schedule, closed_loop=closed_loop)
    theirs._step = step
    expected = theirs.context_schedule.func(frames, theirs, {})
    assert set(windowing.windows(frames, core.ordered_halving(step))) == set(map(tuple, expected))


@pytest.mark.parametrize("fuse", CORES_FUSE_METHODS)
@pytest.mark.parametrize("schedule", CORES_SCHEDULES)
def test_the_picture_is_comfyuis_where_comfyuis_is_right(model, schedule, fuse):
    """Frames can't be told apart from their windows without motion; so the windows' outputs are made to differ."""
    if fuse in ("relative", "overlap-linear") and schedule == "looped_uniform":
        return  # ComfyUI's weights don't know windows that go round the end
    pictures = []
    for source in (windowed(model, context_schedule=schedule, fuse_method=fuse), core_windowed(model, schedule=schedule, fuse=fuse)):
        source.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "test", _places)
        pictures.append(run(source, numbered(FRAMES, 4, SIZE, SIZE)))
    torch.testing.assert_close(*pictures, atol=1e-4, rtol=1e-4)
    assert len(set(pictures[0][:, 0, 0, 0].tolist())) > 1


def _places(executor, model, conds, x_in, timestep, model_options):
    """Each frame's place in its window, instead of a picture."""
    return [numbered(len(x_in), *x_in.shape[1:]) for _ in conds]


# --- what each window gets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_everything_has_the_frames_of_its_window(model, cfg):
    """Latents, timesteps, prompts, pooled prompts, masks and hints carry the number of their frame."""
    seen = []

    def record(executor, inner, conds, x_in, timestep, model_options):
        frames = (x_in[:, 0, 0, 0] / SIGMA).round().int().tolist()
        found = [frames, [frame + 1 for frame in model_options["transformer_options"]["context_window"].index_list]]
        for entry in (entry for entries in conds for entry in entries or ()):
            prompt, pooled = entry["model_conds"]["c_crossattn"].cond, entry["pooled_output"]
            found += [part.flatten(1)[:, 0].round().int().tolist() for part in (prompt, pooled, entry["mask"] * FRAMES)]
        assert timestep.tolist() == [SIGMA] * len(x_in)
        seen.append(found)
        return executor(inner, conds, x_in, timestep, model_options)

    def prompt():
        mask = numbered(FRAMES, SIZE, SIZE) / FRAMES
        return [[numbered(FRAMES, 7, CONTEXT), {"pooled_output": numbered(FRAMES, 3), "mask": mask}]]

    _, chained = controlled(cond(), numbered(FRAMES, 3, 64, 64))
    positive, control = controlled(prompt(), numbered(FRAMES, 3, 32, 32), previous=chained)
    negative = [[prompt()[0][0], {**prompt()[0][1], "control": control}]]
    source = windowed(model, context_schedule="looped_uniform", closed_loop=True)
    source.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "test", record)
    run(source, numbered(FRAMES, 4, SIZE, SIZE), positive, negative, (SIGMA, 0.0), cfg=cfg)
    windows = Windowing(LENGTH, 2, Schedule.LOOPED, closed_loop=True).windows(FRAMES)
    numbers = [[frame + 1 for frame in window] for window in windows]
    assert len(numbers) == 3
    assert {1, 12} <= set(numbers[2])
    prompts = 1 if cfg == 1.0 else 2
    assert seen == [[window] * (2 + 3 * prompts) for window in numbers]
    for network in (control.control_model, chained.control_model):
        assert [hints for _, hints in network.seen] == [window * prompts for window in numbers]
        assert all(frames == hints for frames, hints in network.seen)


def inputs_of(kind: str) -> dict:
    def masked(frames):
        masks = torch.rand(frames, SIZE, SIZE, generator=torch.Generator().manual_seed(4)) + 0.1
        return [[*cond(1)[0][:1], {**cond(1)[0][1], "mask": masks}], *cond(5, mask=1 - masks[:1])]

    def hinted(frames, chained=1, **extra):
        _, previous = controlled(cond(), numbered(chained, 3, 64, 64))
        positive, control = controlled(cond(1), numbered(frames, 3, 64, 64), previous=previous, **extra)
        return {"positive": positive, "negative": [[cond(2)[0][0], {**cond(2)[0][1], "control": control}]]}

    return {
        "nothing": dict,
        "prompts": lambda: {"positive": cond(1, batch=FRAMES), "negative": cond(2, batch=FRAMES)},
        "more prompts": lambda: {"positive": cond(1, batch=FRAMES + 3)},
        "fewer prompts": lambda: {"positive": cond(1, batch=5)},
        "masks": lambda: {"positive": masked(FRAMES)},
        "more masks": lambda: {"positive": masked(FRAMES * 2)},
        "fewer masks": lambda: {"positive": masked(4)},
        "hints": lambda: hinted(FRAMES, FRAMES),
        "fewer hints": lambda: hinted(5, 8),
        "more hints": lambda: hinted(FRAMES + 2, FRAMES),
        "one hint": lambda: hinted(1, FRAMES),
        "noise mask": lambda: {
            "noise_mask": (torch.rand(FRAMES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(6)) > 0.5).float(),
            "latent": torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(7)),
        },
    }[kind]()


KINDS = (
    "nothing", "prompts", "more prompts", "fewer prompts", "masks", "more masks", "fewer masks", "hints", "fewer hints",
    "more hints", "one hint", "noise mask",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_without_motion_windows_change_nothing(model, kind):
    """Frames that don't see one another come out as ComfyUI makes them without windows, whatever goes in with them."""
    whole = run(model, **inputs_of(kind))
    looped = windowed(model, context_schedule="looped_uniform", context_stride=2, closed_loop=True, fuse_method="relative")
    twice = windowed(model, 5, context_schedule="looped_uniform", context_stride=3, wide_windows="wrap around")
    for source in (windowed(model), looped, twice):
        torch.testing.assert_close(run(source, **inputs_of(kind)), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["hints", "masks", "prompts"])
def test_cond_and_uncond_one_after_the_other(model, kind, monkeypatch):
    """As ComfyUI runs them where memory is short."""
    whole = run(model, **inputs_of(kind))
    monkeypatch.setattr(type(model.model), "memory_required", lambda self, shape, cond_shapes=None: 1e20)
    torch.testing.assert_close(run(windowed(model), **inputs_of(kind)), whole, atol=1e-4, rtol=1e-4)


def test_pooled_prompts_for_each_frame(model):
    """SDXL's ``y`` follows the window."""
    sdxl = make_model(adm_in_channels=8, num_classes="sequential", **SMALLEST_UNET)
    sdxl.model.encode_adm = lambda pooled_output, **kwargs: pooled_output
    prompts = {
        name: [[cond(seed)[0][0], {"pooled_output": torch.randn(FRAMES, 8, generator=torch.Generator().manual_seed(seed))}]]
        for seed, name in enumerate(("positive", "negative"))
    }
    whole = run(sdxl, **prompts)
    torch.testing.assert_close(run(windowed(sdxl), **prompts), whole, atol=1e-4, rtol=1e-4)


def test_masks_that_fit_no_clip(model):
    masked = cond(1, mask=torch.ones(5, SIZE, SIZE))
    with pytest.raises(InvalidInput, match="A prompt's mask has 5 frames, but the clip has 12. Give it 1 or 12 frames."):
        run(windowed(model), positive=masked)


def test_inpainting_hints_have_their_masks_frames(model):
    """ControlNets that take a mask beside the image get that of the window's frames."""
    seen = []

    class ReadsMasks(ReadsHints):
        def forward(self, x, hint, timesteps, context, **extra):
            seen.append(hint[:, -1, 0, 0].round().int().tolist())
            return {"input": [], "middle": [], "output": []}

    positive, control = controlled(cond(1), numbered(FRAMES, 3, 64, 64), extra=numbered(FRAMES, 1, 64, 64))
    control.control_model, control.concat_mask = ReadsMasks(), True
    run(windowed(model), positive=positive, sigmas=(SIGMA, 0.0), cfg=1.0)
    windows = Windowing(LENGTH, 2).windows(FRAMES)
    assert seen == [[frame + 1 for frame in window] for window in windows]


@pytest.mark.parametrize("scheduler", ["normal", "simple", "sgm_uniform", "ddim_uniform", "karras", "exponential"])
def test_a_run_in_two_parts_has_the_windows_of_one(model, scheduler):
    """As with two KSampler (Advanced) in a row; also where a part ends before the last step."""
    source, seen = windowed(model, context_schedule="standard_uniform"), []

    def record(executor, inner, conds, x_in, timestep, model_options):
        seen.append(tuple(model_options["transformer_options"]["context_window"].index_list))
        return [x_in for _ in conds]

    source.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "test", record)

    def windows(sigmas):
        seen.clear()
        run(source, sigmas=sigmas.tolist())
        return list(seen)

    sigmas = comfy.samplers.calculate_sigmas(model.model.model_sampling, scheduler, 9)
    whole = windows(sigmas)
    assert len(set(whole)) > 5
    assert windows(sigmas[:4]) + windows(sigmas[3:7]) + windows(sigmas[6:]) == whole


def test_a_run_may_count_its_own_steps(model):
    """From its first step on; a sampler's second call of a step, at a level between two, counts as the next one."""
    source, seen = windowed(model, 4, 1, context_schedule="looped_uniform", count_steps_of="this run"), []

    def record(executor, inner, conds, x_in, timestep, model_options):
        seen.append(model_options["transformer_options"]["context_window"].index_list[0])
        return [x_in for _ in conds]

    source.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "test", record)
    begun = [Windowing(4, 1, Schedule.LOOPED).windows(FRAMES, phase)[0][0] for phase in (0, 0.5, 0.25, 0.75)]
    for sigmas in ((2.0, 1.0, 0.5, 0.0), (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)):  # from the midst of a schedule, and back
        seen.clear()
        run(source, sigmas=sigmas)
        assert seen[:: len(seen) // 3] == begun[:3]
    seen.clear()
    run(source, sigmas=(2.0, 1.0, 0.5, 0.0), sampler="dpm_2")
    assert seen[:: len(seen) // 5] == [begun[step] for step in (0, 1, 1, 2, 2)]  # the last step has one call


# --- other packs --------------------------------------------------------------------------------------------------------


def test_patches_made_for_all_frames_are_named(model):
    weights = torch.ones(FRAMES, 1, 1)

    def patch(q, k, v, options):
        return q * weights, k, v

    source = windowed(model)
    source.set_model_attn2_patch(patch)
    with pytest.raises(InvalidInput, match=f"A window of 6 of 12 frames failed: .* The model has patches from {__name__}"):
        run(source, cfg=1.0)


def test_perturbed_attention_guidance_goes_with_windows(model):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    guided = PerturbedAttentionGuidance.execute(model, 1.0)[0]
    whole = run(guided, sigmas=(SIGMA, 0.0))
    torch.testing.assert_close(run(windowed(guided), sigmas=(SIGMA, 0.0)), whole, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(whole, run(model, sigmas=(SIGMA, 0.0)), atol=1e-2)


def test_self_attention_guidance_is_refused_with_windows(model):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    guided = SelfAttentionGuidance.execute(model, 0.5, 2.0)[0]
    run(windowed(guided, FRAMES))
    with pytest.raises(InvalidInput, match="Self-Attention Guidance does not work with context windows: .* make no more than 6 frames"):
        run(windowed(guided))


# --- afterwards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [None, comfy.model_management.InterruptProcessingException, RuntimeError])
def test_controlnets_are_left_as_they_were(model, failure):
    hints, others = numbered(FRAMES, 3, 64, 64), numbered(FRAMES, 3, 64, 64)
    _, chained = controlled(cond(), others)
    positive, control = controlled(cond(1), hints, previous=chained)
    expected = run(model, positive=positive)
    calls = []

    def failing(executor, *args):
        calls.append(1)
        if failure is not None and len(calls) == 2:
            raise failure("test")
        return executor(*args)

    source = windowed(model)
    source.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "test", failing)
    if failure is None:
        run(source, positive=positive)
    else:
        with pytest.raises(failure):
            run(source, positive=positive)
    assert control.cond_hint_original is hints
    assert chained.cond_hint_original is others
    assert control.cond_hint is chained.cond_hint is None
    assert torch.equal(run(model, positive=positive), expected)


def test_nothing_is_kept_between_runs(model):
    """One handler serves several runs, in any order, and the MODEL that it was made of has none."""
    looped = windowed(model, context_schedule="looped_uniform")
    handler = looped.model_options["context_handler"]
    before = dict(vars(handler))
    run(looped, numbered(40, 4, SIZE, SIZE))
    assert vars(handler) == before
    assert "context_handler" not in model.model_options
    assert "context_window" not in looped.model_options["transformer_options"]


def test_another_one_replaces_it(model):
    twice = windowed(windowed(model, 4, 1), 5, 0, context_schedule="batched")
    handler = twice.model_options["context_handler"]
    assert (handler.context_length, handler.context_overlap, handler.windowing.schedule) == (5, 0, Schedule.BATCHED)
    assert len(twice.get_wrappers(WrappersMP.PREPARE_SAMPLING, "ContextWindows_prepare_sampling")) == 1


def test_room_is_made_for_one_window(model, monkeypatch):
    shapes = []
    estimate = comfy.sampler_helpers.estimate_memory
    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", lambda m, shape, conds: shapes.append(list(shape)) or estimate(m, shape, conds))
    run(windowed(model))
    run(windowed(model, 40, 10))
    assert [shape[0] for shape in shapes] == [LENGTH, FRAMES]


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a device: values read from tensors, and lists of numbers as an index."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation.__name__.split(".")[0] in ("_local_scalar_dense", "nonzero", "index", "index_put_", "equal")
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("schedule", CORES_SCHEDULES)
def test_windows_do_not_wait_for_the_device(model, schedule):
    """As many waits with five times the frames; ComfyUI's handler has some for each window."""

    def waits(source, frames):
        with Waits() as found:
            run(source, numbered(frames, 4, SIZE, SIZE), sigmas=(SIGMA, 0.0), cfg=1.0)
        return found.count

    ours = windowed(model, context_schedule=schedule, closed_loop=True)
    assert waits(ours, 5 * LENGTH) == waits(ours, LENGTH + 1)
    theirs = core_windowed(model, schedule=schedule)
    assert waits(theirs, 5 * LENGTH) > waits(theirs, LENGTH + 1)


# --- the node -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "overlap"), [(16, 16), (16, 17), (1, 1)])
def test_overlaps_that_get_nowhere(model, length, overlap):
    said = f"Windows of {length} frames can't overlap by {overlap}"
    assert ContextWindowsNode.validate_inputs(length, overlap).startswith(said)
    with pytest.raises(ValueError, match=said):
        ContextWindowsNode.execute(model, length, overlap)


def test_links_are_not_known_before_it_runs():
    assert ContextWindowsNode.validate_inputs(None, 4) is True
    assert ContextWindowsNode.validate_inputs(16, 4) is True


def test_what_a_schedule_makes_no_use_of_is_said(model, caplog):
    for schedule in SCHEDULES:
        ContextWindowsNode.execute(model, 16, 4, schedule, closed_loop=True, context_stride=2)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "context_stride has no effect with context_schedule standard_static. Choose a uniform one.",
        "closed_loop has no effect with context_schedule batched. Choose another one.",
        "context_stride has no effect with context_schedule batched. Choose a uniform one.",
        "closed_loop has no effect with context_schedule none. Choose another one.",
        "context_stride has no effect with context_schedule none. Choose a uniform one.",
    ]


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
def test_freenoise_knows_that_a_loop_is_closed(model, schedule):
    """No window across the clip's end holds a noise twice either."""
    source = ContextWindowsNode.execute(model, 4, 1, schedule, closed_loop=True, freenoise=True)[0]
    assert setting_of(source, FREENOISE_KEY).closed_loop
