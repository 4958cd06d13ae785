"""Text2Video-Zero on a real UNet: against diffusers' pipeline, and against its definitions."""

from __future__ import annotations

import logging

import comfy.samplers
import comfy.supported_models
import comfy.utils
import nodes
import pytest
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from diffusers import DDIMScheduler, TextToVideoZeroPipeline, UNet2DConditionModel
from pack.nodes.host.runs.zero_shot_video import FIRST, FIRST_AND_PREVIOUS, OFF, PREVIOUS, anchor_places

from .world import CONTEXT, NEGATIVE, POSITIVE, SMALL_UNET, UNET_CONFIG, make_model
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
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D"] * 2, up_block_types=["CrossAttnUpBlock2D"] * 2,
        attention_head_dim=UNET_CONFIG["num_heads"], cross_attention_dim=CONTEXT,
    )  # fmt: skip
    weights = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers({**UNET_CONFIG, **SMALL_UNET})
    unet.load_state_dict({theirs: weights[ours] for theirs, ours in names.items() if ours in weights})
    return unet


def test_equals_the_pipeline_of_diffusers():
    """Cross-frame attention, warp start and all: the same latents in the end."""
    model = make_model(**SMALL_UNET)
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


def test_each_call_has_all_frames_and_the_run_its_number_of_steps(model):
    """ControlNet hints and prompts for each frame are cut to the first call's batch, so no call may have less."""
    with calls_of(model) as calls:
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
        assert "no warp start, because the sampler starts from given frames" in line


def test_a_run_that_starts_late_is_left_alone(model, info):
    assert torch.equal(run(zero(model), denoise=0.5), run(attention_only(model), denoise=0.5))
    assert any("the run does not pass t0 and t1" in line for line in logged(info))


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
    assert len([line for line in logged(info) if "a single frame" in line]) == 1


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler_has_a_place_for_it(model, scheduler, info):
    for steps in (2, 4, 20):
        if scheduler == "ddim_uniform" and steps < 10:
            continue  # ComfyUI starts it below t0: with 4 steps at timestep 751
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
        with calls_of(model) as calls:
            assert torch.isfinite(guided(zero(model), torch.randn(2, 4, 8, 8), sigmas, cfg=1.0)).all()
        assert logged(info) == []
        # Of the steps of the schedule at least one lies behind t1, and at most two are added: to t1, and to t0.
        assert 2 <= len(calls) <= 2 * len(sigmas)
