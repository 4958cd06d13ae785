"""Training inside ComfyUI: what is trained is what sampling runs, and nothing but the motion model changes."""

from __future__ import annotations

import math
from dataclasses import replace

import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.supported_models
import pytest
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.weight_adapter.lora import LoRAAdapter
from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM, ModelSamplingDiscrete
from pack.motion_models import checkpoint
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput, UserError
from pack.motion_models.training.initialise import motion_model_to_continue, new_motion_model
from pack.motion_models.training.losses import NoiseSchedule
from pack.nodes.host.files.loading import load_motion_model, temporal_attention
from pack.nodes.host.training.frozen_base import FrozenBase, config_for, prediction_of
from pack.nodes.host.training.training_run import StartingPoint, make_trainer
from pack.nodes.host.types import CLIPS_KEY, KEY
from pack.nodes.training import TrainMotionModelNode

from . import world
from .training_world import FRAMES, SIZE, settings, write_clips

CLIPS = 2
FAMILIES = pytest.mark.parametrize("family", [Family.V1, Family.V2, Family.V3], ids=lambda family: family.name)


@pytest.fixture
def training():
    """As the node switches it: outside of inference mode."""
    with torch.inference_mode(False):
        yield


def with_lora(model, key="diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"):
    model = model.clone()
    rows, columns = model.model.state_dict()[key].shape
    up, down = torch.randn(rows, 2) * 0.3, torch.randn(2, columns) * 0.3
    assert model.add_patches({key: LoRAAdapter({key}, (up, down, 2.0, None, None, None))}, 1.0) == [key]
    return model


def positive(pooled=None):
    return [[world.POSITIVE[0][0], {"pooled_output": pooled}]]


def small_model():
    return world.make_model(**world.SMALL_UNET)


def small_motion(family: Family) -> dict:
    return {} if family in world.SDXL_FAMILIES else world.SMALL_MOTION


def trained_model(family: Family, **changes):
    config = world.motion_config(family, **(changes or small_motion(family)))
    return motion_model_to_continue(config, world.motion_weights(config), temporal_attention())


def drawn(timestep: int):
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(CLIPS * FRAMES, 4, SIZE, SIZE, generator=generator)
    return noisy, torch.full((CLIPS * FRAMES,), timestep), world.POSITIVE[0][0].expand(CLIPS * FRAMES, -1, -1)


def answer_of_sampling(animated, noisy, timestep: int, prediction: str, conds=world.POSITIVE):
    """What ComfyUI's sampling asks of the UNet: the denoised frames of one step, solved for the UNet's answer."""
    animated.model_options["transformer_options"][CLIPS_KEY] = CLIPS
    sigma = animated.get_model_object("model_sampling").sigmas[timestep].double()
    root = (sigma**2 + 1).sqrt()
    seen = {}

    def one_step(model, x, sigmas, extra_args=None, callback=None, disable=None):
        seen["x"] = x
        seen["denoised"] = model(x, sigmas[:1].expand(len(x)), **extra_args)
        return x

    x = (noisy * root).float()
    comfy.sample.sample_custom(
        animated, x / sigma.float(), 1.0, comfy.samplers.KSAMPLER(one_step), torch.stack([sigma.float(), torch.zeros(())]),
        conds, conds, torch.zeros_like(x), disable_pbar=True,
    )
    x, denoised = (seen[name].double() for name in ("x", "denoised"))
    return (x - denoised) / sigma if prediction == "eps" else (x / root - denoised * root) / sigma


@pytest.mark.parametrize("dressed", [lambda model: model, with_lora], ids=["base", "LoRA"])
@pytest.mark.parametrize("prediction", ["eps", "v"])
@FAMILIES
def test_the_trained_network_is_the_sampled_one(tmp_path, family, prediction, dressed):
    model = dressed(small_model())
    if prediction == "v":
        (model,) = ModelSamplingDiscrete().patch(model, "v_prediction", False)
    assert prediction_of(model) == (prediction, False)
    animated = world.animate(model, load_motion_model(world.motion_file(tmp_path, family, **world.SMALL_MOTION)))
    noisy, timesteps, context = drawn(400)
    expected = answer_of_sampling(animated, noisy, 400, prediction)
    with torch.inference_mode(False):
        found = FrozenBase(model, trained_model(family), FRAMES)(noisy.clone(), timesteps.clone(), context.clone())
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.detach().double(), expected, atol=2e-5 * scale, rtol=0)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("family", world.SDXL_FAMILIES, ids=lambda family: family.name)
def test_on_sdxl_too_the_trained_network_is_the_sampled_one(tmp_path, family, prediction):
    model = with_lora(world.make_sdxl(), "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight")
    if prediction == "v":
        (model,) = ModelSamplingDiscrete().patch(model, "v_prediction", False)
    animated = world.animate(model, load_motion_model(world.motion_file(tmp_path, family)))
    noisy, timesteps, context = drawn(400)
    pooled = torch.randn(1, world.POOLED, generator=torch.Generator().manual_seed(7))
    expected, other = (answer_of_sampling(animated, noisy, 400, prediction, positive(text)) for text in (pooled, -pooled))
    with torch.inference_mode(False):
        base = FrozenBase(model, trained_model(family), FRAMES)
        found = base(noisy.clone(), timesteps.clone(), context.clone(), pooled.clone().expand(len(noisy), -1))
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.detach().double(), expected, atol=2e-5 * scale, rtol=0)
    assert (other - expected).abs().max() > 1e-3 * scale


def test_sdxl_is_trained_and_comes_back_as_what_it_is(tmp_path):
    """Resumed bit for bit, the base as it was, the file an AnimateDiff-SDXL."""
    model = world.make_sdxl()
    before = world.state_of(model)
    clips = write_clips(tmp_path / "clips", pooled=world.POOLED)
    weights = []
    with torch.inference_mode(False):
        for folder, stops in ((None, [2]), (tmp_path / "checkpoints", [1, 2])):
            for steps in stops:
                trainer = make_trainer(model, clips, Family.V3, settings(steps=steps), folder=folder)
                list(trainer.run())
            weights.append(trainer.weights())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert trainer.motion_model.config.family is Family.SDXL
    comfy.model_management.unload_all_models()
    assert world.same_state(model, before)
    checkpoint.save(tmp_path / "sdxl.safetensors", trainer.motion_model.config, weights[0])
    assert load_motion_model(str(tmp_path / "sdxl.safetensors")).model.config.family is Family.SDXL


@FAMILIES
def test_an_untrained_motion_model_is_the_model_without(training, family):
    """Bit for bit, but for v1's norms over frames, which are part of how v1 is run."""
    model = small_model()
    base = FrozenBase(model, new_motion_model(config_for(model, family, FRAMES), temporal_attention()), FRAMES)
    noisy, timesteps, context = (part.clone() for part in drawn(300))
    bare = base._unet(noisy, timesteps.float(), context=context, transformer_options={
        "optimized_attention_override": base._options["optimized_attention_override"], "patches": {},
    })
    assert torch.equal(base(noisy, timesteps, context), bare) is (family is not Family.V1)


@world.BOTH
def test_the_base_stays_as_it_is_and_has_no_gradients(tmp_path):
    model = with_lora(small_model())
    before, image = world.state_of(model), world.sample(model)
    inside = {}
    with torch.inference_mode(False):
        trainer = make_trainer(model, write_clips(tmp_path), Family.V3, settings())
        unet = trainer._network.predict._unet
        inside = {name: parameter.clone() for name, parameter in unet.named_parameters()}
        started = trainer.weights()
        for _ in trainer.run():
            pass
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in unet.parameters())
        assert all(torch.equal(parameter, inside[name]) for name, parameter in unet.named_parameters())
        trained = trainer.weights()
        assert all(not torch.equal(trained[name], started[name]) for name in trained if "proj_out" in name)
    comfy.model_management.unload_all_models()
    assert world.same_state(model, before)
    assert torch.equal(world.sample(model), image)
    assert model.get_additional_models_with_key(KEY) == []


def test_a_model_from_outside_of_inference_mode_is_not_copied(training):
    model = small_model()
    base = FrozenBase(model, new_motion_model(config_for(model, Family.V3, FRAMES), temporal_attention()), FRAMES)
    assert base._unet is model.model.diffusion_model


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_it_learns(tmp_path, prediction):
    model = world.make_model(**world.SMALLEST_UNET)
    if prediction == "v":
        (model,) = ModelSamplingDiscrete().patch(model, "v_prediction", False)
    with torch.inference_mode(False):
        trainer = make_trainer(model, write_clips(tmp_path, count=1), Family.V3, settings(steps=50, learning_rate=3e-3))
        losses = []
        for moment in ("before", "after"):
            with torch.no_grad():  # the same noise and timesteps both times
                losses.append(trainer._loss(range(1000, 1016)).item())
            list(trainer.run())
            assert trainer.step == 50, moment
    assert trainer.settings.prediction == prediction
    assert losses[1] < 0.85 * losses[0]


class Counting:
    """Another pack's handler for spatial transformers: says which it saw, and changes what they do."""

    def __init__(self):
        self.numbers = []

    def __call__(self, layer, x, emb, context, transformer_options, *rest):
        self.numbers.append(transformer_options["transformer_index"])
        transformer_options["transformer_index"] += 1
        return layer(x, context, transformer_options) * 1.1


@pytest.mark.parametrize("handled", [False, True], ids=["alone", "other pack"])
@FAMILIES
def test_gradient_checkpointing_gives_the_same_gradients(training, family, handled):
    gradients, numbers = [], []
    for checkpointing in (False, True):
        model, handler = small_model(), Counting()
        if handled:
            model.set_model_forward_timestep_embed_patch((SpatialTransformer, handler))
        motion_model = trained_model(family)
        base = FrozenBase(model, motion_model, FRAMES, gradient_checkpointing=checkpointing)
        base(*(part.clone() for part in drawn(200))).square().sum().backward()
        gradients.append([parameter.grad for parameter in motion_model.parameters()])
        numbers.append(sorted(set(handler.numbers)))
    assert numbers[0] == numbers[1] == (list(range(7)) if handled else [])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(checkpointed, plain, atol=0, rtol=1e-5)


def test_checkpointing_keeps_less(training):
    """Bytes that autograd holds on to between the way there and back."""
    kept = []
    for checkpointing in (False, True):
        motion_model = trained_model(Family.V3, block_channels=(32, 64, 128, 128))
        base = FrozenBase(world.make_model(), motion_model, FRAMES, gradient_checkpointing=checkpointing)
        storages = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        own = {parameter.data_ptr() for network in (base._unet, motion_model) for parameter in network.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            base(*(part.clone() for part in drawn(200)))
        kept.append(sum(size for place, size in storages.items() if place not in own))
    assert kept[1] < 0.3 * kept[0]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_the_base_computes_in_the_dtype_of_training(training, tmp_path, dtype):
    seen = []
    model = small_model()
    exact = make_trainer(model, write_clips(tmp_path), Family.V3, settings(dtype="fp32"))
    trainer = make_trainer(model, write_clips(tmp_path), Family.V3, settings(dtype=dtype))
    block = trainer._network.predict._unet.input_blocks[3][0]
    handle = block.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    losses = [next(run.run()).loss for run in (exact, trainer)]
    handle.remove()
    # One UNet for both, told apart by what is cast at use.
    assert seen == [torch.float32, torch.bfloat16 if dtype == "bf16" else torch.float16]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.motion_model.parameters())


def test_latents_are_scaled_and_noised_as_the_family_was(training, tmp_path):
    """Seen by the UNet: the VAE's latents times 0.18215, at the noise of AnimateDiff's schedule, not the model's own."""
    seen = []
    clips = write_clips(tmp_path)
    trainer = make_trainer(small_model(), clips, Family.V3, settings(batch_size=1))
    base = trainer._network.predict
    trainer._network.predict = lambda *args: seen.append(args) or base(*args)
    next(trainer.run())
    noisy, timesteps, _ = seen[0]
    product = 1.0
    for step in range(int(timesteps[0]) + 1):
        product *= 1 - (0.00085 + (0.012 - 0.00085) * step / 999)
    latents = clips.sample(0, 0).latents * 0.18215
    noise = (noisy - math.sqrt(product) * latents) / math.sqrt(1 - product)
    assert noise.std() == pytest.approx(1, abs=0.1)
    assert (noise * latents).mean().abs() < 0.1 * latents.std()


def test_a_motion_model_is_trained_on(training, tmp_path):
    config = world.motion_config(Family.V2, **world.SMALL_MOTION)
    weights = world.motion_weights(config, dtype=torch.float16)
    start = StartingPoint("mine.safetensors", config, weights)
    trainer = make_trainer(small_model(), write_clips(tmp_path), start, settings(learning_rate=0.0))
    next(trainer.run())
    assert trainer.motion_model.config == replace(config, trained_frames=FRAMES)
    assert all(torch.equal(tensor, weights[name].float()) for name, tensor in trainer.weights().items())


def test_zero_terminal_snr_is_the_models(training, tmp_path):
    (model,) = ModelSamplingDiscrete().patch(small_model(), "v_prediction", True)
    trainer = make_trainer(model, write_clips(tmp_path), Family.V3, settings())
    assert trainer.settings.zero_terminal_snr
    assert NoiseSchedule(trainer.settings.beta_schedule, True).signal[-1] == 0


# --- shapes -------------------------------------------------------------------------------------------------------------

ONE_LEVEL = {
    "channel_mult": [1], "num_res_blocks": [1], "transformer_depth": [1], "transformer_depth_output": [0, 1],
    "transformer_depth_middle": -2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "family", "channels", "layers", "max_frames"),
    [
        ({}, Family.V3, (32, 64, 128, 128), 2, 32),
        ({}, Family.V2, (32, 64, 128, 128), 2, 32),
        ({}, Family.V1, (32, 64, 128, 128), 2, 24),
        (ONE_LEVEL, Family.V3, (32,), 1, 32),
    ],
)
def test_a_new_motion_model_has_the_shape_of_the_unet(changes, family, channels, layers, max_frames):
    config = config_for(world.make_model(**changes), family, 16)
    assert config.block_channels == channels
    assert config.layers_per_block == layers
    assert config.max_frames == max_frames
    assert config.has_mid_block is (family is Family.V2)


def test_a_unet_without_a_middle_is_animated(tmp_path):
    model = world.make_model(**ONE_LEVEL)
    path = world.motion_file(tmp_path, block_channels=(32,), layers_per_block=1)
    frames = world.sample(world.animate(model, load_motion_model(path)), frames=4)
    assert frames.isfinite().all()
    assert not torch.equal(frames, world.sample(model, frames=4))


def test_longer_clips_get_more_positions():
    assert config_for(small_model(), Family.V3, 48).max_frames == 48
    with pytest.raises(IncompatibleMotionModel, match="Clips of 25 frames are too long for AnimateDiff v1"):
        config_for(small_model(), Family.V1, 25)


# --- what does not go together ------------------------------------------------------------------------------------------


def refused(tmp_path, model=None, start=Family.V3, clips=None):
    with torch.inference_mode(False), pytest.raises(UserError) as caught:
        make_trainer(model or small_model(), clips or write_clips(tmp_path), start, settings())
    return str(caught.value)


def test_an_animated_model_is_refused(tmp_path):
    animated = world.animate(small_model(), load_motion_model(world.motion_file(tmp_path, **world.SMALL_MOTION)))
    assert "Connect the model from before Apply Motion Model" in refused(tmp_path / "clips", animated)


def test_v2_needs_a_middle_block(tmp_path):
    message = refused(tmp_path, world.make_model(**ONE_LEVEL), Family.V2)
    assert "AnimateDiff v2 has a motion module in the UNet's mid block, which this model doesn't have" in message


def test_another_unets_motion_model_is_refused(tmp_path):
    config = world.motion_config(block_channels=(32, 32), layers_per_block=1)
    message = refused(tmp_path, start=StartingPoint("x", config, world.motion_weights(config)))
    assert "does not fit the connected model's UNet" in message


def test_clips_that_are_too_long_for_the_motion_model_are_refused(tmp_path):
    config = world.motion_config(max_frames=3, **world.SMALL_MOTION)
    message = refused(tmp_path, start=StartingPoint("x", config, world.motion_weights(config)))
    assert "Clips of 4 frames are too long for the motion model, which has positions for 3" in message


def test_latents_of_another_vae_are_refused(tmp_path):
    assert "latents have 3 channels, but the model expects 4" in refused(tmp_path, clips=write_clips(tmp_path, channels=3))


def test_texts_of_another_encoder_are_refused(tmp_path):
    message = refused(tmp_path, clips=write_clips(tmp_path, width=10))
    assert "embeddings are 10 wide, but the model expects 16" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": comfy.supported_models.SD20}, "The connected model is SD2.x, but motion models are trained on SD1.5 or SDXL"),
        ({"kind": comfy.supported_models.SDXLRefiner}, "The connected model is SDXL Refiner, but"),
        ({"in_channels": 9}, "made for inpainting or editing: its UNet takes 9 channels, a clip's latents have 4"),
    ],
)
def test_other_bases_are_refused_before_clips_are_encoded(changes, said):
    with pytest.raises(InvalidInput, match=said):
        TrainMotionModelNode.check_lazy_status(world.make_model(**changes), family="v3")
    assert TrainMotionModelNode.check_lazy_status(small_model(), family="v3") == ["training_clips"]


def test_captions_without_what_sdxl_needs_are_refused(tmp_path):
    assert "pooled embeddings are 0 wide, but SDXL expects 24" in refused(tmp_path / "none", world.make_sdxl())
    clips = write_clips(tmp_path / "other", pooled=8)
    assert "pooled embeddings are 8 wide, but SDXL expects 24" in refused(tmp_path, world.make_sdxl(), clips=clips)


def test_what_is_trained_says_on_how_many_frames(tmp_path):
    config = world.motion_config(Family.V2, **world.SMALL_MOTION)
    start = StartingPoint("x", config, world.motion_weights(config))
    with torch.inference_mode(False):
        for begin in (Family.V3, start):
            trainer = make_trainer(small_model(), write_clips(tmp_path, frames=6), begin, settings())
            assert trainer.motion_model.config.trained_frames == 6


def test_other_ways_of_sampling_are_refused(tmp_path):
    (model,) = ModelSamplingContinuousEDM().patch(small_model(), "v_prediction", 120.0, 0.002)
    assert "predicts noise (EPS) or velocity (V)" in refused(tmp_path, model)
    (model,) = ModelSamplingDiscrete().patch(small_model(), "x0", False)
    assert "predicts noise (EPS) or velocity (V)" in refused(tmp_path, model)
