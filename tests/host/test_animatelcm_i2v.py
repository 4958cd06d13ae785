"""AnimateLCM-I2V: equal to its official code, its images in every window and clip, its encoder with other motion models."""

from __future__ import annotations

import pytest
import torch
from comfy.samplers import calculate_sigmas
from diffusers import LCMScheduler
from pack.animation.retime import Retime
from pack.motion_models import checkpoint
from pack.motion_models.beta_schedules import BETA_SCHEDULES, LINEAR_I2V
from pack.motion_models.companions.image_encoder import ImageEncoder
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput, MotionModelError
from pack.motion_models.inspect_file import inspect_file
from pack.motion_models.recognise import expected_shapes
from pack.nodes.animatelcm_i2v import AnimateLcmImageNode
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.motion import injection
from pack.nodes.host.motion.reference_images import EncodedReference, EncodedReferences
from pack.nodes.host.motion.retiming import retime_motion
from pack.nodes.host.motion.steered import MotionSettings
from pack.nodes.host.runs.applying import apply_motion_model
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.run_plan import describe_plan, plan_animation
from pack.nodes.host.training.frozen_base import check_start
from pack.nodes.host.types import CLIPS_KEY, REFERENCES_KEY
from pack.nodes.reuse_motion import ReuseMotionNode
from pack.nodes.windows import ContextWindowsNode
from safetensors.torch import load_file, save_file

from .i2v_files import make_file, new_encoder
from .test_official import OFFICIAL, make_official_model, run_unet, seeds
from .test_saving import output, save  # noqa: F401 -- a fixture
from .test_sparse_control import LatentsAre
from .world import (
    BOTH,
    NEGATIVE,
    POSITIVE,
    SMALL_MOTION,
    SMALL_UNET,
    animate,
    cond,
    make_model,
    motion_file,
    motion_weights,
    sample,
)

FRAMES, SIZE, SCALE = 12, 8, 0.18215
WIDTHS = SMALL_MOTION["block_channels"]


@pytest.fixture(scope="module")
def i2v_path(tmp_path_factory) -> str:
    config = MotionModelConfig(Family.LCM_I2V, has_mid_block=True, max_frames=64, **SMALL_MOTION)
    return make_file(tmp_path_factory.mktemp("models") / "AnimateLCM_sd15_i2v.safetensors", config, motion_weights(config))


@pytest.fixture(scope="module")
def v1_path(tmp_path_factory) -> str:
    return motion_file(tmp_path_factory.mktemp("models"), Family.V1, **SMALL_MOTION)


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


def latent(value: float = 1.0, count: int = 1) -> dict[str, torch.Tensor]:
    return {"samples": torch.full((count, 4, SIZE, SIZE), value)}


def with_image(path: str, image=None, encoder: str | None = None, **inputs):
    of = None if encoder is None else load_motion_model(encoder)
    return AnimateLcmImageNode.execute(load_motion_model(path), latent() if image is None else image, image_encoder=of, **inputs)[0]


# --- numbers ------------------------------------------------------------------------------------------------------------


@BOTH
def test_equals_the_official_unet_with_an_image_for_each_clip(tmp_path, patchers):
    model = make_official_model()
    config = MotionModelConfig(Family.LCM_I2V, seeds.BLOCK_CHANNELS, has_mid_block=True, max_frames=64)
    weights = {name: seeds.seeded(name, tuple(shape), seeds.is_norm_weight(name)) for name, shape in expected_shapes(config).items()}
    motion = with_image(make_file(tmp_path / "i2v.safetensors", config, weights, is_official=True), drift=seeds.I2V_DRIFT)
    assert motion.model.config.family is Family.LCM_I2V
    animated = apply_motion_model(model, motion, MotionSettings())
    encoded = EncodedReferences((EncodedReference(seeds.i2v_images()[:, None]),))
    out = run_unet(animated, cond_or_uncond=[0], **{CLIPS_KEY: 2, REFERENCES_KEY: encoded})
    expected = load_file(OFFICIAL / "animatelcm_i2v_outputs.safetensors")["unet"]
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()


def test_features_of_odd_sizes_are_the_official_encoders():
    encoder = new_encoder(seeds.BLOCK_CHANNELS)
    for name, parameter in encoder.named_parameters():
        parameter.copy_(seeds.seeded(f"img_encoder.{name}", tuple(parameter.shape)))
    encoding = injection.MotionCall(seeds.FRAMES).encoding(Retime(), seeds.I2V_DRIFT, seeds.BLOCK_CHANNELS[0], torch.zeros(1))
    features = encoder(seeds.i2v_images(seeds.I2V_SIZE)[:1, None], encoding)
    assert features[3].shape[-2:] == (2, 1)
    for level, found in enumerate(features):
        expected = load_file(OFFICIAL / "animatelcm_i2v_outputs.safetensors")[f"level.{level}"].transpose(1, 2)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("steps", [1, 4, 6, 8])
def test_auto_samples_as_the_official_pipeline(model, i2v_path, steps):
    sampling = ApplyMotionModelNode.execute(model, load_motion_model(i2v_path))[0].get_model_object("model_sampling")
    theirs = LCMScheduler(beta_start=0.00085, beta_end=0.014, beta_schedule="linear")
    theirs.set_timesteps(steps, original_inference_steps=200)
    alphas = (1 - BETA_SCHEDULES[LINEAR_I2V].betas()).cumprod(0)
    assert torch.allclose(alphas.float(), theirs.alphas_cumprod, rtol=1e-5)
    ours = calculate_sigmas(sampling, "simple", steps)
    assert sampling.timestep(ours[:-1]).tolist() == theirs.timesteps.tolist()
    torch.testing.assert_close(ours[:-1], ((1 - alphas) / alphas).sqrt().float()[theirs.timesteps], atol=0, rtol=1e-5)


# --- what a call sees ---------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Latents and position encodings that the encoder is given."""
    calls, forward = [], ImageEncoder.forward

    def record(self, images, encoding):
        calls.append((images, encoding))
        return forward(self, images, encoding)

    monkeypatch.setattr(ImageEncoder, "forward", record)
    return calls


def test_windows_have_the_image_and_positions_of_their_own(model, i2v_path, seen):
    """Windows 0-5, 4-9 and 6-11 for two conds and two steps each: all alike, so the encoder runs once."""
    animated = ContextWindowsNode.execute(animate(model, with_image(i2v_path)), 6, 2)[0]
    sample(animated, FRAMES, 2)
    ((images, encoding),) = seen
    assert images.shape == (1, 1, 4, SIZE, SIZE)
    assert torch.allclose(images, torch.tensor(SCALE))
    assert encoding.shape == (6, WIDTHS[0])
    assert encoding[0, :2].tolist() == [0.0, pytest.approx(0.8)]
    seen.clear()
    motion = retime_motion(with_image(i2v_path), Retime(across_windows=True))
    sample(ContextWindowsNode.execute(animate(model, motion), 6, 2)[0], FRAMES, 1)
    assert [round(encoding[0, 0].item(), 4) for _, encoding in seen] == [0.0, round(0.8 * torch.tensor(4.0).sin().item(), 4),
                                                                       round(0.8 * torch.tensor(6.0).sin().item(), 4)]  # fmt: skip


def test_an_image_for_each_frame_is_counted_in_the_clip(model, i2v_path, seen):
    images = {"samples": torch.arange(FRAMES).float()[:, None, None, None].expand(-1, 4, SIZE, SIZE)}
    animated = ContextWindowsNode.execute(animate(model, with_image(i2v_path, images)), 6, 2)[0]
    sample(animated, FRAMES, 1)
    found = [(images[0, :, 0, 0, 0] / SCALE).round().tolist() for images, _ in seen]
    assert found == [list(range(start, start + 6)) for start in (0, 4, 6)]


@pytest.mark.parametrize("windows", [False, True])
def test_each_clip_has_its_image(model, i2v_path, windows):
    """Whether sampled in one batch or one by one, as with windows, and as it would be alone."""
    images = torch.cat([latent(-3.0)["samples"], latent(3.0)["samples"]])

    def sampled(image, clips, seed):
        animated = animate(model, with_image(i2v_path, {"samples": image}))
        if windows:
            animated = ContextWindowsNode.execute(animated, 4, 2)[0]
        empty = {"samples": torch.zeros(clips * 6, 4, SIZE, SIZE)}
        return sample_clips(animated, POSITIVE, NEGATIVE, empty, clips, SamplerSettings(seed, 1, 2.0, "euler", "normal"))["samples"]

    both = sampled(images, 2, 1)
    for clip in (0, 1):
        torch.testing.assert_close(both[6 * clip : 6 * clip + 6], sampled(images[clip : clip + 1], 1, 1 + clip), atol=1e-3, rtol=1e-3)
    assert (sampled(images[:1], 1, 2) - both[6:]).abs().max() > 0.01


def test_a_prompt_for_a_part_sees_that_part_of_the_image(model, i2v_path, seen):
    halves = {"samples": torch.zeros(1, 4, SIZE, SIZE)}
    halves["samples"][..., 4:] = 1 / SCALE
    animated = animate(model, with_image(i2v_path, halves))
    sample(animated, 2, 1, cfg=1.0, positive=[entry for x in (0, 4) for entry in cond(1, area=(8, 4, 0, x))])
    assert sorted({round(images.mean().item(), 3) for images, _ in seen}) == [0.0, 1.0]


# --- a run --------------------------------------------------------------------------------------------------------------


def short(model) -> torch.Tensor:
    return sample(model, 4, 1)


@BOTH
def test_the_image_counts_where_it_should(i2v_path, patchers):
    model = make_model(**SMALL_UNET)
    without = short(animate(model, load_motion_model(i2v_path)))
    one = short(animate(model, with_image(i2v_path)))
    assert (one - short(animate(model, with_image(i2v_path, latent(3.0))))).abs().max() > 0.01
    assert (one - without).abs().max() > 0.01
    assert (one - short(animate(model, with_image(i2v_path, drift=0.0)))).abs().max() > 0.01
    assert torch.equal(short(animate(model, with_image(i2v_path, start_percent=1.0))), without)
    image, vae = torch.rand(1, 100, 50, 3), LatentsAre(torch.ones(4, 1, 1))
    torch.testing.assert_close(short(animate(model, with_image(i2v_path, image, vae=vae))), one)
    assert [pixels.shape for pixels in vae.seen] == [(1, 64, 64, 3)]


def test_at_strength_0_nothing_is_added(model, i2v_path):
    motion = with_image(i2v_path, strength=0.0)
    assert torch.equal(short(animate(model, motion)), short(animate(model, load_motion_model(i2v_path))))
    assert torch.equal(short(animate(model, with_image(i2v_path), strength=0.0)), short(model))


def test_it_counts_where_the_motion_model_does_not_run(model, i2v_path):
    """As AnimateDiff-Evolved's apply_ref_when_disabled; a range of its own turns it off there."""
    still = short(model)
    assert (short(animate(model, with_image(i2v_path), start_percent=1.0)) - still).abs().max() > 0.01
    assert torch.equal(short(animate(model, with_image(i2v_path, start_percent=1.0), start_percent=1.0)), still)


@pytest.mark.parametrize("intervals", [(2, 1), (2, 2)])
def test_nothing_is_reused_across_the_end_of_the_image(model, i2v_path, intervals):
    """Of the first two steps, which would share features, the image counts in one; reuse ends before the fourth."""
    animated = animate(model, with_image(i2v_path, end_percent=0.2))
    reusing = ReuseMotionNode.execute(animated, *intervals, start_percent=0.0)[0]
    assert torch.equal(sample(reusing, 4, 4), sample(animated, 4, 4))


def test_strength_per_frame(model, i2v_path):
    """Frames do not see one another where the motion model does not run."""
    whole, half = (
        short(animate(model, with_image(i2v_path, strength_values=values), start_percent=1.0)) for values in (None, [1.0] * 2 + [0.0] * 2)
    )
    torch.testing.assert_close(half[:2], whole[:2])
    torch.testing.assert_close(half[2:], short(model)[2:])


@BOTH
def test_other_motion_models_take_its_encoder(i2v_path, v1_path, patchers):
    """AnimateDiff v1 keeps its norms over all frames: without them the clip is another one."""
    model = make_model(**SMALL_UNET)
    motion = with_image(v1_path, encoder=i2v_path)
    assert motion.model.config.family is Family.V1
    found = short(animate(model, motion))
    assert (found - short(animate(model, load_motion_model(v1_path)))).abs().max() > 0.01
    assert torch.equal(found, short(animate(model, with_image(v1_path, encoder=i2v_path))))
    as_v3 = motion_file_like(v1_path, Family.V3)
    assert (found - short(animate(model, with_image(as_v3, encoder=i2v_path)))).abs().max() > 0.01


def motion_file_like(path: str, family: Family) -> str:
    """The same weights in a file that says it is of another family."""
    read = checkpoint.convert(load_file(path))
    other = f"{path}.{family.name}.safetensors"
    checkpoint.save(other, MotionModelConfig(family, max_frames=24, **SMALL_MOTION), read.weights)
    return other


def test_it_goes_from_file_to_file(i2v_path, v1_path, output):  # noqa: F811
    stored = load_file(i2v_path)
    encoder = {name: tensor for name, tensor in stored.items() if name.startswith("img_encoder.")}
    for layout, motion, family in (
        ("AnimateDiff", load_motion_model(i2v_path), Family.LCM_I2V), ("Diffusers", load_motion_model(i2v_path), Family.LCM_I2V),
        ("AnimateDiff", with_image(v1_path, encoder=i2v_path), Family.V1),
        ("AnimateDiff", merge_motion_models(with_image(v1_path, encoder=i2v_path), load_motion_model(v1_path), 0.5), Family.V1),
    ):  # fmt: skip
        saved = save(motion, output, layout)
        assert load_motion_model(saved).model.config.family is family
        again = load_file(saved)
        assert all(torch.equal(again[name], tensor) for name, tensor in encoder.items())


def test_inspector_and_plan_know_it(model, i2v_path):
    text = inspect_file(load_file(i2v_path), "AnimateLCM_sd15_i2v.ckpt").text
    assert text.startswith("AnimateLCM_sd15_i2v.ckpt: an AnimateLCM-I2V motion model\n")
    assert "Noise schedule linear 0.014 (AnimateLCM-I2V)." in text
    assert "Sample with the sampler lcm" in text
    assert "Give it its image with AnimateLCM-I2V Image" in text
    assert "It also contains an image encoder." in text

    def plan(motion) -> str:
        return describe_plan(plan_animation(ApplyMotionModelNode.execute(model, motion)[0], {"samples": torch.zeros(16, 4, 8, 8)}, 4, 1.0))

    text = plan(with_image(i2v_path, drift=0.5, end_percent=0.5))
    assert "animates an image of 64 x 64 pixels: drift 0.5, strength 1, from 0% to 50% of the sampling" in text
    assert "has none" not in text
    assert "was trained to animate an image, but has none" in plan(load_motion_model(i2v_path))


# --- what is wrong is said ----------------------------------------------------------------------------------------------


def test_wrong_images_are_refused(model, i2v_path, v1_path):
    pixels, vae = torch.zeros(1, 64, 64, 3), LatentsAre(torch.ones(4, 1, 1))
    for image, inputs, message in (
        (pixels, {}, "needs a VAE to become a latent. Connect the checkpoint's VAE to vae"),
        (torch.zeros(64, 64), {"vae": vae}, r"image has shape \(64, 64\), but expected are images in colour, or a latent"),
        (5, {}, "image is of type int, but expected"),
        ({"samples": torch.zeros(1, 16, 8, 8)}, {}, "image is a latent of 16 channels, but SD1.5's have 4"),
        ({"samples": torch.zeros(1, 4, 1, 8, 8)}, {}, "not a batch of frames"),
        (latent(), {"start_percent": 0.5, "end_percent": 0.2}, "start_percent 0.5 is after end_percent 0.2: the image would never be used"),
    ):
        with pytest.raises(InvalidInput, match=message):
            with_image(i2v_path, image, **inputs)
    for image, inputs, message in (
        ({"samples": torch.zeros(1, 4, 6, 8)}, {}, "The latent in image of AnimateLCM-I2V Image is for 64 x 48 pixels, but the animation has 64 x 64"),
        (latent(count=3), {}, "holds 3 images, but the clip has 8 frames. Give one image, or 8, one for each frame"),
        (pixels, {"vae": LatentsAre(torch.ones(16, 1, 1))}, "Connect the VAE of an SD1.5 checkpoint"),
        (latent(), {"strength_values": [1.0, 0.5]}, "strength_values has values for 2 frames, but a clip has 8"),
    ):
        with pytest.raises(InvalidInput, match=message):
            sample(animate(model, with_image(i2v_path, image, **inputs)))
    with pytest.raises(IncompatibleMotionModel, match="is AnimateDiff v1, which has no image encoder. Connect AnimateLCM_sd15_i2v, .* to image_encoder"):
        with_image(v1_path)
    with pytest.raises(IncompatibleMotionModel, match="is AnimateDiff v1, which has no image encoder"):
        with_image(i2v_path, encoder=v1_path)


def test_it_is_for_sd15_only(i2v_path, tmp_path):
    sdxl = motion_file(tmp_path, Family.SDXL)
    with pytest.raises(IncompatibleMotionModel, match="is for SDXL models .* but the image encoder of .* is for SD1.5 models"):
        with_image(sdxl, encoder=i2v_path)


def test_it_is_not_trained(model, i2v_path):
    for start in (Family.LCM_I2V, load_motion_model(i2v_path).model.config):
        with pytest.raises(IncompatibleMotionModel, match="Loom does not train AnimateLCM-I2V motion models"):
            check_start(model, start)


@pytest.mark.parametrize("change", ["body.2.in_conv.weight", "body.0.block1.weight", "conv_in.bias", "body.1.block1.bias", "spare"])
def test_a_damaged_encoder_is_named(change, i2v_path, tmp_path):
    weights = load_file(i2v_path)
    if change == "spare":
        weights["img_encoder.body.9.block1.weight"] = torch.zeros(1)
    else:
        del weights[f"img_encoder.{change}"]
    save_file(weights, tmp_path / "bad.safetensors")
    with pytest.raises(MotionModelError, match="it contains an image encoder, of which '"):
        load_motion_model(str(tmp_path / "bad.safetensors"))
