"""Text2Video-Zero on a real UNet: against diffusers' pipeline, and beside everything else that a MODEL may have."""

from __future__ import annotations

import logging

import comfy.context_windows
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.supported_models
import comfy.utils
import nodes
import pytest
import torch
import torch._dynamo
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from diffusers import DDIMScheduler, TextToVideoZeroPipeline, UNet2DConditionModel
from pack.motion_models.config import Family
from pack.nodes.host.loading import load_motion_model
from pack.nodes.host.sampling import SamplerSettings, sample_clips
from pack.nodes.host.text2video_zero import (
    ANCHORS,
    FIRST,
    FIRST_AND_PREVIOUS,
    OFF,
    PREVIOUS,
    ZERO_KEY,
    Text2VideoZeroSettings,
    anchor_places,
    apply_text2video_zero,
    attend_to_anchors,
)
from pack.nodes.text2video_zero import Text2VideoZero

from .world import (
    CONTEXT,
    NEGATIVE,
    POSITIVE,
    UNET_CONFIG,
    animate,
    cond,
    make_model,
    motion_file,
    same_state,
    sample,
    state_of,
)

FRAMES = 4

# Two levels are enough to see frames look at one another.
SMALL_UNET = {
    "channel_mult": [1, 2], "num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    with torch.inference_mode():
        folder = tmp_path_factory.mktemp("models")
        return load_motion_model(motion_file(folder, Family.V3, block_channels=(32, 64), layers_per_block=1))


def zero(model, **settings):
    return apply_text2video_zero(model, Text2VideoZeroSettings(**settings))


def attention_only(model, anchor=FIRST, **settings):
    return zero(model, anchor=anchor, warp_start=False, **settings)


def warp_only(model, **settings):
    return zero(model, anchor=OFF, **settings)


def run(model, steps=4, frames=FRAMES, **options):
    return sample(model, frames=frames, steps=steps, **options)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def guided(model, noise, sigmas, cfg=2.0, sampler_name="euler", latent=None, **options):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(cfg)
    sampler = comfy.samplers.sampler_object(sampler_name)
    latent = torch.zeros_like(noise) if latent is None else latent
    return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=5, **options)


def sigmas_of(model, steps: int) -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)


def clips_of(model, source, clips=1, seed=11, positive=POSITIVE, **settings):
    settings = {"steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", **settings}
    return sample_clips(model, positive, NEGATIVE, source, clips, SamplerSettings(seed, **settings))["samples"]


@pytest.fixture
def calls(model):
    """(batch, sigma) of every call of the UNet."""
    record = []

    def note(unet, args, kwargs):
        record.append((args[0].shape[0], kwargs["transformer_options"]["sigmas"][0].item()))

    hook = model.model.diffusion_model.register_forward_pre_hook(note, with_kwargs=True)
    yield record
    hook.remove()


# --- against diffusers ------------------------------------------------------------------------------------------------

STEPS, T0, T1 = 10, 6, 8  # of diffusers' steps, counted from the end: timesteps 601 and 801


class Pipeline(TextToVideoZeroPipeline):
    """Diffusers' own, with prompts as tensors, and with noise from t0 to t1 where its slice is one timestep early."""

    def encode_prompt(self, *args, **kwargs):
        return POSITIVE[0][0], NEGATIVE[0][0]

    def forward_loop(self, x_t0, t0, t1, generator):
        return super().forward_loop(x_t0, t0 + 1, t1 + 1, generator)


def diffusers_twin(model) -> UNet2DConditionModel:
    """Diffusers' UNet with the weights of ComfyUI's."""
    down = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    up = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64, 128, 128), down_block_types=down, up_block_types=up,
        attention_head_dim=UNET_CONFIG["num_heads"], cross_attention_dim=CONTEXT,
    )  # fmt: skip
    weights = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(UNET_CONFIG)
    unet.load_state_dict({theirs: weights[ours] for theirs, ours in names.items() if ours in weights})
    return unet


def test_equals_the_pipeline_of_diffusers():
    """Cross-frame attention, warp start and all: the same latents in the end."""
    model = make_model()
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
    )
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipeline = Pipeline(**parts, unet=diffusers_twin(model), scheduler=scheduler, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    x_t = torch.randn(1, 4, 16, 16, generator=generator)
    expected = pipeline(
        "", video_length=FRAMES, num_inference_steps=STEPS, guidance_scale=7.5, generator=generator, latents=x_t.clone(),
        motion_field_strength_x=128.0, motion_field_strength_y=-64.0, t0=T0, t1=T1, output_type="latent",
    ).images  # fmt: skip

    timesteps = scheduler.timesteps
    alpha_bar = scheduler.alphas_cumprod[timesteps]
    sigmas = torch.cat([((1 - alpha_bar) / alpha_bar).sqrt(), torch.zeros(1)])
    generator.manual_seed(7)
    x_t = torch.randn(1, 4, 16, 16, generator=generator)
    later = torch.randn(FRAMES - 1, 4, 16, 16, generator=generator)
    noise = torch.cat([x_t / (1 - alpha_bar[0]).sqrt(), later])  # diffusers starts from x_T alone
    settings = {"motion_x": 128.0, "motion_y": -64.0, "t0": int(timesteps[-T0 - 1]), "t1": int(timesteps[-T1 - 1])}

    def ours(**changes) -> torch.Tensor:
        latents = guided(zero(model, **{**settings, **changes}), noise, sigmas, cfg=7.5)
        return latents * model.model.latent_format.scale_factor

    assert difference(ours(), expected) < 1e-4
    for change in ({"anchor": OFF}, {"warp_start": False}, {"motion_x": 0.0}):
        assert difference(ours(**change), expected) > 1e-2, change


# --- cross-frame attention --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "unet"),
    [
        (comfy.supported_models.SD15, SMALL_UNET),
        (comfy.supported_models.SDXL, {**SMALL_UNET, "transformer_depth": [0, 2], "transformer_depth_output": [0, 0, 2, 2]}),
    ],
    ids=["SD1.5", "SDXL"],
)
@pytest.mark.parametrize("anchor", [FIRST, PREVIOUS, FIRST_AND_PREVIOUS])
def test_equals_a_loop_over_frames(kind, unet, anchor):
    """Each frame's self-attention, frame by frame, on the tokens of the frames that it should look at."""
    model = make_model(kind=kind, **unet)

    def loop(attention, args, kwargs, output):
        (tokens,) = args
        rows = []
        for i in range(len(tokens)):
            start, k = i // FRAMES * FRAMES, i % FRAMES
            looks_at = {FIRST: [0], PREVIOUS: [max(k - 1, 0)], FIRST_AND_PREVIOUS: [0, max(k - 1, 0)]}[anchor]
            seen = torch.cat([tokens[start + j] for j in looks_at])[None]
            rows.append(attention.forward(tokens[i : i + 1], context=seen))
        return torch.cat(rows)

    joined, plain = run(attention_only(model, anchor), steps=2), run(model, steps=2)
    blocks = [module for module in model.model.diffusion_model.modules() if isinstance(module, BasicTransformerBlock)]
    hooks = [block.attn1.register_forward_hook(loop, with_kwargs=True) for block in blocks]
    expected = run(model, steps=2)
    for hook in hooks:
        hook.remove()
    assert difference(joined, expected) < 1e-5
    assert difference(joined, plain) > 1e-2


def test_the_first_frame_is_what_it_is_alone(model):
    alone = run(model, frames=1)
    for anchor in (FIRST, PREVIOUS, FIRST_AND_PREVIOUS):
        assert difference(run(attention_only(model, anchor))[:1], alone) < 1e-5


@pytest.mark.parametrize(
    ("anchor", "changed", "follow"),
    [
        (FIRST, 0, [0, 1, 2, 3]), (FIRST, 2, [2]), (FIRST, 3, [3]),
        (PREVIOUS, 1, [1, 2, 3]), (PREVIOUS, 3, [3]),
        (FIRST_AND_PREVIOUS, 2, [2, 3]),
        (OFF, 1, [1]),
    ],
)  # fmt: skip
def test_who_sees_whom(model, anchor, changed, follow):
    noise = torch.randn(FRAMES, 4, 8, 8)
    other = noise.clone()
    other[changed] = torch.randn(4, 8, 8)
    joined, sigmas = attention_only(model, anchor), sigmas_of(model, 3)
    moved = (guided(joined, other, sigmas) - guided(joined, noise, sigmas)).flatten(1).abs().amax(1)
    assert [k for k in range(FRAMES) if moved[k] > 1e-4] == follow


def test_places_of_anchors():
    assert anchor_places(FIRST, range(4)) == [[0, 0, 0, 0]]
    assert anchor_places(PREVIOUS, range(4)) == [[0, 0, 1, 2]]
    assert anchor_places(FIRST_AND_PREVIOUS, range(3)) == [[0, 0, 0], [0, 0, 1]]
    # A window that goes round the end of a loop, and one behind ComfyUI's anchor frame.
    assert anchor_places(FIRST, [14, 15, 0, 1]) == [[2, 2, 2, 2]]
    assert anchor_places(PREVIOUS, [14, 15, 0, 1]) == [[0, 0, 1, 2]]
    assert anchor_places(FIRST, [0, 8, 9, 10]) == [[0, 0, 0, 0]]


def test_range_of_the_run(model):
    whole, plain = run(attention_only(model)), run(model)
    early, late = run(attention_only(model, end_percent=0.5)), run(attention_only(model, start_percent=0.5))
    for one, other in ((whole, plain), (early, whole), (early, plain), (late, whole), (late, plain), (early, late)):
        assert difference(one, other) > 1e-3
    assert torch.equal(run(attention_only(model, start_percent=0.999, end_percent=0.9991)), plain)


# --- warp start -------------------------------------------------------------------------------------------------------


def test_the_first_frame_starts_as_it_would_alone(model):
    """With Euler all along, the warp start leaves frame 0 what it is, but for the step that is moved to t1."""
    sigmas = sigmas_of(model, 6)
    t1 = float(model.get_model_object("model_sampling").percent_to_sigma(1 - 941 / 999))
    noise = torch.randn(FRAMES, 4, 8, 8)
    alone = guided(model, noise[:1], torch.cat([sigmas[:1], torch.tensor([t1]), sigmas[1:]]))
    assert difference(guided(zero(model), noise, sigmas)[:1], alone) < 1e-5


def test_frames_begin_as_one_picture(model):
    """With next to no noise added again, and before the sampler does anything more, frames are shifted pictures."""
    noise = torch.randn(FRAMES, 4, 8, 8)
    sigmas = sigmas_of(model, 6)
    settings = {"t0": 940, "t1": 941, "motion_x": 128.0, "motion_y": 0.0}  # two latent pixels a frame
    t1 = float(model.get_model_object("model_sampling").percent_to_sigma(1 - 941 / 999))
    barely = torch.tensor([*sigmas[:1], t1, t1 * 0.9999])
    frames = guided(warp_only(model, **settings), torch.cat([noise[:1], noise[1:] * 1e-4]), barely)
    for k in range(1, FRAMES):
        assert difference(frames[k, :, :, : 8 - 2 * k], frames[0, :, :, 2 * k :]) < 0.02


def test_frames_without_motion_and_with_the_same_noise_are_the_same(model):
    source = {"samples": torch.zeros(FRAMES, 4, 8, 8), "batch_index": [0, 1, 1, 1]}
    still = clips_of(zero(model, motion_x=0.0, motion_y=0.0), source)
    assert difference(still[2:], still[1:2].expand_as(still[2:])) < 1e-5
    moving = clips_of(zero(model, motion_x=64.0, motion_y=0.0), source)
    assert difference(moving[2:], moving[1:2].expand_as(moving[2:])) > 1e-2


def test_each_call_has_all_frames_and_the_run_its_number_of_steps(model, calls):
    """ControlNet hints and prompts for each frame are cut to the first call's batch, so no call may have less."""
    run(zero(model), steps=20)
    t0, t1 = (float(model.get_model_object("model_sampling").percent_to_sigma(1 - t / 999)) for t in (881, 941))
    assert {batch for batch, _ in calls} == {2 * FRAMES}
    sigmas = [sigma for _, sigma in calls]
    plain = sigmas_of(model, 20).tolist()
    assert sigmas == pytest.approx([plain[0], t1, t1, *plain[2:20]])  # 999 to 941; 941 to 881; 941 to the end
    assert plain[2] > t0 > plain[3]


def test_progress_counts_the_steps_of_the_run(model):
    seen = []
    run(zero(model), steps=20, callback=lambda step, x0, x, total: seen.append((step, total, x0.shape[0])))
    assert seen == [(step, 20, FRAMES) for step in range(20)]


def test_other_sigmas_are_told_to_whoever_looks_steps_up(model):
    seen = []

    def patch(n, context, value, extra):
        seen.append((extra["sigmas"][0], extra["sample_sigmas"]))
        return n, context, value

    listening = zero(model)
    listening.set_model_attn1_patch(patch)
    run(listening, steps=20)
    assert len(seen) > 20
    assert all(torch.isclose(sample_sigmas, sigma).any() for sigma, sample_sigmas in seen)


def logged(caplog) -> list[str]:
    return [record.message for record in caplog.records if "Text2Video-Zero" in record.message]


@pytest.fixture
def info(caplog):
    with caplog.at_level(logging.INFO, logger="comfyui-animatediff-loom"):
        yield caplog


def test_given_frames_are_not_replaced(model, info):
    given = torch.randn(FRAMES, 4, 8, 8)
    for options in ({"latent": given}, {"latent": given, "denoise": 0.6}, {"noise_mask": torch.ones(1, 1, 8, 8)}):
        info.clear()
        assert torch.equal(run(zero(model), **options), run(attention_only(model), **options))
        (line,) = logged(info)
        assert "no warp start, because the sampler was given frames to begin with" in line


def test_a_run_that_starts_late_is_left_alone(model, info):
    assert torch.equal(run(zero(model), denoise=0.5), run(attention_only(model), denoise=0.5))
    assert any("this run does not go past t0 and t1" in line for line in logged(info))


def test_ksampler_advanced_in_two_parts(model):
    """The first steps in one node, the rest in another: together they are one run."""
    joined, node, prompts = zero(model), nodes.KSamplerAdvanced(), (POSITIVE, NEGATIVE)

    def part(source, start, stop, add_noise, leftover):
        settings = ("euler", "normal", *prompts, source, start, stop, leftover)
        return node.sample(joined, add_noise, 3, 6, 2.0, *settings)[0]

    empty = {"samples": torch.zeros(FRAMES, 4, 8, 8)}
    halves = part(part(empty, 0, 3, "enable", "enable"), 3, 10000, "disable", "disable")
    assert difference(halves["samples"], run(joined, steps=6)) < 1e-4


def test_one_frame_works_and_warns(model, info):
    assert torch.equal(run(zero(model), frames=1), run(model, frames=1))
    assert len([line for line in logged(info) if "1 frame" in line]) == 1


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler_has_a_place_for_it(model, scheduler, calls, info):
    for steps in (2, 4, 20):
        if scheduler == "ddim_uniform" and steps < 10:
            continue  # ComfyUI starts it below t0: with 4 steps at timestep 751
        calls.clear()
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
        assert torch.isfinite(guided(zero(model), torch.randn(2, 4, 8, 8), sigmas, cfg=1.0)).all()
        assert logged(info) == []
        # Of the steps of the schedule at least one lies behind t1, and at most two are added: to t1, and to t0.
        assert 2 <= len(calls) <= 2 * len(sigmas)


# --- with everything else ---------------------------------------------------------------------------------------------


def test_off_is_the_model_without(model):
    plain = run(model)
    assert torch.equal(run(zero(model, anchor=OFF, warp_start=False)), plain)
    assert not torch.equal(run(warp_only(model)), plain)


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_cfg_splits_do_not_mix(model, cfg, monkeypatch, calls):
    """Cond and uncond in one call or, with little memory, in one call each: the same picture."""
    joined = zero(model, anchor=FIRST_AND_PREVIOUS)
    together = run(joined, cfg=cfg)
    assert {batch for batch, _ in calls} == {FRAMES if cfg == 1.0 else 2 * FRAMES}
    calls.clear()
    monkeypatch.setattr(type(model.model), "memory_required", lambda *args, **kwargs: 1e30)
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


@pytest.mark.parametrize("sampler_name", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_goes_on_from_the_warp_start(model, sampler_name):
    """As it would from a latent that already has the noise of t1."""
    noise, sigmas, starts = torch.randn(3, 4, 8, 8), sigmas_of(model, 4), []
    t1 = torch.tensor([model.get_model_object("model_sampling").percent_to_sigma(1 - 941 / 999)])
    out = guided(zero(model), noise, sigmas, sampler_name=sampler_name)
    guided(zero(model), noise, sigmas, callback=lambda step, x0, x, total: starts.append(x))
    start = model.model.process_latent_out(starts[1])  # one step to t1, and then the frames together
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


def test_compiled_models_do_the_same():
    """ComfyUI's node drops the guards on transformer_options, so what stands in there must not be compiled in."""
    torch._dynamo.reset()
    model = make_model(channel_mult=[1], num_res_blocks=[1], transformer_depth=[1], transformer_depth_output=[1, 1])
    for settings in ({"anchor": FIRST}, {"anchor": FIRST_AND_PREVIOUS}, {"anchor": OFF}):
        compiled = attention_only(model, **settings)
        set_torch_compile_wrapper(compiled, backend="eager", options={"guard_filter_fn": skip_torch_compile_dict})
        assert difference(run(compiled, steps=1), run(attention_only(model, **settings), steps=1)) < 1e-5


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
    model = make_model(**SMALL_UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**SMALL_UNET), ())
    joined = zero(model)
    expected = run(joined)
    assert torch.equal(run(joined.deepclone_multigpu(torch.device("cpu"))), expected)


# --- what it cannot do ------------------------------------------------------------------------------------------------


def test_flow_models_have_no_warp_start(model):
    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    flow = model.clone()
    flow.add_object_patch("model_sampling", Flow())
    with pytest.raises(ValueError, match="samples by flow matching, for which Text2Video-Zero has no warp start"):
        run(zero(flow))
    assert torch.isfinite(run(attention_only(flow))).all()


def test_models_that_are_not_for_it():
    class NoUNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.diffusion_model = torch.nn.Linear(4, 4)
            self.model_config = comfy.supported_models.Flux({"image_model": "flux"})

    flux = comfy.model_patcher.CoreModelPatcher(NoUNet(), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(ValueError, match="The connected model is Flux, which has no Stable Diffusion UNet"):
        zero(flux)
    video = make_model(
        kind=comfy.supported_models.SVD_img2vid, **SMALL_UNET, use_temporal_attention=True, use_temporal_resblock=True,
        extra_ff_mix_layer=True, merge_strategy="learned_with_images", merge_factor=0.0, video_kernel_size=[3, 1, 1],
    )  # fmt: skip
    with pytest.raises(ValueError, match="SVD_img2vid, a video model that joins its frames itself"):
        zero(video)


def test_node(model):
    (joined,) = Text2VideoZero.execute(model).args
    assert joined.get_attachment(ZERO_KEY) == Text2VideoZeroSettings()
    assert torch.equal(run(joined), run(zero(model)))
    wrong = [
        ({"t0": 950}, "t0 950 lies above t1 941"),
        ({"start_percent": 0.6, "end_percent": 0.5}, "start_percent 0.6 lies after end_percent 0.5"),
    ]
    for settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            Text2VideoZero.execute(model, **settings)
        assert message in Text2VideoZero.validate_inputs(**settings)
    assert Text2VideoZero.validate_inputs() is True
    assert Text2VideoZero.validate_inputs(t0=None) is True  # over a link
    with pytest.raises(ValueError, match=f"anchor 'last frame' is unknown. Choose one of: {', '.join(ANCHORS)}"):
        Text2VideoZero.execute(model, anchor="last frame")
