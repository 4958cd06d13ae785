"""Image to Animation: which frames are the images, and that they come out of a sampler as they went in."""

from __future__ import annotations

import pytest
import torch
from pack.animation.held_frames import nearest_given, shares_of_frames
from pack.animation.schedule import Easing
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.image_to_animation import FrameFalloffNode, ImageToAnimationNode
from pack.nodes.windows import ContextWindowsNode

from .world import BOTH, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample

SIZE, FRAMES = 64, 8


class EighthSize:
    """Stands for a VAE: pictures an eighth as large, with their brightness as the fourth channel."""

    def encode(self, images):
        assert images.shape[-1] == 3
        small = torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 8)
        return torch.cat([small, small.mean(1, keepdim=True)], dim=1) * 2 - 1

    def decode(self, latents):
        raise AssertionError("not asked for here")


def images(count: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, SIZE, SIZE, channels, generator=torch.Generator().manual_seed(6))


def latent_of(pictures, *inputs, **more) -> dict:
    return ImageToAnimationNode.execute(EighthSize(), pictures, *inputs, **more)[0]


def test_images_stand_at_their_frames_and_the_others_begin_as_the_nearest():
    for given, inputs, numbers in (
        (1, {}, [0] * 8),
        (2, {}, [0, 0, 0, 0, 1, 1, 1, 1]),
        (1, {"placement": "at frames", "image_frames": "0, -1"}, [0] * 8),
        (3, {"placement": "at frames", "image_frames": "7, 0, 2"}, [1, 1, 2, 2, 2, 0, 0, 0]),
    ):
        latent, pictures = latent_of(images(given), FRAMES, **inputs), EighthSize().encode(images(given))
        assert torch.equal(latent["samples"], pictures[numbers])
        assert latent["noise_mask"].shape == (FRAMES, 1, 8, 8)
    held = latent_of(images(2), FRAMES)["noise_mask"][:, 0, 0, 0]
    assert held.tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    assert torch.equal(latent_of(images(1, channels=4), FRAMES)["samples"][0], EighthSize().encode(images(1, 4)[..., :3])[0])


def test_neighbours_are_held_back_less_and_less():
    assert shares_of_frames([0], 5, falloff=0.0) == [1, 0, 0, 0, 0]
    assert shares_of_frames([0], 5, falloff=3.0) == [1, 0.75, 0.5, 0.25, 0]
    assert shares_of_frames([0, 4], 5, falloff=1.0) == [1, 0.5, 0, 0.5, 1]
    assert shares_of_frames([1], 4, falloff=1.0, easing=Easing.HOLD) == [1, 1, 1, 0]
    assert shares_of_frames([0], 4, falloff=3.0, easing=Easing.EASE_IN_OUT) == pytest.approx([1, 27 / 32, 0.5, 5 / 32])
    mask = latent_of(images(1), 4, hold=0.5, falloff=1.0)["noise_mask"]
    assert mask[:, 0, 0, 0].tolist() == [0.5, 0.75, 1, 1]
    assert nearest_given([1, 4], 6) == [0, 0, 0, 1, 1, 1]


@BOTH
def test_the_images_come_out_as_they_went_in(patchers, tmp_path):
    animated = animate(make_model(**SMALL_UNET), load_motion_model(motion_file(tmp_path, Family.V3, **SMALL_MOTION)))
    latent = latent_of(images(2), FRAMES)
    free = sample(animated, latent=latent["samples"])
    for model in (animated, ContextWindowsNode.execute(animated, 4, 2)[0]):
        for sampler_name in ("euler", "dpmpp_2m"):
            out = sample(model, latent=latent["samples"], noise_mask=latent["noise_mask"], sampler_name=sampler_name)
            torch.testing.assert_close(out[[0, -1]], latent["samples"][[0, -1]], rtol=0, atol=1e-5)
            assert (out[1:-1] - latent["samples"][1:-1]).abs().mean() > 0.1
            assert (out[1:-1] - free[1:-1]).abs().mean() > 1e-3  # the images are seen
    loose = latent_of(images(2), FRAMES, hold=0.0)
    assert torch.equal(sample(animated, latent=loose["samples"], noise_mask=loose["noise_mask"]), free)


def test_images_that_have_no_place_are_named():
    with pytest.raises(InvalidInput, match="placed at frame 20, but the clip has 8 frames"):
        latent_of(images(1), FRAMES, "at frames", "20")
    with pytest.raises(InvalidInput, match="There are 3 images for 2 frames"):
        latent_of(images(3), FRAMES, "at frames", "0, -1")
    with pytest.raises(InvalidInput, match="image_frames holds 'middle'"):
        latent_of(images(1), FRAMES, "at frames", "middle")


def test_weights_fall_off_about_frames():
    values, floats = FrameFalloffNode.execute("0, -1", 7, 2.0, "linear", 1.0, 0.25).result
    assert values == floats == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.5, 0.75, 1.0])
    assert FrameFalloffNode.execute("2", 99, 0.0, latent={"samples": torch.zeros(4, 4, 8, 8)})[1] == [0, 0, 1, 0]
    with pytest.raises(InvalidInput, match="frames is 0"):
        FrameFalloffNode.execute("2", 0)
    with pytest.raises(InvalidInput, match="placed at frame 9, but the clip has 8 frames"):
        FrameFalloffNode.execute("9", 8)
