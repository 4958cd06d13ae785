"""Text2Video-Zero beside everything else that a MODEL may have, and what it leaves behind."""

from __future__ import annotations

import comfy.context_windows
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.supported_models
import pytest
import torch
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.runs.zero_shot_video import (
    ANCHORS,
    FIRST_AND_PREVIOUS,
    OFF,
    PREVIOUS,
    ZERO_KEY,
    Text2VideoZeroSettings,
    attend_to_anchors,
)
from pack.nodes.text2video_zero import Text2VideoZeroNode

from .world import (
    ALL_SAMPLERS,
    SMALLEST_MOTION,
    SMALLEST_UNET,
    animate,
    cond,
    make_model,
    motion_file,
    same_state,
    state_of,
)
from .zero_world import (
    FRAMES,
    attention_only,
    calls_of,
    clips_of,
    difference,
    guided,
    make_small_model,
    run,
    sigmas_of,
    warp_only,
    zero,
)


@pytest.fixture(scope="module")
def model():
    return make_small_model()


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    with torch.inference_mode():
        folder = tmp_path_factory.mktemp("models")
        return load_motion_model(motion_file(folder, Family.V3, **SMALLEST_MOTION))


# --- with everything else ---------------------------------------------------------------------------------------------


def test_off_is_the_model_without(model):
    plain = run(model)
    assert torch.equal(run(zero(model, anchor=OFF, warp_start=False)), plain)
    assert not torch.equal(run(warp_only(model)), plain)


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_cfg_splits_do_not_mix(model, cfg, monkeypatch):
    """Cond and uncond in one call or, with little memory, in one call each: the same picture."""
    joined = zero(model, anchor=FIRST_AND_PREVIOUS)
    with calls_of(model) as calls:
        together = run(joined, cfg=cfg)
    assert {batch for batch, _ in calls} == {FRAMES if cfg == 1.0 else 2 * FRAMES}
    monkeypatch.setattr(type(model.model), "memory_required", lambda *args, **kwargs: 1e30)
    with calls_of(model) as calls:
        assert difference(run(joined, cfg=cfg), together) < 1e-5
    assert {batch for batch, _ in calls} == {FRAMES}


def test_several_positives_and_areas(model):
    single = run(zero(model))
    assert difference(run(zero(model), positive=cond(1) + cond(1)), single) < 1e-5
    area = run(zero(model), positive=cond(1) + cond(5, area=(4, 8, 0, 0), strength=1.0))
    assert torch.isfinite(area).all()
    assert difference(area, single) > 1e-3


def test_one_prompt_for_each_frame(model):
    tensor, options = cond(1)[0]
    each = run(zero(model), positive=[[tensor.expand(FRAMES, -1, -1).contiguous(), options]])
    assert difference(each, run(zero(model))) < 1e-4


@pytest.fixture(scope="module")
def warp_start(model):
    """Noise of some frames, and the latent that the first step to t1 and the warp make of it."""
    noise, starts = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), []
    with torch.inference_mode():
        guided(zero(model), noise, sigmas_of(model, 4), callback=lambda step, x0, x, total: starts.append(x))
    return noise, model.model.process_latent_out(starts[1])  # one step to t1, and then the frames together


@pytest.mark.parametrize("sampler_name", ALL_SAMPLERS)
def test_every_sampler_goes_on_from_the_warp_start(model, warp_start, sampler_name):
    """As it would from a latent that already has the noise of t1."""
    (noise, start), sigmas = warp_start, sigmas_of(model, 4)
    t1 = torch.tensor([model.get_model_object("model_sampling").percent_to_sigma(1 - 941 / 999)])
    out = guided(zero(model), noise, sigmas, sampler_name=sampler_name)
    expected = guided(
        attention_only(model), torch.zeros_like(noise), torch.cat([t1, sigmas[1:]]), sampler_name=sampler_name, latent=start
    )
    assert torch.isfinite(out).all()
    assert difference(out, expected) < 1e-4


@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "dpmpp_2m_sde", "uni_pc"])
def test_clips_stay_apart(model, sampler_name):
    """Each clip has its own first frame, and is what it would be alone."""
    joined = zero(model, anchor=FIRST_AND_PREVIOUS)
    together = clips_of(joined, {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}, clips=2, sampler_name=sampler_name)
    for clip, part in enumerate(together.chunk(2)):
        alone = clips_of(joined, {"samples": torch.zeros(FRAMES, 4, 8, 8)}, seed=11 + clip, sampler_name=sampler_name)
        assert difference(part, alone) < 1e-5
    assert difference(together[FRAMES:], together[:FRAMES]) > 1e-2


def test_beside_a_motion_model(model, motion):
    before, after = animate(zero(model), motion), zero(animate(model, motion))
    both = run(before)
    assert torch.equal(run(after), both)
    assert difference(both, run(zero(model))) > 1e-3
    assert difference(both, run(animate(model, motion))) > 1e-3
    assert torch.equal(run(animate(zero(model), motion, strength=0.0)), run(zero(model)))
    assert torch.equal(run(zero(animate(model, motion), anchor=OFF, warp_start=False)), run(animate(model, motion)))


def with_windows(model, schedule="standard_static", **options):
    model = model.clone()
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule(schedule),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=4, context_overlap=2, dim=0, **options,
    )
    return model


@pytest.mark.parametrize("schedule", ["standard_static", "looped_uniform"])
@pytest.mark.parametrize("fix", [False, True], ids=["", "anchor"])
def test_context_windows(model, schedule, fix):
    """In each window frames look at the earliest of that window."""
    seen = []

    def patch(n, context, value, extra):
        (places,) = extra[ZERO_KEY]
        window = extra["context_window"]
        frames = [*([window.causal_anchor_index] if len(places) // 2 > 4 else []), *window.index_list]
        seen.append({frames[place % len(frames)] for place in places.tolist()} == {min(frames)})
        return n, context, value

    windowed = with_windows(zero(model), schedule, causal_window_fix=fix, closed_loop=True, context_stride=1)
    windowed.set_model_attn1_patch(patch)
    assert torch.isfinite(run(windowed, frames=10)).all()
    assert len(seen) > 10
    assert all(seen)


def test_another_packs_patches_still_run(model):
    """One adds tokens of its own before, and one looks at what came out of both."""
    seen = []

    def add_token(n, context, value, extra):
        return n, torch.cat([context, context[:, :1]], 1), torch.cat([value, value[:, :1] * 2], 1)

    def look(n, context, value, extra):
        seen.append((n.shape[1] + 1 == context.shape[1], torch.equal(context, value), torch.equal(context[0], context[1])))
        return n, context, value

    crowded = model.clone()
    crowded.set_model_attn1_patch(add_token)
    crowded = attention_only(crowded)
    crowded.set_model_attn1_patch(look)
    run(crowded, steps=1)
    assert set(seen) == {(True, False, True)}


def test_pag_runs(model):
    guided_by_pag = PerturbedAttentionGuidance.execute(zero(model), 3.0)[0]
    out = run(guided_by_pag)
    assert torch.isfinite(out).all()
    assert difference(out, run(zero(model))) > 1e-3


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_branches_do_not_know_each_other(model):
    plain, state, options = run(model), state_of(model), repr(model.model_options)
    first, previous = zero(model), zero(model, anchor=PREVIOUS, motion_x=-40.0)
    alone = run(first)
    assert not torch.equal(run(previous), alone)
    assert torch.equal(run(first), alone)
    assert torch.equal(run(model), plain)
    assert same_state(model, state)
    assert repr(model.model_options) == options
    assert model.get_attachment(ZERO_KEY) is None


def test_applying_again_replaces(model):
    twice = zero(zero(model, anchor=PREVIOUS, motion_x=100.0))
    assert twice.model_options["transformer_options"]["patches"]["attn1_patch"] == [attend_to_anchors]
    assert torch.equal(run(twice), run(zero(model)))


def test_nothing_of_the_callers_changes_and_chance_is_left_alone(model):
    noise, latent = torch.randn(FRAMES, 4, 8, 8), torch.zeros(FRAMES, 4, 8, 8)
    kept, chance = noise.clone(), torch.get_rng_state()
    guided(zero(model), noise, sigmas_of(model, 4))
    assert torch.equal(noise, kept)
    assert not latent.any()
    assert torch.equal(torch.get_rng_state(), chance)


@pytest.mark.parametrize("call", [1, 2, 4], ids=["to t1", "to t0", "from t1"])
@pytest.mark.parametrize("failure", ["interrupt", "exception"])
def test_what_goes_wrong_in_mid_run_leaves_nothing(model, failure, call):
    joined = zero(model)
    good, plain, state, count = run(joined), run(model), state_of(model), []

    def fail(unet, args):
        count.append(1)
        if len(count) == call:
            if failure == "exception":
                raise RuntimeError("test")
            comfy.model_management.interrupt_current_processing()

    hook = model.model.diffusion_model.register_forward_pre_hook(fail)
    with pytest.raises((comfy.model_management.InterruptProcessingException, RuntimeError)):
        run(joined)
    hook.remove()
    assert len(count) == call  # an interrupt ends the run with the step that it came in
    assert torch.equal(run(joined), good)
    assert torch.equal(run(model), plain)
    assert same_state(model, state)


def test_a_second_device_does_the_same():
    model = make_model(**SMALLEST_UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**SMALLEST_UNET), ())
    joined = zero(model)
    expected = run(joined)
    assert torch.equal(run(joined.deepclone_multigpu(torch.device("cpu"))), expected)


# --- what it cannot do ------------------------------------------------------------------------------------------------


def test_flow_models_have_no_warp_start(model):
    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    flow = model.clone()
    flow.add_object_patch("model_sampling", Flow())
    with pytest.raises(InvalidInput, match="uses flow matching, for which Text2Video-Zero has no warp start"):
        run(zero(flow))
    assert torch.isfinite(run(attention_only(flow))).all()


def test_models_that_are_not_for_it():
    class NoUNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.diffusion_model = torch.nn.Linear(4, 4)
            self.model_config = comfy.supported_models.Flux({"image_model": "flux"})

    flux = comfy.model_patcher.CoreModelPatcher(NoUNet(), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(InvalidInput, match="The connected model is Flux, which has no Stable Diffusion UNet"):
        zero(flux)
    video = make_model(
        kind=comfy.supported_models.SVD_img2vid, **SMALLEST_UNET, use_temporal_attention=True, use_temporal_resblock=True,
        extra_ff_mix_layer=True, merge_strategy="learned_with_images", merge_factor=0.0, video_kernel_size=[3, 1, 1],
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="SVD_img2vid, a video model, which connects its frames itself"):
        zero(video)


def test_node(model):
    (joined,) = Text2VideoZeroNode.execute(model).args
    assert joined.get_attachment(ZERO_KEY) == Text2VideoZeroSettings()
    assert torch.equal(run(joined), run(zero(model)))
    wrong = [
        ({"t0": 950}, "t0 950 is above t1 941"),
        ({"start_percent": 0.6, "end_percent": 0.5}, "start_percent 0.6 is after end_percent 0.5"),
    ]
    for settings, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            Text2VideoZeroNode.execute(model, **settings)
        assert message in Text2VideoZeroNode.validate_inputs(**settings)
    assert Text2VideoZeroNode.validate_inputs() is True
    assert Text2VideoZeroNode.validate_inputs(t0=None) is True  # over a link
    with pytest.raises(InvalidInput, match=f"anchor is 'last frame', but it must be one of: {', '.join(ANCHORS)}"):
        Text2VideoZeroNode.execute(model, anchor="last frame")
