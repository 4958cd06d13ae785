"""Motion modules behind the layers of a real UNet that stays what it was."""

from __future__ import annotations

import gc
import logging

import comfy.context_windows
import comfy.controlnet
import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.supported_models
import nodes
import pytest
import torch
from comfy.cldm.cldm import ControlNet as ControlNetModel
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput
from pack.motion_models.motion_model import MotionModule
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion import injection as injection
from pack.nodes.host.motion import unet as unet

from .world import (
    BOTH,
    NEGATIVE,
    POSITIVE,
    SMALL_MOTION,
    SMALL_UNET,
    UNET_CONFIG,
    animate,
    cond,
    make_model,
    motion_file,
    same_state,
    sample,
    state_of,
)


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture(scope="module", params=[Family.V1, Family.V2, Family.V3], ids=lambda family: family.name)
def motion(request, patchers, tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), request.param, **SMALL_MOTION))


# The family that most is done for: norms over frames, put in for each call and taken out again.
WITH_NORMS = pytest.mark.parametrize("motion", [Family.V1], ids=["V1"], indirect=True)


@pytest.fixture(scope="module")
def v3(patchers, tmp_path_factory):
    with torch.inference_mode():
        return load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALL_MOTION))


@pytest.fixture
def calls(monkeypatch) -> list[tuple[int, int]]:
    """(batch, frames) of every motion-module call."""
    record, original = [], MotionModule.forward

    def forward(self, hidden_states, inputs, **options):
        record.append((hidden_states.shape[0], inputs.num_frames))
        return original(self, hidden_states, inputs, **options)

    monkeypatch.setattr(MotionModule, "forward", forward)
    return record


def test_followed_layers_of_sd15():
    model = make_model()
    layers = unet.followed_layers(model.model.diffusion_model)
    blocks = model.model.diffusion_model.input_blocks
    assert [i for i, block in enumerate(blocks) if any(layer in list(block) for layer in layers["down"])] == [1, 2, 4, 5, 7, 8, 10, 11]
    assert len(layers["up"]) == len(model.model.diffusion_model.output_blocks) == 12
    kinds = [type(layer) for layer in layers["up"]]
    assert kinds == [ResBlock] * 3 + [SpatialTransformer] * 9
    assert layers["mid"] == [model.model.diffusion_model.middle_block[1]]


@pytest.mark.parametrize("family", [Family.V2, Family.V3], ids=lambda family: family.name)
def test_every_module_runs_once_a_call_behind_its_layer(family, tmp_path, calls):
    sample(animate(make_model(), load_motion_model(motion_file(tmp_path, family))), steps=1, frames=8)
    assert len(calls) == (21 if family is Family.V2 else 20)
    assert set(calls) == {(16, 8)}


def test_strength_0_is_the_model_without(model, motion):
    assert torch.equal(sample(animate(model, motion, strength=0.0)), sample(model))


def test_motion_changes_the_picture_and_joins_frames(model, motion):
    animated, plain = sample(animate(model, motion)), sample(model)
    assert torch.isfinite(animated).all()
    assert (animated - plain).abs().max() > 1e-3
    other = sample(animate(model, motion), latent=torch.cat([torch.zeros(7, 4, 8, 8), torch.ones(1, 4, 8, 8)]), denoise=0.5)
    same = sample(animate(model, motion), latent=torch.zeros(8, 4, 8, 8), denoise=0.5)
    assert (other - same)[:7].abs().max() > 1e-5  # the last frame is seen by the first seven


@BOTH
@WITH_NORMS
def test_two_branches_off_one_loader(model, motion):
    one, half = animate(model, motion), animate(model, motion, strength=0.5)
    alone = sample(one)
    assert not torch.equal(sample(half), alone)
    assert torch.equal(sample(one), alone)
    del half
    gc.collect()
    assert torch.equal(sample(one), alone)


def test_base_only_before_and_after(model, motion):
    before, state = sample(model), state_of(model)
    sample(animate(model, motion))
    assert torch.equal(sample(model), before)
    assert same_state(model, state)


def test_nothing_is_added_to_the_unet(model, motion):
    animated = animate(model, motion)
    modules, keys = list(model.model.diffusion_model.modules()), list(model.model.state_dict())
    sample(animated)
    assert list(model.model.diffusion_model.modules()) == modules
    assert list(animated.model.state_dict()) == keys
    assert list(animated.model_state_dict_for_saving()) == list(model.model_state_dict_for_saving())
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())


def test_applying_again_replaces(model, motion, calls):
    twice = animate(animate(model, motion, strength=0.3), motion)
    assert len(twice.get_additional_models_with_key(injection.KEY)) == 1
    assert all(len(wrappers[injection.KEY]) == 1 for wrappers in twice.wrappers.values() if injection.KEY in wrappers)
    again = sample(twice, steps=1)
    assert len(calls) in (6, 7)
    assert torch.equal(again, sample(animate(model, motion), steps=1))


def test_two_motion_models_run_in_order(model, v3, tmp_path, calls):
    other = load_motion_model(motion_file(tmp_path, Family.V2, seed=7, **SMALL_MOTION))
    both = animate(animate(model, v3), other)
    result = sample(both, steps=1)
    assert len(calls) == 13
    assert not torch.equal(result, sample(animate(animate(model, other), v3), steps=1))
    assert torch.equal(sample(animate(animate(model, v3), other, strength=0.0), steps=1), sample(animate(model, v3), steps=1))


@pytest.mark.parametrize("block", [0, 1])
def test_steps_run_after_their_layer_in_order(model, v3, block):
    """After the first convolution, which no motion module follows, and around the motion module of a down block."""
    network = model.model.diffusion_model
    layer = network.input_blocks[0][0] if block == 0 else unet.followed_layers(network)["down"][0]
    seen = []

    def toy(number: int):
        def step(x, call, options):
            assert call.num_frames == 8
            assert options["cond_or_uncond"] == [0]
            seen.append((number, x.clone()))
            return x + number

        return step

    def add_steps(executor, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
        steps = transformer_options[injection.KEY].after.setdefault(layer, [])
        steps[:] = [toy(1), *steps, toy(2), toy(3)]
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)

    animated, outputs = animate(model, v3), []
    animated.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", add_steps)
    module = v3.model.modules_by_part["down"][0]
    watched = [layer, module, network.input_blocks[1][0] if block == 0 else network.input_blocks[2][0]]
    hooks = [each.register_forward_hook(lambda each, args, out: outputs.append((args[0].clone(), out.clone()))) for each in watched]
    try:
        sample(animated, steps=1, cfg=1.0)
    finally:
        for hook in hooks:
            hook.remove()
    assert [number for number, _ in seen] == [1, 2, 3]
    after_layer, after_motion = seen[0][1], seen[1][1]
    assert torch.equal(outputs[0][1], after_layer)
    if block == 0:
        assert torch.equal(after_motion, after_layer + 1)
        assert torch.equal(outputs[1][0], seen[2][1] + 3)
    else:
        assert torch.equal(outputs[1][0], after_layer + 1)
        assert torch.equal(outputs[1][1], after_motion)
        assert torch.equal(outputs[2][0], seen[2][1] + 3)


# --- every way ComfyUI may split a batch -----------------------------------------------------------------------------


def test_cfg_1_runs_one_cond(model, v3, calls):
    sample(animate(model, v3), steps=1, cfg=1.0)
    assert set(calls) == {(8, 8)}


def test_cfg_splits_do_not_mix(model, v3, monkeypatch):
    """Cond and uncond in one call or, with little memory, in one call each: the same picture."""
    animated = animate(model, v3)
    together = sample(animated, cfg=7.5)
    monkeypatch.setattr(type(model.model), "memory_required", lambda *args, **kwargs: 1e30)
    apart = sample(animated, cfg=7.5)
    assert (apart - together).abs().max() < 1e-5 * together.abs().max()


def test_several_positives(model, v3, calls):
    sample(animate(model, v3), steps=1, positive=cond(1) + cond(5))
    assert set(calls) == {(24, 8)}


def test_area_conditioning(model, v3, calls):
    positive = cond(1) + cond(5, area=(4, 8, 0, 0), strength=1.0)
    out = sample(animate(model, v3), steps=1, positive=positive)
    assert torch.isfinite(out).all()
    assert {frames for _, frames in calls} == {8}


def test_noise_mask_keeps_what_it_covers(model, v3):
    latent = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1.0
    out = sample(animate(model, v3), latent=latent, noise_mask=mask)
    torch.testing.assert_close(out[..., 4:], latent[..., 4:], atol=1e-5, rtol=0)
    assert (out[..., :4] - latent[..., :4]).abs().mean() > 0.1


def test_one_prompt_for_each_frame(model, v3):
    """A batch of conds, as prompt travel makes: the same prompt on every frame equals one prompt."""
    single = sample(animate(model, v3), positive=cond(1))
    tensor, options = cond(1)[0]
    each = sample(animate(model, v3), positive=[[tensor.expand(8, -1, -1).contiguous(), options]])
    torch.testing.assert_close(each, single, atol=1e-4, rtol=0)


def test_controlnet_with_a_hint_for_each_frame(model, v3):
    config = {**UNET_CONFIG, **SMALL_UNET, "dtype": torch.float32, "hint_channels": 3}
    for unused in ("out_channels", "transformer_depth_output", "use_temporal_resblock", "use_temporal_attention"):
        config.pop(unused, None)
    network = ControlNetModel(**config, operations=comfy.ops.disable_weight_init)
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    control = comfy.controlnet.ControlNet(
        network, load_device=torch.device("cpu"), manual_cast_dtype=torch.float32
    )
    hints = torch.rand(8, 3, 64, 64, generator=generator)

    def controlled(image):
        net = control.copy().set_cond_hint(image, 1.0, (0.0, 1.0))
        with_control = [[tensor, {**options, "control": net, "control_apply_to_uncond": True}] for tensor, options in POSITIVE]
        without = [[tensor, {**options, "control": net, "control_apply_to_uncond": True}] for tensor, options in NEGATIVE]
        return sample(animate(model, v3), positive=with_control, negative=without)

    out = controlled(hints)
    assert (out - sample(animate(model, v3))).abs().max() > 1e-3
    assert (out - controlled(hints.flip(0))).abs().max() > 1e-4  # each frame has its own hint


@pytest.mark.parametrize(
    "patch",
    [
        lambda m: FreeU_V2.execute(m, 1.3, 1.4, 0.9, 0.2)[0],
        lambda m: RescaleCFG().patch(m, 0.7)[0],
        lambda m: PerturbedAttentionGuidance.execute(m, 3.0)[0],
    ],
    ids=["FreeU", "RescaleCFG", "PAG"],
)
def test_core_patches_go_together(model, v3, patch):
    """Before or after Apply Motion Model, on top of each other's effect."""
    after, before = sample(patch(animate(model, v3))), sample(animate(patch(model), v3))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert torch.isfinite(after).all()
    assert (after - sample(animate(model, v3))).abs().max() > 1e-5
    assert (after - sample(patch(model))).abs().max() > 1e-4


def test_lora_on_the_same_model(model, v3):
    state = state_of(model)
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    generator = torch.Generator().manual_seed(6)
    up, down = torch.randn(64, 4, generator=generator), torch.randn(4, 64, generator=generator)
    patches = comfy.lora.load_lora({"x.lora_up.weight": up, "x.lora_down.weight": down}, {"x": key})
    with_lora = model.clone()
    assert with_lora.add_patches(patches, 1.0) == [key]
    personalised = sample(animate(with_lora, v3))
    assert (personalised - sample(animate(model, v3))).abs().max() > 1e-4
    later = animate(model, v3)
    later.add_patches(patches, 1.0)
    assert torch.equal(sample(later), personalised)
    sample(model)
    assert same_state(model, state)


def test_another_packs_handler_for_the_same_layers_still_runs(model, v3):
    seen = []

    def foreign(layer, x, emb, context, transformer_options, *rest):
        seen.append(transformer_options["block"])
        transformer_options["transformer_index"] += 1
        return layer(x, context, transformer_options)

    plain = sample(animate(model, v3), steps=1)
    first = model.clone()
    first.set_model_forward_timestep_embed_patch((SpatialTransformer, foreign))
    assert torch.equal(sample(animate(first, v3), steps=1), plain)
    assert len(seen) == 7
    after = animate(model, v3)
    after.set_model_forward_timestep_embed_patch((SpatialTransformer, foreign))
    assert torch.equal(sample(after, steps=1), plain)
    assert len(seen) == 14


def test_transformers_keep_their_numbers(model, v3):
    """IPAdapter-like packs address transformers by number."""

    def numbers(m):
        seen = []
        m = m.clone()

        def patch(n, context, value, extra):
            seen.append((extra["block"], extra["transformer_index"]))
            return n, context, value

        m.set_model_attn1_patch(patch)
        sample(m, steps=1)
        return seen

    assert numbers(animate(model, v3)) == numbers(model)


# --- range, values, frames -------------------------------------------------------------------------------------------


def test_range_of_the_run(model, v3, calls):
    whole = sample(animate(model, v3), steps=4)
    modules = len(calls) // 4
    calls.clear()
    first = sample(animate(model, v3, end_percent=0.5), steps=4)
    assert 0 < len(calls) < 4 * modules
    calls.clear()
    sample(animate(model, v3, start_percent=0.5), steps=4)
    assert 0 < len(calls) < 4 * modules
    assert not torch.equal(first, whole)
    calls.clear()
    sample(animate(model, v3, start_percent=0.999, end_percent=0.9991), steps=4)
    assert calls == []


def test_outside_of_its_range_a_motion_model_costs_nothing(model, v3):
    """No layer of it runs, nothing is passed down to the UNet, and the picture is that without, bit for bit."""
    ran, passed_down = [], []

    def note(executor, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
        passed_down.append(transformer_options[injection.KEY])
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)

    def run(**range_of_the_run) -> torch.Tensor:
        ran.clear()
        passed_down.clear()
        animated = animate(model, v3, **range_of_the_run)
        animated.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", note)
        return sample(animated, steps=4)

    hooks = [layer.register_forward_hook(lambda layer, *args: ran.append(layer)) for layer in v3.model.modules()]
    try:
        outside = run(start_percent=0.5, end_percent=0.5001)
        assert (ran, passed_down) == ([], [None] * 4)
        assert torch.equal(outside, sample(model, steps=4))
        run(end_percent=0.4)
        inside = sum(call is not None for call in passed_down)
        assert 0 < inside < 4
        assert ran.count(v3.model.modules_by_part["down"][0]) == inside
    finally:
        for hook in hooks:
            hook.remove()


def test_values_for_each_frame_equal_a_number(model, v3):
    expected = sample(animate(model, v3, motion_scale=1.2, strength=0.5))
    values = {"motion_scale_values": torch.full((8, 1, 1), 1.2), "strength_values": torch.full((8, 16, 16), 0.5)}
    torch.testing.assert_close(sample(animate(model, v3, **values)), expected, atol=1e-5, rtol=0)
    halves = {"motion_scale": 2.4, "motion_scale_values": torch.full((1, 1, 1), 0.5), "strength": 0.5}
    torch.testing.assert_close(sample(animate(model, v3, **halves)), expected, atol=1e-5, rtol=0)


def test_values_for_the_wrong_number_of_frames(model, v3):
    with pytest.raises(InvalidInput, match="strength_values has values for 5 frames, but a clip has 8"):
        sample(animate(model, v3, strength_values=torch.ones(5, 1, 1)))


def test_one_frame_works_and_warns_once(model, motion, caplog):
    with caplog.at_level(logging.WARNING, logger="comfyui-animatediff-loom"):
        out = sample(animate(model, motion), frames=1, steps=3)
    assert torch.isfinite(out).all()
    assert len([r for r in caplog.records if "single frame" in r.message]) == 1


# --- context windows of core -----------------------------------------------------------------------------------------


def with_windows(model, **options):
    model = model.clone()
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=8, context_overlap=4, dim=0, **options,
    )
    return model


@pytest.mark.parametrize("anchor", [False, True])
def test_core_context_windows(model, v3, calls, anchor):
    out = sample(with_windows(animate(model, v3), causal_window_fix=anchor), frames=20, steps=1)
    assert out.shape[0] == 20
    assert torch.isfinite(out).all()
    assert {frames for _, frames in calls} == ({8, 9} if anchor else {8})


def test_values_follow_core_context_windows(model, v3):
    """Frames with strength 0 are the plain model's, wherever the windows put them."""
    strength = torch.ones(12, 1, 1)
    strength[4:8] = 0.0
    windows = {"causal_window_fix": False}
    plain = sample(with_windows(model, **windows), frames=12, steps=1)
    animated = sample(with_windows(animate(model, v3, strength_values=strength), **windows), frames=12, steps=1)
    torch.testing.assert_close(animated[4:8], plain[4:8], atol=1e-5, rtol=0)
    assert (animated - plain)[[0, 11]].abs().max() > 1e-3


# --- after things go wrong -------------------------------------------------------------------------------------------


class _OutOfMemory(torch.OutOfMemoryError):
    pass


@BOTH
@WITH_NORMS
@pytest.mark.parametrize("failure", ["interrupt", "exception", "out of memory"])
def test_what_goes_wrong_in_mid_run_leaves_nothing(model, motion, failure, monkeypatch):
    animated = animate(model, motion)
    good, plain, state = sample(animated), sample(model), state_of(model)
    original, count = MotionModule.forward, []

    def failing(self, *args, **kwargs):
        count.append(1)
        if len(count) == 9:  # in the second step
            if failure == "interrupt":
                raise comfy.model_management.InterruptProcessingException
            raise _OutOfMemory("test") if failure == "out of memory" else RuntimeError("test")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(MotionModule, "forward", failing)
    with pytest.raises((comfy.model_management.InterruptProcessingException, RuntimeError)):
        sample(animated)
    monkeypatch.setattr(MotionModule, "forward", original)
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())
    assert torch.equal(sample(animated), good)
    assert torch.equal(sample(model), plain)
    assert same_state(model, state)


# --- who goes with whom ----------------------------------------------------------------------------------------------


def test_another_width(model, tmp_path):
    wide = load_motion_model(motion_file(tmp_path, block_channels=(64, 128), layers_per_block=1))
    with pytest.raises(IncompatibleMotionModel, match="does not fit the connected model's UNet: its down blocks are"):
        animate(model, wide)


def test_another_base(v3):
    sd2 = make_model(kind=comfy.supported_models.SD20, **SMALL_UNET)
    with pytest.raises(IncompatibleMotionModel, match=r"'v3_0.safetensors' is for SD1.5, but the connected model is SD2.x"):
        animate(sd2, v3)
    sdxl = make_model(kind=comfy.supported_models.SDXL, **SMALL_UNET)
    with pytest.raises(IncompatibleMotionModel, match=r"is for SD1.5, but the connected model is SDXL"):
        animate(sdxl, v3)


def test_a_model_without_a_unet(v3):
    class NoUNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.diffusion_model = torch.nn.Linear(4, 4)
            self.model_config = comfy.supported_models.Flux({"image_model": "flux"})

    flux = comfy.model_patcher.CoreModelPatcher(NoUNet(), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(IncompatibleMotionModel, match="The connected model is Flux, which has no Stable Diffusion UNet"):
        animate(flux, v3)


@BOTH
def test_a_second_device_gets_its_own_motion_model(v3, tmp_path):
    """Multi-GPU clones every model through its loader."""
    model = make_model(**SMALL_UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**SMALL_UNET), ())
    animated = animate(model, v3)
    expected = sample(animated)
    clone = animated.deepclone_multigpu(torch.device("cpu", 1))
    assert clone.get_additional_models_with_key(injection.KEY)[0].model is not v3.model
    assert torch.equal(sample(clone), expected)


def test_ksampler_advanced_in_two_parts(model, v3):
    """The first steps in one node, the rest in another, as upscaling workflows do: together they are one run."""
    animated, latent = animate(model, v3), {"samples": torch.zeros(8, 4, 8, 8)}
    node, prompts = nodes.KSamplerAdvanced(), (POSITIVE, NEGATIVE)

    def run(source, start, stop, add_noise, leftover):
        settings = ("euler", "normal", *prompts, source, start, stop, leftover)
        return node.sample(animated, add_noise, 3, 4, 2.0, *settings)[0]

    whole = run(latent, 0, 10000, "enable", "disable")
    halves = run(run(latent, 0, 2, "enable", "enable"), 2, 10000, "disable", "disable")
    assert torch.equal(whole["samples"], sample(animated, steps=4))
    assert (halves["samples"] - whole["samples"]).abs().max() < 1e-4 * whole["samples"].abs().max()


def test_custom_sampler_and_guider(model, v3):
    animated = animate(model, v3)
    guider = comfy.samplers.CFGGuider(animated)
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(2.0)
    sigmas = comfy.samplers.calculate_sigmas(animated.get_model_object("model_sampling"), "normal", 2)
    latent = torch.zeros(8, 4, 8, 8)
    out = guider.sample(
        comfy.sample.prepare_noise(latent, 3), latent, comfy.samplers.sampler_object("euler"), sigmas,
        disable_pbar=True, seed=3,
    )
    assert torch.equal(out, sample(animated))
