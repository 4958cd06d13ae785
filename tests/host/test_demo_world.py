"""The demo world's networks are what ComfyUI takes them for, and the short cuts in their training are exact."""

from __future__ import annotations

import comfy.model_detection
import comfy.sd
import comfy.supported_models
import pytest
import torch
from pack.animation.path_schedule import boxes_of_path
from pack.demo import models, ship, trajectory_claims
from pack.demo.assemble import TIME, UNET, VAE, checkpoint
from pack.demo.train_lora import add_lora, to_lora_file

PROMPT = "a red circle moving right on a dark background"


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """As ``ship.base``, of first weights."""
    unet = {f"{UNET}{name}": tensor for name, tensor in models.new_unet(seed=0).state_dict().items()}
    vae = {f"{VAE}{name}": tensor for name, tensor in models.new_vae(seed=0).state_dict().items() if "taesd" in name}
    return {name: tensor for name, tensor in (unet | vae).items() if not name.startswith(TIME)}


@pytest.fixture(scope="module")
def loaded(trained):
    with torch.inference_mode():
        return comfy.sd.load_state_dict_guess_config(checkpoint(ship.to_eight_bits(trained)), output_vae=True, output_clip=True)


def test_comfyui_takes_the_checkpoint_for_sd15(loaded):
    model, clip, vae, _ = loaded
    assert isinstance(model.model.model_config, comfy.supported_models.SD15)
    assert type(vae.first_stage_model).__name__ == "TAESD"
    assert clip.cond_stage_model.clip == "clip_l"


def test_unet_is_the_trained_one(loaded, trained):
    """Layer by layer; where the depth were read wrong, names or numbers would differ."""
    unet = loaded[0].model.diffusion_model.state_dict()
    expected = models.new_unet(seed=0).state_dict()
    assert list(unet) == list(expected)
    small = ship.to_eight_bits(trained)
    for name, tensor in expected.items():
        if not name.startswith("time_embed"):
            assert torch.equal(unet[name].float(), small[UNET + name].half().float()), name
        else:
            assert torch.equal(unet[name].float(), tensor.half().float()), name


def test_training_sees_the_text_as_comfyui_encodes_it(loaded):
    clip = loaded[1]
    encode = models.TextEncoder()
    for prompt in (PROMPT, ""):
        (cond, _), = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        assert torch.allclose(cond[0].float(), encode(prompt), atol=2e-3)  # half precision, for numbers up to 4
    assert not torch.allclose(encode(PROMPT), encode(PROMPT.replace("red", "blue")), atol=0.5)


def test_what_is_not_shipped_comes_out_the_same_each_time():
    for make in (models.time_embedding_weights, models.text_encoder_weights):
        first = make()
        torch.manual_seed(1)
        assert all(torch.equal(tensor, first[name]) for name, tensor in make().items())


def test_vae_scale_makes_latents_those_of_training(loaded):
    """What VAE Encode gives, times SD1.5's scale, is what the tiny encoder gives."""
    model, _, vae, _ = loaded
    images = torch.rand(2, 32, 32, 3)
    encoder = vae.first_stage_model.taesd_encoder
    expected = encoder(images.movedim(-1, 1).to(next(encoder.parameters()).dtype))
    assert torch.allclose(model.model.process_latent_in(vae.encode(images)).float(), expected.float(), atol=1e-2)


def test_lora_file_changes_what_its_training_changed(loaded):
    model = loaded[0]
    with torch.inference_mode(False), torch.enable_grad():
        unet = models.new_unet(seed=0)
        parts = add_lora(unet, rank=4)
    for number, part in enumerate(parts.values()):
        torch.manual_seed(number)
        part.up.data.normal_(std=0.05)
    patched, _ = comfy.sd.load_lora_for_models(model, None, to_lora_file(parts), 1.0, 0.0)
    patched.patch_model()
    try:
        weights = patched.model.diffusion_model.state_dict()
        plain = models.new_unet(seed=0).state_dict()
        for name, module in unet.named_modules():
            if name in parts:
                change = module.weight - plain[f"{name}.weight"]
                found = weights[f"{name}.weight"].float() - loaded_weight(trained_name=name, plain=plain)
                assert change.abs().max() > 0
                assert torch.allclose(found, change, atol=5e-3), name
    finally:
        patched.unpatch_model()


def loaded_weight(trained_name: str, plain: dict[str, torch.Tensor]) -> torch.Tensor:
    """What stands in the checkpoint before the LoRA: the weight in eight bits."""
    return ship.to_eight_bits({"x": plain[f"{trained_name}.weight"]})["x"].float()


def test_the_paths_that_a_trajectory_is_given_are_those_it_is_measured_against():
    for kind in trajectory_claims.KINDS:
        for turn in range(trajectory_claims.TURNS):
            course = trajectory_claims.Course(kind, turn)
            given = boxes_of_path(course.text, trajectory_claims.FRAMES, (0.4, 0.4))[:, :2]
            torch.testing.assert_close(given, course.centres, atol=1e-5, rtol=0)
    clips = list(trajectory_claims.clips_to_render([0, 1, 2]))
    assert len(clips) == 54
    assert len({(clip.course, clip.prompt) for clip in clips}) > 50
