"""Latents of clips on disk: written once and whole, sampled in an order that depends on nothing but seed and position."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pack.motion_models.training.clips import ClipSettings, FramesClip, find_clips
from pack.motion_models.training.errors import ClipSkipped, TrainingDataError
from pack.motion_models.training.latent_clips import LatentClips, SkippedClip, write_latent_clips
from torch.nn import functional

from .videos import numbers, write

FRAMES, SIZE = 4, 16


def encode_frames(frames: torch.Tensor) -> torch.Tensor:
    """Latents from which a frame can be told: mean colours of 8 x 8 pixels, and a fourth channel."""
    colours = functional.avg_pool2d(frames, 8) * 10 - 5
    return torch.cat([colours, colours[:, :1] ** 2], 1)


def encode_text(caption: str) -> torch.Tensor:
    return torch.full((7, 5), float(len(caption)))


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.inputs = function, []

    def __call__(self, argument):
        self.inputs.append(argument)
        return self.function(argument)


def make_clip(number: int, length: int = FRAMES, caption: str | None = None) -> FramesClip:
    frames = torch.rand(length, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(number))
    return FramesClip(f"clip {number}", f"caption {number}" if caption is None else caption, frames)


def make(folder, clips, **options) -> LatentClips:
    options = {"frames": FRAMES, "dtype": torch.float32, "encode_frames": encode_frames, "encode_text": encode_text, **options}
    return write_latent_clips(folder, clips, **options)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "latents"


# --- samples ----------------------------------------------------------------------------------------------------------


def test_pooled_embeddings_are_kept_where_there_are_some(folder):
    def encode_both(caption):
        return encode_text(caption), torch.full((5,), float(len(caption)))

    clips = make(folder / "both", [make_clip(0)], encode_text=encode_both)
    assert torch.equal(clips.sample(0, 0).pooled, torch.full((5,), float(len("caption 0"))))
    assert torch.equal(clips.sample(0, 0, text_dropout=1.0).pooled, torch.zeros(5))
    assert make(folder / "one", [make_clip(0)]).sample(0, 0).pooled is None


def test_a_name_that_is_no_utf8_is_kept(folder):
    clip = make_clip(0)
    named = FramesClip(os.fsdecode(b"caf\xe9.mp4"), clip.caption, clip.frames)
    assert LatentClips(make(folder, [named]).folder).names == (named.name,)


def test_latents_from_before_pooled_embeddings_are_read(folder):
    made = make(folder, [make_clip(0)])
    index = json.loads((folder / "clips.json").read_text())
    for text in index["texts"].values():
        del text["pooled"]
    (folder / "clips.json").write_text(json.dumps(index))
    assert LatentClips(folder).data_hash == made.data_hash
    assert torch.equal(LatentClips(folder).sample(0, 0).context, made.sample(0, 0).context)


def test_a_sample_is_consecutive_frames_of_one_clip(folder):
    wanted = {f"caption {number}": make_clip(number, length) for number, length in enumerate([4, 5, 9, 30])}
    clips = make(folder, wanted.values())
    assert (len(clips), clips.latent_size, clips.starts) == (4, (4, 2, 2), 1 + 2 + 6 + 27)
    seen = set()
    for position in range(400):
        sample = clips.sample(position, seed=1)
        latents = encode_frames(wanted[sample.caption].frames)
        (start,) = [i for i in range(len(latents) - 3) if torch.equal(latents[i : i + 4], sample.latents)]
        seen.add((sample.caption, start))
        assert sample.latents.dtype == sample.context.dtype == torch.float32
        assert torch.equal(sample.context, encode_text(sample.caption))
    assert len(seen) == clips.starts  # every start there is


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(count=st.integers(1, 9), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 10**9))
def test_an_epoch_sees_each_clip_once(tmp_path, count, seed, epoch):
    place = tmp_path / str(count)
    clips = LatentClips(place) if place.exists() else make(place, map(make_clip, range(count)))
    seen = [clips.sample(position, seed).caption for position in range(epoch * count, (epoch + 1) * count)]
    assert sorted(seen) == sorted(clips.captions)


def test_epochs_and_seeds_differ_in_their_order(folder):
    clips = make(folder, map(make_clip, range(8)))
    orders = {tuple(clips.sample(8 * epoch + i, seed).caption for i in range(8)) for epoch in range(5) for seed in range(5)}
    assert len(orders) == 25


def test_a_sample_depends_on_its_arguments_only(folder):
    clips = make(folder, [make_clip(number, 12) for number in range(6)], flip=True)
    first = [clips.sample(position, 3, 0.5) for position in range(30)]
    torch.rand(10)
    for position in reversed(range(30)):
        again = LatentClips(folder).sample(position, 3, 0.5)
        assert torch.equal(again.latents, first[position].latents)
        assert torch.equal(again.context, first[position].context)
        assert again.caption == first[position].caption
    assert any(not torch.equal(clips.sample(i, 4).latents, first[i].latents) for i in range(30))


def test_starts_are_equally_frequent(folder):
    clips = make(folder, [make_clip(0, FRAMES + 4)])
    latents = encode_frames(make_clip(0, FRAMES + 4).frames)
    starts = Counter()
    for position in range(500):
        found = clips.sample(position, 0).latents
        starts[next(i for i in range(5) if torch.equal(latents[i : i + 4], found))] += 1
    # five standard deviations of a binomial distribution
    assert all(abs(starts[i] - 100) < 5 * (500 * 0.2 * 0.8) ** 0.5 for i in range(5))


def test_text_is_dropped_for_a_share_of_samples_and_nothing_else_changes(folder):
    clips = make(folder, [make_clip(number, 9) for number in range(5)], flip=True)
    dropped = 0
    for position in range(500):
        kept, sample = clips.sample(position, 7), clips.sample(position, 7, text_dropout=0.3)
        assert torch.equal(kept.latents, sample.latents)
        assert kept.caption
        assert torch.equal(sample.context, encode_text(sample.caption))
        dropped += not sample.caption
    assert abs(dropped - 150) < 5 * (500 * 0.3 * 0.7) ** 0.5
    assert not any(clips.sample(position, 7, 1.0).caption for position in range(20))


def test_half_of_the_samples_are_mirrored_pictures(folder):
    clip = make_clip(0)
    clips = make(folder, [clip], flip=True)
    plain, mirrored = encode_frames(clip.frames), encode_frames(clip.frames.flip(-1))
    found = [clips.sample(position, 0).latents for position in range(400)]
    assert all(torch.equal(latents, plain) or torch.equal(latents, mirrored) for latents in found)
    assert abs(sum(torch.equal(latents, mirrored) for latents in found) - 200) < 5 * 10
    assert clips.mirrored == 1


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("a ball moves left", 0), ("To the Right, a dog", 0), ("a left-handed man", 0), ("it drifts leftwards", 0),
        ("turning counter-clockwise", 0), ("turning counterclockwise", 0), ("a clockwise spin", 0), ("anticlockwise", 0),
        ("a bright cleft in a rightful place", 1), ("a clock", 1), ("", 1),
    ],
)  # fmt: skip
def test_clips_whose_captions_name_a_side_are_never_mirrored(folder, caption, mirrored):
    clips = make(folder, [make_clip(0, caption=caption), make_clip(1)], flip=True)
    assert clips.mirrored == 1 + mirrored
    plain = encode_frames(make_clip(0).frames)
    found = [clips.sample(position, 0) for position in range(80)]
    assert all(torch.equal(sample.latents, plain) for sample in found if sample.caption == caption) == (not mirrored)


def test_latents_pass_through_a_function(folder):
    clips = make(folder, [make_clip(0, 9)])
    scaled = clips.map_latents(lambda latents: latents * 0.18215)
    assert torch.equal(scaled.sample(5, 1).latents, clips.sample(5, 1).latents * 0.18215)
    assert scaled.data_hash == clips.data_hash


def test_half_precision_is_the_default(folder):
    clip = make_clip(0)
    sample = write_latent_clips(folder, [clip], encode_frames, encode_text, frames=FRAMES).sample(0, 0)
    assert torch.equal(sample.latents, encode_frames(clip.frames).half().float())


def test_encoders_with_gradients_leave_none(folder):
    weight = torch.nn.Parameter(torch.ones(()))
    clips = make(folder, [make_clip(0)], encode_frames=lambda x: encode_frames(x) * weight, encode_text=lambda x: encode_text(x) * weight)
    sample = clips.sample(0, 0)
    assert not sample.latents.requires_grad
    assert torch.equal(sample.latents, encode_frames(make_clip(0).frames))
    assert torch.equal(sample.context, encode_text("caption 0"))


def test_samples_are_the_callers_own(folder):
    """In place changes must not reach a file."""
    clips = make(folder, [make_clip(0)])
    clips.sample(0, 0).latents.zero_()
    clips.sample(0, 0).context.zero_()
    assert torch.equal(clips.sample(0, 0).latents, encode_frames(make_clip(0).frames))
    assert torch.equal(clips.sample(0, 0).context, encode_text("caption 0"))


def test_samples_of_files_are_frames_of_the_video(tmp_path, folder):
    write(tmp_path / "videos" / "a.mp4", 40)
    found = find_clips(tmp_path / "videos", ClipSettings(SIZE, SIZE, FRAMES, 3), "x").clips
    clips = make(folder, found, encode_frames=lambda frames: frames)
    for position in range(20):
        shown = numbers(clips.sample(position, 0).latents)
        assert shown == list(range(shown[0], shown[0] + 10, 3))


# --- writing once -----------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_encoded_again(folder):
    first = make(folder, map(make_clip, range(3)), flip=True)
    frames, text = Counted(encode_frames), Counted(encode_text)
    again = make(folder, map(make_clip, range(4)), flip=True, encode_frames=frames, encode_text=text)
    assert (len(frames.inputs), text.inputs) == (2, ["caption 3"])  # the new clip, and it mirrored
    assert (len(first), len(again)) == (3, 4)
    frames, text = Counted(encode_frames), Counted(encode_text)
    assert make(folder, map(make_clip, range(3)), flip=True, encode_frames=frames, encode_text=text).data_hash == first.data_hash
    assert (frames.inputs, text.inputs) == ([], [])


def test_a_caption_is_encoded_once(folder):
    text = Counted(encode_text)
    make(folder, [make_clip(number, caption="a cat" if number % 2 else "a dog") for number in range(6)], encode_text=text)
    assert sorted(text.inputs) == ["", "a cat", "a dog"]
    assert len(list((folder / "texts").iterdir())) == 3


@pytest.mark.parametrize(
    ("changes", "clips_anew", "texts_anew"),
    [
        ({"vae_id": "another"}, 2, 0), ({"text_encoder_id": "another"}, 0, 3), ({"dtype": torch.float16}, 2, 3),
        ({"flip": True}, 4, 0), ({}, 0, 0),
    ],
)  # fmt: skip
def test_other_settings_do_not_mix(folder, changes, clips_anew, texts_anew):
    make(folder, map(make_clip, range(2)))
    frames, text = Counted(encode_frames), Counted(encode_text)
    make(folder, map(make_clip, range(2)), encode_frames=frames, encode_text=text, **changes)
    assert (len(frames.inputs), len(text.inputs)) == (clips_anew, texts_anew)


def test_a_set_that_is_open_stays_as_it_is(folder):
    first = make(folder, map(make_clip, range(3)))
    before = [first.sample(position, 0).latents for position in range(6)]
    make(folder, map(make_clip, range(1, 5)), vae_id="another", encode_frames=lambda frames: encode_frames(frames) + 1)
    assert all(torch.equal(first.sample(position, 0).latents, latents) for position, latents in enumerate(before))


def test_only_a_changed_file_is_encoded_again(tmp_path, folder):
    videos = tmp_path / "videos"
    for name in "abc":
        write(videos / f"{name}.gif", 8)

    def encoded() -> int:
        frames = Counted(encode_frames)
        make(folder, find_clips(videos, ClipSettings(SIZE, SIZE, FRAMES, 2), "x").clips, encode_frames=frames)
        return len(frames.inputs)

    assert [encoded(), encoded()] == [3, 0]
    write(videos / "b.gif", 9)
    (videos / "c.txt").write_text("a new caption")
    assert [encoded(), encoded()] == [2, 0]  # nine frames at a stride of 2 are five: two pieces of up to four


class Stop(BaseException):
    """As ComfyUI's interrupt, no `Exception`."""


@pytest.mark.parametrize("calls", range(1, 8))
def test_a_stopped_run_goes_on_where_it_was(folder, calls):
    def stop_at(argument):
        if len(frames.inputs) > calls:
            raise Stop
        return encode_frames(argument)

    frames = Counted(stop_at)
    with pytest.raises(Stop):
        make(folder, map(make_clip, range(4)), flip=True, encode_frames=frames)
    with pytest.raises(TrainingDataError, match="has no finished latents"):
        LatentClips(folder)
    whole = calls // 2  # a clip takes two calls, for it and for its mirrored twin
    assert len(list(folder.glob("clips/*"))) == whole
    frames = Counted(encode_frames)
    clips = make(folder, map(make_clip, range(4)), flip=True, encode_frames=frames)
    assert len(frames.inputs) == 2 * (4 - whole)
    assert clips.data_hash == make(folder.parent / "at once", map(make_clip, range(4)), flip=True).data_hash


def test_progress_counts_clips_and_may_stop(folder):
    done = []
    make(folder, map(make_clip, range(3)), progress=done.append)
    assert done == sorted(done)
    assert set(done) == {0, 1, 2, 3}

    def stop(done: int) -> None:
        if done == 1:
            raise Stop

    frames = Counted(encode_frames)
    with pytest.raises(Stop):
        make(folder.parent / "stopped", map(make_clip, range(3)), progress=stop, encode_frames=frames)
    assert len(frames.inputs) == 1


def test_clips_are_read_one_after_the_other(folder):
    """A generator of clips is never ahead of what is being encoded."""
    made = 0

    def generate():
        nonlocal made
        for made in range(1, 6):
            yield make_clip(made)

    ahead = []
    make(folder, generate(), encode_frames=lambda frames: ahead.append(made) or encode_frames(frames))
    assert ahead == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("harm", ["cut", "empty", "not tensors"])
def test_a_damaged_file_is_made_anew(folder, harm):
    clips = make(folder, map(make_clip, range(2)))
    for path in [*folder.glob("clips/*"), *folder.glob("texts/*")]:
        contents = path.read_bytes()
        path.write_bytes({"cut": contents[:-1], "empty": b"", "not tensors": b"x" * 100}[harm])
    with pytest.raises(TrainingDataError, match=r"cannot be read .*Load the clips again"):
        clips.sample(0, 0)
    assert make(folder, map(make_clip, range(2))).data_hash == clips.data_hash
    clips.sample(0, 0)


def test_a_deleted_file_is_named(folder):
    clips = make(folder, [make_clip(0)])
    shutil.rmtree(folder / "clips")
    with pytest.raises(TrainingDataError, match=r"clips.*\.safetensors' cannot be read .*Load the clips again"):
        clips.sample(0, 0)


@pytest.mark.parametrize("contents", [None, b"", b"{", b"[]", b"{}", b'{"layout": 1}', b"\xff"])
def test_a_folder_without_a_finished_set_is_refused(folder, contents):
    folder.mkdir()
    if contents is not None:
        (folder / "clips.json").write_bytes(contents)
    with pytest.raises(TrainingDataError, match="has no finished latents"):
        LatentClips(folder)


def test_a_set_of_another_version_is_refused(folder):
    make(folder, [make_clip(0)])
    index = json.loads((folder / "clips.json").read_text())
    (folder / "clips.json").write_text(json.dumps({**index, "layout": 99}))
    with pytest.raises(TrainingDataError, match="another version. Delete it"):
        LatentClips(folder)


@contextmanager
def small_disk(most: int):
    """As a full disk does, a limit on the size of files makes a write stop in the middle."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("limit", "whole"), [(0, 0), (100, 0), (3000, 2)])
def test_a_full_disk_leaves_no_half_files(folder, limit, whole):
    wanted = [make_clip(0), make_clip(1, 200), make_clip(2)]
    with small_disk(limit), pytest.raises(TrainingDataError, match=r"cannot be written .*Free some space") as error:
        make(folder, wanted)
    assert isinstance(error.value.__cause__, OSError)
    assert list(folder.rglob("*.part")) == []
    assert len([*folder.glob("clips/*"), *folder.glob("texts/*")]) == whole  # the first clip, and the empty caption
    frames = Counted(encode_frames)
    assert len(make(folder, wanted, encode_frames=frames)) == 3
    assert len(frames.inputs) == (2 if whole else 3)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingDataError, match=r"file.*cannot be written \(.*\)\. Free some space or choose another folder"):
        make(tmp_path / "file" / "latents", [make_clip(0)])


# --- data hash --------------------------------------------------------------------------------------------------------


def test_data_hash_is_of_the_contents(tmp_path):
    def data_hash(name: str, clips, **options) -> str:
        return make(tmp_path / name, clips, **options).data_hash

    first = data_hash("a", map(make_clip, range(3)))
    assert data_hash("b", map(make_clip, range(3)), vae_id="the same by another name") == first
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert LatentClips(tmp_path / "copy").data_hash == first
    others = [
        data_hash("fewer", map(make_clip, range(2))),
        data_hash("order", map(make_clip, reversed(range(3)))),
        data_hash("pixels", map(make_clip, [0, 1, 9])),
        data_hash("caption", [make_clip(0), make_clip(1), make_clip(2, caption="another")]),
        data_hash("flip", map(make_clip, range(3)), flip=True),
        data_hash("frames", map(make_clip, range(3)), frames=3),
        data_hash("text encoder", map(make_clip, range(3)), encode_text=lambda text: encode_text(text) + 1),
        data_hash("empty text", map(make_clip, range(3)), encode_text=lambda text: encode_text(text) + (text == "")),
        data_hash("vae", map(make_clip, range(3)), encode_frames=lambda frames: encode_frames(frames) + 1),
    ]
    assert len({first, *others}) == 10


# --- what cannot be used ----------------------------------------------------------------------------------------------


class Unreadable(FramesClip):
    def read(self):
        raise ClipSkipped("cannot be read as a video (it is a song).")


def test_what_cannot_be_read_is_skipped_and_told(folder):
    nan = FramesClip("black", "x", torch.full((4, 3, SIZE, SIZE), torch.nan))
    short = make_clip(2, FRAMES - 1)
    clips = make(folder, [Unreadable("song", "x", torch.zeros(1)), make_clip(1), short, nan])
    assert clips.names == ("clip 1",)
    assert clips.skipped[0] == SkippedClip("song", "cannot be read as a video (it is a song).")
    assert clips.skipped[1] == SkippedClip("clip 2", "has 3 frames; at least 4 are needed.")
    assert clips.skipped[2].reason.startswith("gives latents that are NaN")
    assert LatentClips(folder).skipped == clips.skipped


def test_one_bad_video_among_good_ones(tmp_path, folder):
    videos = tmp_path / "videos"
    write(videos / "a.mp4", 12)
    write(videos / "c.webm", 12)
    (videos / "b.mp4").write_text("This is no video.")
    clips = make(folder, find_clips(videos, ClipSettings(SIZE, SIZE, FRAMES, 3), "x").clips)
    assert clips.names == ("a.mp4", "c.webm")
    assert [clip.name for clip in clips.skipped] == ["b.mp4"]


def test_nothing_left_is_an_error_that_lists_the_reasons(folder):
    short = [make_clip(number, 2) for number in range(7)]
    with pytest.raises(TrainingDataError, match=r"^None of the 7 clips can be used\. 'clip 0' has 2 frames; .*'clip 4' has .* And 2 more\.$"):
        make(folder, short)
    with pytest.raises(TrainingDataError, match="None of the 0 clips can be used. There are none"):
        make(folder, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode_frames": lambda frames: encode_frames(frames).movedim(1, 0)[None]}, r"The VAE encoded 4 frames to latents of shape \(1, 4, 4, 2, 2\)"),
        ({"encode_frames": lambda frames: encode_frames(frames)[:1]}, r"The VAE encoded 4 frames to latents of shape \(1, 4, 2, 2\)"),
        ({"encode_text": lambda text: encode_text(text)[None]}, r"no usable embedding of ''"),
        ({"encode_text": lambda text: encode_text(text) / 0}, r"no usable embedding of ''"),
        ({"encode_text": lambda text: torch.zeros(7 + len(text), 5)}, r"text embedding of 'caption 0' has size \(16, 5\), but those before it have \(7, 5\)"),
    ],
)  # fmt: skip
def test_encoders_that_do_not_fit_are_refused(folder, options, message):
    with pytest.raises(TrainingDataError, match=message):
        make(folder, [make_clip(0)], **options)


def test_clips_of_two_sizes_are_refused(folder):
    wide = FramesClip("wide", "x", torch.zeros(FRAMES, 3, SIZE, 2 * SIZE))
    with pytest.raises(TrainingDataError, match=r"latents of 'wide' has size \(4, 2, 4\), but those before it have \(4, 2, 2\)"):
        make(folder, [make_clip(0), wide])
