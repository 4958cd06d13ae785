"""Clips to train on, found in folders and read from files of every kind, good and bad."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from pack.motion_models.training.captions import read_caption_table
from pack.motion_models.training.clips import ClipSettings, FileClip, FramesClip, find_clips
from pack.motion_models.training.errors import ClipSkipped, TrainingDataError
from pack.motion_models.training.frame_files import images_in, resize_and_crop
from PIL import Image

from .videos import HEIGHT, STEP, WIDTH, numbers, picture, turn, write, write_sound

SETTINGS = ClipSettings(width=48, height=32, frames=4, stride=3)  # spans 10 frames
KINDS = ["clip.mp4", "clip.webm", "clip.mov", "clip.mkv", "clip.gif", "clip.webp", "clip"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "clips"


def read(path, settings=SETTINGS) -> torch.Tensor:
    return torch.cat(list(FileClip(path, path.name, "", settings).read()))


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_its_frames_at_the_stride(folder, name):
    frames = read(write(folder / name, 20))
    assert frames.shape == (7, 3, 32, 48)
    assert frames.dtype == torch.float32
    assert numbers(frames) == [0, 3, 6, 9, 12, 15, 18]
    assert frames[:, :, :, 2].min() > 0.9  # the bar is still on the left
    assert frames[:, :, :, -3].max() < 0.5


def test_a_video_is_read_piece_by_piece(folder):
    chunks = list(FileClip(write(folder / "a.mp4", 40), "a", "", SETTINGS).read())
    assert [numbers(chunk) for chunk in chunks] == [[0, 3, 6, 9], [12, 15, 18, 21], [24, 27, 30, 33], [36, 39]]


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_a_long_video_counts_up_to_a_limit(folder, name):
    settings = ClipSettings(48, 32, frames=4, stride=3, max_source_frames=17)
    assert numbers(read(write(folder / name, 40), settings)) == [0, 3, 6, 9, 12, 15]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webp", "clip"])
@pytest.mark.parametrize("count", range(4, 12))
def test_a_short_video_gives_a_sample_of_evenly_spaced_frames(folder, name, count):
    """The original: `np.linspace(start, start + min(len, span) - 1, frames, dtype=int)`; from a full span on, the stride."""
    expected = np.linspace(0, min(count, SETTINGS.span) - 1, SETTINGS.frames, dtype=int).tolist()
    assert numbers(read(write(folder / name, count))) == expected


@pytest.mark.parametrize("name", KINDS)
def test_a_video_with_too_few_frames_is_skipped(folder, name):
    with pytest.raises(ClipSkipped, match=r"^has 3 frames; at least 4 are needed\.$"):
        read(write(folder / name, 3))


def test_frames_are_ordered_by_their_numbers(folder):
    write(folder, 12)  # frame10 stands before frame2 in the alphabet
    assert [path.name for path in images_in(folder)] == [f"frame{number}.png" for number in range(12)]
    assert numbers(read(folder)) == [0, 3, 6, 9]


def test_a_video_filmed_sideways_is_turned_upright(folder):
    frames = read(turn(write(folder / "a.mp4", 10)), ClipSettings(HEIGHT, WIDTH, 4, 3))
    assert frames[:, :, 3].min() > 0.9  # clockwise, the bar on the left comes to the top
    assert frames[:, :, -3].max() < 0.5


def test_photos_are_turned_upright(folder):
    write(folder, 4)
    for path in images_in(folder):
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to show
        Image.open(path).save(path, exif=exif)
    frames = read(folder, ClipSettings(HEIGHT, WIDTH, 4, 1))
    assert frames[:, :, 3].min() > 0.9
    assert frames[:, :, -3].max() < 0.5


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_images_of_other_modes_are_read(folder, mode):
    folder.mkdir()
    for number in range(4):
        image = Image.fromarray(picture(0))
        image.convert(mode).save(folder / f"{number}.{'jpg' if mode == 'CMYK' else 'png'}", quality=100)
    frames = read(folder, ClipSettings(WIDTH, HEIGHT, 4, 1))
    assert torch.allclose(frames, torch.from_numpy(picture(0)).movedim(-1, 0) / 255, atol=4 / 255)


def test_16_bit_grey_keeps_its_levels(folder):
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((32, 48), 257 * STEP * (number + 1), np.uint16)).save(folder / f"{number}.png")
    assert numbers(read(folder, ClipSettings(48, 32, 4, 1))) == [1, 2, 3, 4]


def pillows(frame: torch.Tensor, size: tuple[int, int], box: tuple[int, int, int, int]) -> torch.Tensor:
    image = Image.fromarray(frame.movedim(0, -1).numpy()).resize(size, Image.Resampling.BILINEAR).crop(box)
    return torch.from_numpy(np.array(image)).movedim(-1, 0) / 255


@pytest.mark.parametrize(
    ("old", "new", "scaled", "box"),
    [
        ((200, 100), (50, 50), (100, 50), (25, 0, 75, 50)),  # wide: as high as wanted, sides cut off
        ((100, 200), (50, 50), (50, 100), (0, 25, 50, 75)),  # high
        ((100, 100), (80, 40), (80, 80), (0, 20, 80, 60)),
        ((40, 20), (80, 80), (160, 80), (40, 0, 120, 80)),  # enlarged
        ((64, 64), (64, 64), (64, 64), (0, 0, 64, 64)),
    ],
)
def test_frames_cover_the_size_and_their_centre_is_kept(old, new, scaled, box):
    frame = torch.randint(0, 256, (3, old[1], old[0]), dtype=torch.uint8)
    found = resize_and_crop(frame, *new)
    assert found.shape == (3, new[1], new[0])
    assert (found - pillows(frame, scaled, box)).abs().max() <= 1.01 / 255  # Pillow rounds after each direction


@pytest.mark.parametrize(("width", "height"), [(427, 240), (1, 1000), (333, 7), (853, 481), (31, 33)])
def test_any_shape_of_frame_fills_the_size(width, height):
    assert resize_and_crop(torch.zeros(3, height, width, dtype=torch.uint8), 64, 48).shape == (3, 48, 64)


def break_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "text.mp4": lambda path: path.write_text("This is no video."),
    "empty.mp4": lambda path: path.touch(),
    "cut.mp4": lambda path: break_off(write(path, 30)),
    "cut.mkv": lambda path: break_off(write(path, 3)),
    "empty.webm": lambda path: path.touch(),
    "empty.gif": lambda path: path.touch(),
    "sound.mp4": write_sound,
    "text.webp": lambda path: path.write_text("This is no image."),
    "cut.webp": lambda path: break_off(write(path, 30)),
    "frame": lambda path: break_off(write(path, 12) / "frame6.png"),
    "textframe": lambda path: (write(path, 12) / "frame3.png").write_text("This is no image."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_file_is_skipped_with_the_reason(folder, name):
    folder.mkdir()
    BROKEN[name](folder / name)
    with pytest.raises(ClipSkipped, match=r"cannot be read|holds no video|has \d frames"):
        read(folder / name)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_that_leads_nowhere_is_skipped(folder):
    folder.mkdir()
    (folder / "a.mp4").symlink_to(folder / "gone.mp4")
    (clip,) = find_clips(folder, SETTINGS, "x").clips
    with pytest.raises(ClipSkipped, match="cannot be read"):
        _ = clip.identity


def test_videos_are_opened_only_when_read(folder):
    write(folder / "a.mp4", 4)
    (folder / "a.txt").write_text("a grey wall")
    code = (
        "import sys, types; pack = types.ModuleType('pack'); pack.__path__ = [sys.argv[1]]; sys.modules['pack'] = pack\n"
        "from pathlib import Path\n"
        "from pack.motion_models.training import latent_clips\n"
        "from pack.motion_models.training.clips import ClipSettings, find_clips\n"
        "found = find_clips(Path(sys.argv[2]), ClipSettings(8, 8, 4, 1))\n"
        "print('av' in sys.modules, end=' '); list(found.clips[0].read()); print('av' in sys.modules)"
    )
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    done = subprocess.run([sys.executable, "-c", code, root, folder], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- finding ----------------------------------------------------------------------------------------------------------


def put(folder, *names: str) -> None:
    """Files that only have to be there: `find_clips` opens no video."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def captions(folder, default="") -> dict[str, str]:
    return {clip.name: clip.caption for clip in find_clips(folder, SETTINGS, default).clips}


def test_clips_are_found_in_subfolders_in_natural_order(folder):
    put(folder, "10.mp4", "2.MP4", "b/1.webm", "a/x/frame1.png", "a/x/frame2.jpg", ".hidden.mp4", "__MACOSX/2.mp4", ".git/a.mp4", "c/notes.md")
    assert list(captions(folder, "x")) == ["2.MP4", "10.mp4", "a/x", "b/1.webm"]


def test_a_folder_of_images_is_itself_a_clip(folder):
    write(folder, 12)
    (folder / "caption.txt").write_text("a wall\n that brightens ")
    (clip,) = find_clips(folder, SETTINGS).clips
    assert (clip.name, clip.caption) == ("clips", "a wall that brightens")
    assert numbers(torch.cat(list(clip.read()))) == [0, 3, 6, 9]


def test_a_webp_is_a_clip_if_it_is_animated_and_else_a_frame(folder):
    write(folder / "moving.webp", 12)
    (folder / "frames").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(picture(number)).save(folder / "frames" / f"{number}.webp")
    assert list(captions(folder, "x")) == ["frames", "moving.webp"]


def test_images_beside_videos_are_noted(folder):
    put(folder, "a.mp4", "a.jpg", "b.mp4", "b.jpg")
    found = find_clips(folder, SETTINGS, "x")
    assert [clip.name for clip in found.clips] == ["a.mp4", "b.mp4"]
    (note,) = (note for note in found.notes if "Images" in note)
    assert note.startswith("Images next to videos are not used: 'a.jpg', 'b.jpg'. ")


@pytest.mark.parametrize("names", [[], ["readme.txt"], ["sub/notes.md", ".a.mp4"]])
def test_a_folder_without_clips_is_refused(folder, names):
    folder.mkdir()
    put(folder, *names)
    with pytest.raises(TrainingDataError, match=r"holds no clips\. Put videos in it \(.*\.mp4.*\.webp.*one folder of numbered images"):
        find_clips(folder, SETTINGS)


def test_a_folder_that_is_not_there_is_refused(folder):
    with pytest.raises(TrainingDataError, match="does not exist"):
        find_clips(folder, SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames is 0"), ({"stride": 0}, "stride is 0"), ({"width": -8}, "width is -8"),
        ({"frames": 100, "stride": 11}, "span 1090 frames of a video; at most 1024"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(TrainingDataError, match=message):
        ClipSettings(**{"width": 8, "height": 8, **changes})


def test_identity_changes_with_the_contents_only(folder):
    write(folder / "a.gif", 5)
    write(folder / "b", 5)

    def identities(settings=SETTINGS, place=folder) -> list[str]:
        return [clip.identity for clip in find_clips(place, settings, "x").clips]

    before = identities()
    assert len(set(before)) == 2
    assert identities() == before
    assert set(identities(ClipSettings(48, 32, 4, 2))).isdisjoint(before)
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)  # with the files' dates
    assert identities(place=moved) == before
    os.utime(folder / "b" / "frame3.png", (1, 1))
    assert [now == then for now, then in zip(identities(), before, strict=True)] == [True, False]
    write(folder / "a.gif", 6)
    assert not set(identities()) & set(before)


def test_identity_of_frames_in_memory_is_their_values():
    frames = torch.rand(4, 3, 8, 8)
    identity = FramesClip("a", "x", frames).identity
    assert FramesClip("b", "y", frames.clone()).identity == identity
    assert FramesClip("a", "x", frames.movedim(0, 1)).identity != identity
    assert FramesClip("a", "x", frames + 1e-6).identity != identity


# --- captions ---------------------------------------------------------------------------------------------------------


def test_a_text_file_beside_a_clip_is_its_caption(folder):
    put(folder, "a.mp4", "sub/b.v2.webm", "walk.1/1.png", "run/1.png")
    (folder / "a.txt").write_text("  a dog\nruns \n", encoding="utf-8-sig")
    (folder / "sub" / "b.v2.txt").write_text("Bäume im Wind", encoding="utf-8")
    (folder / "walk.1.txt").write_text("a man walks")
    (folder / "run" / "caption.txt").write_text("a man runs")
    assert captions(folder) == {
        "a.mp4": "a dog runs", "run": "a man runs", "sub/b.v2.webm": "Bäume im Wind", "walk.1": "a man walks",
    }  # fmt: skip


TABLE = {
    "file,caption": 'file,caption\na.mp4,"a dog, running"\nsub/b.webm,a cat\nwalk,a man walks\n',
    "without endings": 'file,caption\na,"a dog, running"\nsub/b,a cat\nwalk,a man walks\n',
    "file_name,text": 'file_name,text\na.mp4,"a dog, running"\nsub/b.webm,a cat\nwalk,a man walks\n',
    "other columns": 'id, Prompt ,Video\n1,"a dog, running",a.mp4\n2,a cat,.\\sub\\b.webm\n3,a man walks,./walk/\n',
    "semicolons": "file;caption\na.mp4;a dog, running\nsub/b.webm;a cat\nwalk;a man walks\n",
    "tabs": "file\tcaption\na.mp4\ta dog, running\nsub/b.webm\ta cat\nwalk\ta man walks\n",
    "AnimateDiff": 'videoid,name,page_dir\na,"a dog, running",\nb,a cat,sub\nwalk,a man walks,\n',
    "WebVid": 'videoid,contentUrl,duration,page_dir,name\na,http://x/a.mp4,PT1S,0_1,"a dog, running"\nb,u,d,sub,a cat\nwalk,u,d,s,a man walks\n',
    "line breaks": 'file,caption\r\na.mp4,"a dog,\n running"\r\nsub/b.webm,a cat\r\nwalk,a man walks\r\n',
}


@pytest.mark.parametrize("table", TABLE.values(), ids=TABLE)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_has_the_captions(folder, table, encoding):
    put(folder, "a.mp4", "sub/b.webm", "walk/1.png")
    (folder / "captions.csv").write_text(table, encoding=encoding, newline="")
    assert captions(folder) == {"a.mp4": "a dog, running", "sub/b.webm": "a cat", "walk": "a man walks"}


def test_csv_then_text_file_then_default(folder):
    put(folder, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    (folder / "all.csv").write_text("file,caption\na.mp4,from csv\nd.mp4,\ngone.mp4,lost\n")
    for name in "abd":
        (folder / f"{name}.txt").write_text("from text")
    found = find_clips(folder, SETTINGS, "by default")
    assert [clip.caption for clip in found.clips] == ["from csv", "from text", "by default", "from text"]
    assert found.notes == (
        "Clips without a caption: 'c.mp4'. They use \"by default\".", "In the csv file, but not in the folder: 'gone.mp4'.",
    )  # fmt: skip


def test_no_captions_at_all_are_refused(folder):
    put(folder, "a.mp4", "walk/1.png")
    with pytest.raises(TrainingDataError, match=r"None of the 2 clips in .* has a caption\. Write what 'a\.mp4' shows into 'a\.txt'.*default caption"):
        find_clips(folder, SETTINGS)
    assert captions(folder, "x") == {"a.mp4": "x", "walk": "x"}


def test_some_missing_captions_are_noted(folder):
    put(folder, "a.mp4", "b.mp4")
    (folder / "a.txt").write_text("a dog")
    assert find_clips(folder, SETTINGS).notes == ("Clips without a caption: 'b.mp4'. They use an empty caption.",)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", r"has the columns \(none\)"),
        (b"name,url\na,b\n", r"has the columns 'name', 'url'\. Its first line must name .*videoid,name,page_dir"),
        (b"a.mp4,a dog\n", r"has the columns 'a\.mp4', 'a dog'"),
        (b"file,caption\na.mp4,a dog, running\n", r"line 2, has more columns .*double quotes"),
        (b"file,caption\na.mp4,a dog\na.mp4,a cat\n", r"line 3, has a second caption for 'a\.mp4'"),
        ("file,caption\na.mp4,Bäume\n".encode("latin-1"), r"is not UTF-8 text"),
        (b"file,caption\na.mp4,\"" + b"x" * 200_000 + b"\"\n", r"cannot be read as a csv file"),
    ],
)  # fmt: skip
def test_a_csv_file_that_is_wrong_is_refused(tmp_path, contents, message):
    (tmp_path / "captions.csv").write_bytes(contents)
    with pytest.raises(TrainingDataError, match=rf"^'captions\.csv'.*{message}"):
        read_caption_table(tmp_path / "captions.csv")


def test_two_csv_files_are_refused(folder):
    put(folder, "a.mp4", "one.csv", "two.csv")
    with pytest.raises(TrainingDataError, match=r"holds 2 csv files: 'one\.csv', 'two\.csv'"):
        find_clips(folder, SETTINGS, "x")


def test_a_caption_that_is_not_utf8_is_refused(folder):
    put(folder, "a.mp4")
    (folder / "a.txt").write_bytes("Bäume".encode("latin-1"))
    with pytest.raises(TrainingDataError, match=r"caption 'a\.txt' cannot be read .* Save it as UTF-8"):
        find_clips(folder, SETTINGS)
