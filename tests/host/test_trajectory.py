"""Subjects that go along paths, in a real UNet: what its attentions and its noise are told, and when."""

from __future__ import annotations

import comfy.sample
import pytest
import torch
from comfy.sd1_clip import SD1Tokenizer
from comfy_execution.graph_utils import ExecutionBlocker
from pack.animation.path_schedule import boxes_of_path
from pack.animation.schedule import ScheduleError
from pack.animation.trajectories import carry, coverage
from pack.motion_models.box_bias import box_bias
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion import box_attention
from pack.nodes.host.motion.box_attention import trajectories_of
from pack.nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from pack.nodes.trajectory import TrajectoryNode
from pack.nodes.windows import ContextWindowsNode
from torch.nn.functional import adaptive_avg_pool2d

from .test_freenoise import Recorded, random_noise
from .world import (
    BOTH,
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
    same_state,
    sample,
    state_of,
)

FRAMES, SEED, TOKENS = 6, 3, 77
PATH, SIZE = "0: 0.25, 0.25\n-1: 0.75, 0.5", (0.5, 0.4)
PROMPT = "a red fox, and a blue fox cub on snow"
POSITIVE_77, NEGATIVE_77 = cond(1, TOKENS), cond(2, TOKENS)


class Clip:
    """Core's tokenizer, as a CLIP offers it."""

    tokenizer = SD1Tokenizer()

    def tokenize(self, text, return_word_ids=False, **options):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    (folder / "small").mkdir()
    return {"small": motion_file(folder / "small", **SMALL_MOTION), "smallest": motion_file(folder, **SMALLEST_MOTION)}


@pytest.fixture(scope="module")
def model(files):
    with torch.inference_mode():
        return animate(make_model(**SMALLEST_UNET), load_motion_model(files["smallest"]))


@pytest.fixture
def two_levels(patchers, files):
    return animate(make_model(**SMALL_UNET), load_motion_model(files["small"]))


def with_path(model, **inputs):
    given = {"path": PATH, "width": SIZE[0], "height": SIZE[1], "end_percent": 1.0, "carry": False, **inputs}
    return TrajectoryNode.execute(model, **given)[0]


def run(model, frames=FRAMES, steps=1, **options):
    options = {"positive": POSITIVE_77, "negative": NEGATIVE_77, "seed": SEED, **options}
    return sample(model, frames, steps, **options)


class Attentions:
    """An ``optimized_attention_override`` of another pack's, which keeps the shapes and masks of what goes through it."""

    def __init__(self, model):
        self.seen = []
        model.model_options["transformer_options"]["optimized_attention_override"] = self

    def __call__(self, attention, q, k, v, heads, mask=None, **kwargs):
        self.seen.append((q.shape[1], k.shape[1], None if mask is None else mask.clone(), len(q)))
        return attention(q, k, v, heads, mask=mask, **kwargs)

    def masks(self, queries, keys):
        return [mask for q, k, mask, _ in self.seen if (q, k) == (queries, keys)]


def boxes_at(side, frames=None, path=PATH, total=FRAMES):
    """How far the pixels of a layer lie in the box, ``(f, side * side)``, for a latent of 8 x 8."""
    inside = coverage(boxes_of_path(path, total, SIZE), 8, 8)[list(frames or range(total))]
    return adaptive_avg_pool2d(inside[:, None], side).flatten(1)


# --- what the attentions are told -------------------------------------------------------------------------------------


@BOTH
def test_each_attention_is_told_the_box_of_each_frame(two_levels):
    clip_words = {"clip": Clip(), "prompt": PROMPT, "words": "red fox"}
    changed = with_path(two_levels, strength=4.0, word_strength=9.0, **clip_words)
    attentions = Attentions(changed)
    run(changed)
    for side in (8, 4):
        inside = boxes_at(side)
        apart = box_bias(inside[..., None], (4.0,))
        own = attentions.masks(side * side, side * side)
        assert own
        assert all(torch.equal(mask, apart.repeat(2, 1, 1)) for mask in own)
        words = torch.zeros(TOKENS)
        words[[2, 3, *range(12, TOKENS)]] = 9.0  # "red fox", and the ends; 0 is the start, 4 the comma
        to_words = attentions.masks(side * side, TOKENS)
        positive = -(1 - inside)[..., None] * words
        assert to_words
        for mask in to_words:
            parts = mask.chunk(2)  # for the positive prompt alone, whichever comes first
            assert {any(torch.equal(part, positive) for part in parts), any(not part.any() for part in parts)} == {True}
        pixels = inside.T[..., None]  # p f 1
        temporal = torch.cat(attentions.masks(FRAMES, FRAMES))
        expected = box_bias(pixels, (4.0,))
        assert any(torch.equal(part, expected) for part in temporal.split(len(expected)))


@BOTH
def test_switched_off_or_over_it_changes_no_bit(two_levels):
    model = two_levels
    plain = run(model)
    assert torch.equal(run(with_path(model, strength=0.0, noise=0.0)), plain)
    assert torch.equal(run(with_path(model, strength=0.0, noise=0.0, clip=Clip(), prompt=PROMPT, words="fox", word_strength=0.0)), plain)
    assert not torch.equal(run(with_path(model, noise=0.0)), plain)
    assert torch.equal(run(with_path(model, noise=0.0, path="0: 0.3, 0.3"), frames=1), run(model, frames=1))


def test_masks_of_large_pictures_are_made_in_parts(model, monkeypatch):
    changed = with_path(model, clip=Clip(), prompt=PROMPT, words="red fox")
    whole = run(changed)
    monkeypatch.setattr(box_attention, "_MASK_NUMBERS", 5 * 64 * 64)
    torch.testing.assert_close(run(changed), whole, rtol=1e-4, atol=1e-4)


def test_the_box_is_let_go_at_its_end(model):
    changed = with_path(model, end_percent=0.3, noise=0.0)
    attentions = Attentions(changed)
    run(changed, steps=5, cfg=1.0)
    told = [mask is not None for mask in attentions.masks(64, 64)]
    assert told == sorted(told, reverse=True)
    assert 0 < sum(told) < len(told) / 2
    assert len(told) % 5 == 0
    assert sum(told) % (len(told) // 5) == 0


def test_in_windows_frames_are_counted_in_the_clip(model):
    frames = 10
    changed = ContextWindowsNode.execute(with_path(model), 4, 2)[0]
    attentions = Attentions(changed)
    run(changed, frames=frames, cfg=1.0)
    expected = [box_bias(boxes_at(8, range(first, first + 4), total=frames)[..., None], (with_strength(changed),)) for first in (0, 2, 4, 6)]
    seen = attentions.masks(64, 64)
    assert all(any(torch.equal(mask, each) for each in expected) for mask in seen)
    assert all(any(torch.equal(mask, each) for mask in seen) for each in expected)


def with_strength(model):
    return trajectories_of(model)[0].strength


def test_several_subjects_have_boxes_of_their_own(model):
    words = {"clip": Clip(), "prompt": PROMPT, "word_strength": 9.0}
    other = "0: 0.75, 0.75"
    both = with_path(with_path(model, strength=2.0, words="red fox", **words), path=other, strength=3.0, words="blue fox cub", **words)
    attentions = Attentions(both)
    run(both, cfg=1.0)
    inside = torch.stack([boxes_at(8), boxes_at(8, path=other)], dim=-1)
    assert all(torch.equal(mask, box_bias(inside, (2.0, 3.0))) for mask in attentions.masks(64, 64))
    (mask, *_) = attentions.masks(64, TOKENS)
    torch.testing.assert_close(mask[..., 2], -9.0 * (1 - inside[..., 0]))  # red
    torch.testing.assert_close(mask[..., 7], -9.0 * (1 - inside[..., 1]))  # blue
    torch.testing.assert_close(mask[..., 20], -9.0 * (1 - inside).prod(-1))  # an end: in either box
    assert not mask[..., [0, 1, 4, 10]].any()


def test_a_longer_negative_prompt_moves_no_words(model):
    changed = with_path(model, clip=Clip(), prompt=PROMPT, words="red fox", word_strength=9.0)
    attentions = Attentions(changed)
    run(changed, negative=cond(2, 2 * TOKENS))
    mask = max((mask for _, k, mask, _ in attentions.seen if k == 2 * TOKENS), key=lambda mask: mask.abs().sum())
    assert torch.equal(mask[..., :TOKENS], mask[..., TOKENS:])
    assert mask[..., 2].any()
    assert not mask[..., 1].any()


def test_several_clips_are_as_if_alone(model):
    changed = with_path(model, clip=Clip(), prompt=PROMPT, words="red fox", carry=True)
    settings = SamplerSettings(SEED, 2, 2.0, "euler", "normal")
    both = sample_clips(changed, POSITIVE_77, NEGATIVE_77, {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}, 2, settings)["samples"]
    for number, clip in enumerate(both.chunk(2)):
        torch.testing.assert_close(clip, run(changed, steps=2, seed=SEED + number), rtol=1e-3, atol=1e-3)


def test_before_or_after_the_motion_model(files):
    base, motion = make_model(**SMALLEST_UNET), load_motion_model(files["smallest"])
    assert torch.equal(run(animate(with_path(base), motion)), run(with_path(animate(base, motion))))


def test_branches_do_not_know_each_other(model):
    plain, state, options = run(model), state_of(model), repr(model.model_options)
    first, second = with_path(model), with_path(model, path="0: 0.5, 0.5")
    alone = run(first)
    assert not torch.equal(run(second), alone)
    assert torch.equal(run(first), alone)
    assert torch.equal(run(model), plain)
    assert same_state(model, state)
    assert repr(model.model_options) == options
    assert trajectories_of(model) == ()


# --- carrying ---------------------------------------------------------------------------------------------------------


class Predictions:
    """A function after Loom's, which keeps what it is given."""

    def __init__(self, model):
        self.seen = []
        model.set_model_sampler_post_cfg_function(self)

    def __call__(self, args):
        self.seen.append({name: args[name].clone() for name in ("denoised", "cond_denoised", "uncond_denoised")})
        return args["denoised"]


def test_what_the_prompt_changes_most_is_carried_to_the_box(model):
    changed = with_path(model, strength=0.0, noise=0.0, carry=True, end_percent=0.5)
    predictions = Predictions(changed)
    run(changed, steps=4, cfg=3.0)
    boxes = boxes_of_path(PATH, FRAMES, SIZE)
    carried = []
    for seen in predictions.seen:
        plain = seen["uncond_denoised"] + (seen["cond_denoised"] - seen["uncond_denoised"]) * 3.0
        expected = carry(plain, (seen["cond_denoised"] - seen["uncond_denoised"]).square().mean(1), [boxes])
        carried.append(torch.allclose(seen["denoised"], expected, atol=1e-5))
        assert carried[-1] or torch.equal(seen["denoised"], plain)
    assert carried == sorted(carried, reverse=True)
    assert carried[0]
    assert not carried[-1]


def test_nothing_is_carried_without_guidance(model):
    off = {"strength": 0.0, "noise": 0.0}
    assert torch.equal(run(with_path(model, carry=True, **off), cfg=1.0), run(model, cfg=1.0))


# --- noise ------------------------------------------------------------------------------------------------------------


def test_the_noise_of_each_clip_travels_with_the_box(model):
    changed = with_path(model, noise=0.8, strength=0.0)
    recorded = Recorded(changed)
    settings = SamplerSettings(SEED, 1, 1.0, "euler", "normal")
    sample_clips(changed, POSITIVE, NEGATIVE, {"samples": torch.zeros(2 * FRAMES, 4, 8, 8)}, 2, settings)
    boxes = boxes_of_path(PATH, FRAMES, SIZE)
    inside = coverage(boxes, 8, 8)[:, None].expand(-1, 4, -1, -1) == 0
    for clip, noise in enumerate(torch.cat(recorded.noises).chunk(2)):
        own = random_noise(FRAMES, SEED + clip)
        assert torch.equal(noise[inside], own[inside])
        assert not torch.equal(noise, own)
    first, second = torch.cat(recorded.noises).chunk(2)
    assert not torch.equal(first, second)


def test_a_sampler_that_adds_no_noise_gets_none(model):
    changed = with_path(model)
    recorded = Recorded(changed)
    zeros = torch.zeros(FRAMES, 4, 8, 8)
    comfy.sample.sample(changed, zeros, 1, 1.0, "euler", "normal", POSITIVE, NEGATIVE, zeros, seed=SEED, disable_pbar=True)
    assert not recorded.noises[0].any()


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_a_path_that_is_longer_than_the_clip_is_refused_and_the_next_run_is_fine(model):
    changed = with_path(model, path="0: 0.2, 0.5\n15: 0.8, 0.5")
    with pytest.raises(InvalidInput, match="Trajectory, for the clip's 6 frames: .*'15' is after the clip's last frame, 5"):
        run(changed)
    assert torch.isfinite(run(changed, frames=16)).all()


def test_words_need_a_clip_and_a_prompt_that_has_them(model):
    with pytest.raises(InvalidInput, match="Connect it to clip, or leave words empty"):
        with_path(model, words="red fox", prompt=PROMPT)
    for prompt, words in ((PROMPT, "red cub"), ("", "red fox"), (PROMPT, "red fox, green fox")):
        with pytest.raises(InvalidInput, match="which is not in the prompt .*Write words as they stand in the prompt"):
            with_path(model, words=words, prompt=prompt, clip=Clip())


@pytest.mark.parametrize(
    ("words", "prompt", "places"),
    [
        ("fox", PROMPT, (3, 8)), ("Fox cub, SNOW", PROMPT, (8, 9, 11)), ("red fox", "a (red fox:1.3)", (2, 3)), ("(fox:0.5)", "a fox", (2,)),
        ("fox", "hill " * 80 + "fox", (77 + 6,)),
    ],
)  # fmt: skip
def test_words_are_found_as_clip_reads_them(model, words, prompt, places):
    (trajectory,) = trajectories_of(with_path(model, words=words, prompt=prompt, clip=Clip()))
    assert trajectory.words.places == places


@pytest.mark.parametrize("path", ["", "0: 2, 2", "0: here", "0: 0.5"])
def test_a_path_that_cannot_be_read_is_refused_before_the_run(model, path):
    assert isinstance(TrajectoryNode.validate_inputs(path=path), str)
    with pytest.raises(ScheduleError, match="The text is empty|^Line 1, character"):
        with_path(model, path=path)


def test_latents_of_video_models_are_refused(model):
    latent = torch.zeros(1, 4, FRAMES, 8, 8)
    with pytest.raises(InvalidInput, match="this one is a video model's. Remove Trajectory."):
        comfy.sample.sample(
            with_path(model), torch.randn(latent.shape), 2, 1.0, "euler", "normal", POSITIVE, NEGATIVE, latent, seed=SEED
        )


def test_without_a_motion_model_that_is_said(caplog):
    run(with_path(make_model(**SMALLEST_UNET)))
    assert "Trajectory moves nothing without a motion model" in caplog.text


# --- preview ----------------------------------------------------------------------------------------------------------


def test_the_preview_shows_each_frames_box(model):
    latent = {"samples": torch.zeros(FRAMES, 4, 32, 48)}
    _, preview = TrajectoryNode.execute(model, path=PATH, width=SIZE[0], height=SIZE[1], latent=latent).result
    assert preview.shape == (FRAMES, 256, 384, 3)
    # The first frame's box: x from 0 to 0.5, y from 0.05 to 0.45; its lower edge is in the box's colour, the picture below is not.
    paper = preview[0, -1, -1]
    assert (preview[0, round(0.45 * 256), 20] - paper).abs().max() > 0.3
    assert torch.equal(preview[0, round(0.6 * 256), 20], paper)
    assert not torch.equal(preview[0], preview[-1])


def test_the_preview_is_drawn_on_images(model):
    images = torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    _, preview = TrajectoryNode.execute(model, path="0: 0.25, 0.25", width=0.2, height=0.2, images=images).result
    torch.testing.assert_close(preview[:, 40:, 40:], images[:, 40:, 40:], atol=1 / 255, rtol=0)


def test_a_path_for_more_frames_than_a_preview_has_blocks_the_preview_alone(model):
    longer = "0: 0.2, 0.5\n31: 0.8, 0.5"
    changed, preview = TrajectoryNode.execute(model, path=longer).result
    assert isinstance(preview, ExecutionBlocker)
    assert "connect the clip's latent" in preview.message
    assert len(trajectories_of(changed)) == 1
    with pytest.raises(InvalidInput, match="for the clip's 6 frames"):
        TrajectoryNode.execute(model, path=longer, latent={"samples": torch.zeros(FRAMES, 4, 8, 8)})
