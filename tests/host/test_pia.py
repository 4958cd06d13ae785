"""PIA: equal to its official code, its image at a frame of the clip whatever part of that a call holds."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import numpy as np
import pytest
import torch
from pack.animation.image_similarity import PRESETS, Similarity
from pack.demo.models import new_vae
from pack.motion_models.companions.image_input import ImageInput
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput, MotionModelError
from pack.motion_models.inspect_file import inspect_file
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.motion.image_inputs import EncodedImages
from pack.nodes.host.motion.steered import MotionSettings
from pack.nodes.host.runs.applying import apply_motion_model
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.run_plan import describe_plan, plan_animation
from pack.nodes.host.training.frozen_base import check_start
from pack.nodes.host.types import IMAGES_KEY
from pack.nodes.pia import PiaImageNode
from pack.nodes.windows import ContextWindowsNode
from safetensors.torch import load_file, save_file

from .test_official import OFFICIAL, make_motion_file, make_official_model, run_unet, seeds
from .test_saving import output, save  # noqa: F401 -- a fixture
from .test_sparse_control import LatentsAre
from .world import BOTH, NEGATIVE, POSITIVE, SMALL_MOTION, SMALL_UNET, animate, cond, make_model, motion_file, sample

FRAMES, SIZE, SCALE = 12, 8, 0.18215


def add_image_input(path: str, weights: dict[str, torch.Tensor]) -> str:
    """Make a motion model's file without metadata a PIA's."""
    save_file(load_file(path) | weights, path)
    return path


@pytest.fixture(scope="module")
def pia_path(tmp_path_factory) -> str:
    path = motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALL_MOTION)
    generator = torch.Generator().manual_seed(5)
    return add_image_input(path, {"conv_in.weight": torch.randn(32, 9, 3, 3, generator=generator) * 0.1, "conv_in.bias": torch.randn(32)})


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


def with_image(path: str, vae=None, image=None, **inputs):
    vae = LatentsAre(torch.ones(4, 1, 1)) if vae is None else vae
    image = torch.zeros(1, 64, 64, 3) if image is None else image
    return PiaImageNode.execute(load_motion_model(path), image, vae, **inputs)[0]


# --- numbers ------------------------------------------------------------------------------------------------------------


@BOTH
def test_equals_the_official_unet_with_an_image(tmp_path, patchers):
    model = make_official_model()
    path = add_image_input(make_motion_file(tmp_path / "pia.safetensors", Family.V3), seeds.pia_weights())
    image, frame, preset = seeds.pia_image()
    motion = with_image(path, frame=frame, motion=list(PRESETS)[preset])
    assert motion.model.config.family is Family.PIA
    animated = apply_motion_model(model, motion, MotionSettings())
    out = run_unet(animated, **{IMAGES_KEY: EncodedImages((image,))})
    expected = load_file(OFFICIAL / "pia_outputs.safetensors")["pia"]
    assert (out - expected).abs().max() < 1e-5 * expected.abs().max()


def test_presets_are_those_of_the_official_list():
    """For 16 frames, as ``prepare_mask_coef_by_statistics`` makes them; AnimateDiff-Evolved's loops are mirrored."""
    for name, values in ((name, values) for name, values in PRESETS.items() if not name.startswith("mirrored")):
        for frame in (0, 5, 15):
            expected = [(*values, *[values[-1]] * 16)[abs(k - frame)] for k in range(16)]
            assert Similarity(name, frame).over(16) == expected
    assert Similarity("small motion", -1).over(4) == [0.85, 0.85, 0.9, 1.0]
    loop = Similarity("loop, large motion").over(32)
    assert (loop[0], loop[-1], min(loop)) == (1.0, 1.0, 0.5)
    assert np.argmin(loop) in range(12, 20)
    assert Similarity("mirrored loop, large motion").over(5) == [1.0, 0.8, 0.7, 0.8, 1.0]
    assert Similarity("mirrored loop, small motion", -1).over(14) == [1.0, 0.9, *[0.85] * 3, *[0.8] * 4, *[0.85] * 3, 0.9, 1.0]


# --- which frames a call sees -------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Similarity and image that each call gives to PIA's input."""
    calls, forward = [], ImageInput.forward

    def record(self, similarity, image):
        calls.append((similarity, image))
        return forward(self, similarity, image)

    monkeypatch.setattr(ImageInput, "forward", record)
    return calls


def of_frames(similarity: torch.Tensor) -> list[float]:
    return [round(value, 4) for value in similarity[:, 0, 0, 0].tolist()]


def test_similarity_is_counted_in_the_clip(model, pia_path, seen):
    """Windows 0-5, 4-9 and 6-11 of a clip whose frame 5 is the image, for two conds each."""
    values = Similarity("small motion", 5).over(FRAMES)
    motion = with_image(pia_path, frame=5, motion="small motion")
    animated = ContextWindowsNode.execute(animate(model, motion), 6, 2)[0]
    sample(animated, FRAMES, 1)
    assert [of_frames(similarity) for similarity, _ in seen] == [values[start : start + 6] * 2 for start in (0, 4, 6)]
    assert all(torch.allclose(image, torch.tensor(SCALE)) for _, image in seen)


def test_values_and_masks_take_the_place_of_a_preset(model, pia_path, seen):
    sample(animate(model, with_image(pia_path, similarity_values=[k / 10 for k in range(8)])), 8, 1, cfg=1.0)
    assert of_frames(seen[0][0]) == [k / 10 for k in range(8)]
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :, :4] = 1.0
    sample(animate(model, with_image(pia_path, similarity_values=mask)), 8, 1, cfg=1.0)
    assert all(torch.equal(frame[0], mask[0]) for frame in seen[1][0])


def test_similarity_multiplies_and_the_last_value_may_go_on(model, pia_path, seen):
    sample(animate(model, with_image(pia_path, motion="large motion", similarity=0.5)), 8, 1, cfg=1.0)
    sample(animate(model, with_image(pia_path, similarity_values=[1.0, 0.6], similarity=0.5, hold_last_value=True)), 8, 1, cfg=1.0)
    assert [of_frames(similarity) for similarity, _ in seen] == [[0.5, 0.4, *[0.35] * 6], [0.5, *[0.3] * 7]]


def test_each_clip_of_a_batch_has_the_image(model, pia_path, seen):
    animated = animate(model, with_image(pia_path, motion="large motion"))
    latent = {"samples": torch.zeros(8, 4, SIZE, SIZE)}
    sample_clips(animated, POSITIVE, NEGATIVE, latent, 2, SamplerSettings(1, 1, 2.0, "euler", "normal"))
    assert of_frames(seen[0][0]) == Similarity("large motion").over(4) * 4


def test_a_prompt_for_a_part_sees_that_part_of_the_image(model, pia_path, seen):
    latent = torch.zeros(4, SIZE, SIZE)
    latent[:, :, :4] = 1 / SCALE
    animated = animate(model, with_image(pia_path, LatentsAre(latent)))
    sample(animated, 2, 1, cfg=1.0, positive=[entry for x in (0, 4) for entry in cond(1, area=(8, 4, 0, x))])
    found = sorted({round(part.mean().item(), 3) for _, image in seen for part in image.split(1)})
    assert found == [0.0, 1.0]


# --- a run --------------------------------------------------------------------------------------------------------------


@BOTH
def test_the_image_counts_and_is_encoded_once(pia_path, patchers):
    model = make_model(**SMALL_UNET)
    still = sample(model)
    vaes = [LatentsAre(torch.full((4, 1, 1), value)) for value in (1.0, 5.0)]
    one, other = (sample(animate(model, with_image(pia_path, vae, torch.rand(1, 100, 50, 3)))) for vae in vaes)
    assert (one - other).abs().max() > 0.01
    assert [[pixels.shape for pixels in vae.seen] for vae in vaes] == [[(1, 64, 64, 3)]] * 2
    assert torch.equal(sample(animate(model, with_image(pia_path), strength=0.0)), still)
    assert torch.equal(sample(model), still)


@BOTH
def test_a_vae_encodes_before_the_run(pia_path, patchers):
    model, vae, image = make_model(**SMALL_UNET), comfy.sd.VAE(sd=new_vae(0).state_dict()), torch.rand(1, 64, 64, 3)
    out = sample(animate(model, with_image(pia_path, vae, image)))
    assert torch.allclose(sample(animate(model, with_image(pia_path, LatentsAre(*vae.encode(image)), image))), out, atol=1e-5)


def test_it_goes_from_file_to_file_and_stays_with_its_motion_model(pia_path, output, tmp_path):  # noqa: F811
    saved = save(load_motion_model(pia_path), output, "Diffusers")
    again, stored = load_motion_model(saved), load_file(pia_path)
    assert again.model.config.family is Family.PIA
    assert torch.equal(load_file(saved)["conv_in.weight"], stored["conv_in.weight"])
    other = load_motion_model(motion_file(tmp_path, Family.V3, seed=1, **SMALL_MOTION))
    merged = merge_motion_models(with_image(pia_path), other, 0.5)
    assert "animates an image of 64 x 64 pixels: medium motion, from frame 0" in describe_plan(
        plan_animation(animate(make_model(**SMALL_UNET), merged), {"samples": torch.zeros(4, 4, 8, 8)}, 20, 7.5)
    )


def test_the_inspector_knows_it(pia_path):
    text = inspect_file(load_file(pia_path), "pia.ckpt").text
    assert text.startswith("pia.ckpt: a PIA motion model\n")
    assert "It also contains an input for an image." in text
    assert "Give it its image with PIA Image" in text


# --- what is wrong is said ----------------------------------------------------------------------------------------------


def test_wrong_images_are_refused(model, pia_path, tmp_path):
    v3 = load_motion_model(motion_file(tmp_path, Family.V3, **SMALL_MOTION))
    image, vae = torch.zeros(1, 64, 64, 3), LatentsAre(torch.ones(4, 1, 1))
    with pytest.raises(IncompatibleMotionModel, match="is AnimateDiff v3, which takes no image. Load a PIA motion model"):
        PiaImageNode.execute(v3, image, vae)
    with pytest.raises(InvalidInput, match=r"image has shape \(2, 64, 64, 3\), but expected is one image"):
        with_image(pia_path, image=torch.zeros(2, 64, 64, 3))
    with pytest.raises(InvalidInput, match="animates an image, but has none. Put PIA Image between"):
        sample(animate(model, load_motion_model(pia_path)))
    with pytest.raises(InvalidInput, match="frame of PIA Image is 8, but the clip has 8 frames, 0 to 7"):
        sample(animate(model, with_image(pia_path, frame=8)))
    with pytest.raises(InvalidInput, match="similarity_values has values for 3 frames, but a clip has 8"):
        sample(animate(model, with_image(pia_path, similarity_values=[1.0, 0.5, 0.5])))
    with pytest.raises(InvalidInput, match="Connect the VAE of an SD1.5 checkpoint"):
        sample(animate(model, with_image(pia_path, LatentsAre(torch.ones(16, 1, 1)))))


def test_it_is_not_trained(model, pia_path):
    for start in (Family.PIA, load_motion_model(pia_path).model.config):
        with pytest.raises(IncompatibleMotionModel, match="Loom does not train PIA motion models"):
            check_start(model, start)


@pytest.mark.parametrize("weights", [{"conv_in.weight": torch.zeros(32, 9, 1, 1)}, {"conv_in.bias": torch.zeros(7)}])
def test_a_damaged_input_is_named(weights, pia_path, tmp_path):
    path = tmp_path / "bad.safetensors"
    save_file(load_file(pia_path) | weights, path)
    with pytest.raises(MotionModelError, match="it contains an input for an image, of which 'conv_in"):
        load_motion_model(str(path))
