"""AnimateDiff Sampler: KSampler for one clip, and for several as if each were alone."""

from __future__ import annotations

import nodes
import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.host.runs.preview import contact_sheet
from pack.nodes.sampler import AnimateDiffSamplerNode
from PIL import Image

from .world import (
    ALL_SAMPLERS,
    NEGATIVE,
    POSITIVE,
    SMALL_MOTION,
    SMALL_UNET,
    SMALLEST_MOTION,
    SMALLEST_UNET,
    animate,
    cond,
    make_model,
    motion_file,
)

FRAMES = 4


def make_animated(folder, family: Family):
    motion = load_motion_model(motion_file(folder, family, **SMALL_MOTION))
    return animate(make_model(**SMALL_UNET), motion)


@pytest.fixture(scope="module", params=[Family.V1, Family.V3], ids=lambda family: family.name)
def animated(request, tmp_path_factory):
    with torch.inference_mode():
        return make_animated(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    with torch.inference_mode():
        return make_animated(tmp_path_factory.mktemp("models"), Family.V3)


def latent(clips: int = 1, seed: int | None = None, frames: int = FRAMES) -> dict:
    if seed is None:
        return {"samples": torch.zeros(clips * frames, 4, 8, 8)}
    return {"samples": torch.randn(clips * frames, 4, 8, 8, generator=torch.Generator().manual_seed(seed))}


def loom(model, source, clips=1, seed=11, positive=POSITIVE, negative=NEGATIVE, **settings):
    settings = {"steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", **settings}
    return sample_clips(model, positive, negative, source, clips, SamplerSettings(seed, **settings))["samples"]


@pytest.mark.parametrize("denoise", [1.0, 0.6])
@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde", "uni_pc"])
def test_one_clip_is_ksampler(animated, sampler_name, denoise):
    source = latent(seed=5 if denoise < 1 else None)
    args = (animated, 11, 3, 2.0, sampler_name, "normal", POSITIVE, NEGATIVE, source)
    (expected,) = nodes.KSampler().sample(*args, denoise=denoise)
    assert torch.equal(loom(animated, source, sampler_name=sampler_name, denoise=denoise), expected["samples"])


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, as a part of the largest value: matrix products of another size round differently."""
    return ((a - b).abs().max() / b.abs().max()).item()


def check_clips_alone(model, clips=2, source=None, **settings):
    source = source or latent(clips)
    together = loom(model, source, clips=clips, **settings)
    assert together.shape[0] == clips * FRAMES
    for clip in range(clips):
        part = {key: value[clip * FRAMES : (clip + 1) * FRAMES] for key, value in source.items()}
        alone = loom(model, part, seed=11 + clip, **settings)
        assert difference(together[clip * FRAMES :][:FRAMES], alone) < 1e-5
    assert difference(together[:FRAMES], together[FRAMES:][:FRAMES]) > 1e-2


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    with torch.inference_mode():
        motion = load_motion_model(motion_file(tmp_path_factory.mktemp("models"), Family.V3, **SMALLEST_MOTION))
        return animate(make_model(**SMALLEST_UNET), motion)


@pytest.mark.parametrize("sampler_name", ALL_SAMPLERS)
def test_every_sampler_keeps_clips_apart(smallest, sampler_name):
    check_clips_alone(smallest, sampler_name=sampler_name)


def test_norms_over_frames_keep_clips_apart(animated):
    check_clips_alone(animated, clips=3, sampler_name="euler_ancestral")


@pytest.mark.parametrize("sampler_name", ["euler", "ddim"])
def test_masks_and_image_to_image_keep_clips_apart(v3, sampler_name):
    source = latent(2, seed=5)
    source["noise_mask"] = (torch.rand(2 * FRAMES, 1, 8, 8, generator=torch.Generator().manual_seed(6)) > 0.5).float()
    check_clips_alone(v3, source=source, denoise=0.7, sampler_name=sampler_name)


def test_prompts_for_each_frame_serve_every_clip(v3):
    tensor, options = cond(4, batch=FRAMES)[0]
    check_clips_alone(v3, positive=[[tensor, options]])


def test_batch_index_picks_the_noise_of_that_frame(v3):
    source = {**latent(), "batch_index": [2, 3, 4, 5]}
    args = (v3, 11, 3, 2.0, "euler", "normal", POSITIVE, NEGATIVE, source)
    (expected,) = nodes.KSampler().sample(*args)
    assert torch.equal(loom(v3, source), expected["samples"])
    check_clips_alone(v3, source={**latent(2), "batch_index": list(range(2 * FRAMES))})


def test_seeds_wrap_at_64_bits(v3):
    out = loom(v3, latent(2), clips=2, seed=0xFFFFFFFFFFFFFFFF)
    assert difference(out[FRAMES:], loom(v3, latent(), seed=0)) < 1e-5


def test_frames_that_do_not_split(v3):
    with pytest.raises(InvalidInput, match="8 frames cannot be split evenly into 3 clips"):
        loom(v3, latent(2), clips=3)


def test_a_model_without_motion_works_too():
    model = make_model(**SMALL_UNET)
    source = latent()
    (expected,) = nodes.KSampler().sample(model, 11, 3, 2.0, "euler", "normal", POSITIVE, NEGATIVE, source)
    assert torch.equal(loom(model, source), expected["samples"])


def test_the_callers_model_and_latent_stay(v3):
    options, source = dict(v3.model_options["transformer_options"]), latent(2)
    before = source["samples"].clone()
    loom(v3, source, clips=2)
    assert v3.model_options["transformer_options"].keys() == options.keys()
    assert torch.equal(source["samples"], before)


def test_progress_comes_with_a_picture_of_all_frames(v3, monkeypatch):
    import comfy.utils
    import latent_preview

    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id: seen.append((value, total, preview)))
    loom(v3, latent())
    assert [(value, total) for value, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    for _, _, (image_format, image, _) in seen:
        assert (image_format, image.size) == ("JPEG", (2 * 8, 2 * 8))
    seen.clear()
    masked = {**latent(2, seed=5), "noise_mask": torch.ones(2 * FRAMES, 1, 8, 8)}
    loom(v3, masked, clips=2, sampler_name="ddim")  # one clip after the other
    assert [(value, total) for value, total, _ in seen] == [(value, 6) for value in range(1, 7)]


def test_contact_sheet_puts_frames_in_reading_order():
    sheet = contact_sheet([Image.new("RGB", (2, 3), (i, 0, 0)) for i in range(6)])
    assert sheet.size == (6, 6)
    assert [sheet.getpixel((2 * column, 3 * row))[0] for row in (0, 1) for column in range(3)] == [0, 1, 2, 3, 4, 5]


def test_node(v3):
    out = AnimateDiffSamplerNode.execute(v3, POSITIVE, NEGATIVE, {**latent(), "downscale_ratio_spacial": 8}, steps=1)[0]
    assert set(out) == {"samples"}
