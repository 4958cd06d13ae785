"""Load Training Clips as the editor uses it: files are uploaded, and what has not changed is not done again."""

from __future__ import annotations

import shutil

import pytest
from launcher.client import ComfyClient, Prompt
from launcher.errors import PromptFailedError, PromptRejectedError
from PIL import Image

from .world import CHECKPOINT, Run, changed, node, run

SIZE = 64


def animation(level: int, frames: int) -> list[Image.Image]:
    return [Image.new("RGB", (SIZE, SIZE), (level, 20 * number, 0)) for number in range(frames)]


def write_clip(path, level: int, frames: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = animation(level, frames)
    first.save(path, save_all=True, append_images=rest, lossless=True)
    path.with_suffix(".txt").write_text(f"level {level}")


@pytest.fixture
def folder(server):
    """A folder in ComfyUI's input folder, with two clips and a file that is none."""
    folder = server.base_directory / "input" / "training"
    write_clip(folder / "a.webp", 40)
    write_clip(folder / "b.gif", 80)
    (folder / "broken.mp4").write_text("This is no video.")
    yield folder
    shutil.rmtree(folder)


def prompt(**inputs) -> Prompt:
    settings = {"width": SIZE, "height": SIZE, "frames": 4, "stride": 1, "flip": True, "default_caption": "", **inputs}
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "clips": node("LoomLoadTrainingClips", folder="training", vae=["checkpoint", 2], clip=["checkpoint", 1], **settings),
        "told": node("PreviewAny", source=["clips", 1]),
        "shown": node("PreviewImage", images=["clips", 2]),
    }


def report(done: Run) -> str:
    (text,) = done.entry["outputs"]["told"]["text"]
    return text


def test_clips_are_loaded_once(client: ComfyClient, server, folder):
    first = run(client, prompt())
    assert report(first).startswith("2 clips, 6 samples of 4 frames at a stride of 1, 64 x 64 pixels; 2 of the clips are also mirrored")
    assert "Skipped:\n  'broken.mp4' cannot be read as a video" in report(first)
    assert len(first.entry["outputs"]["shown"]["images"]) == 4
    assert "'broken.mp4' cannot be read" in server.log_text()
    assert run(client, prompt()).cached() == prompt().keys()

    cache = server.base_directory / "output" / "loom_training" / "clips"
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*/clips/*")}
    write_clip(folder / "c.gif", 120)
    second = run(client, prompt())
    assert second.executed() >= {"clips", "told"}
    assert report(second).startswith("3 clips")
    after = {path: path.stat().st_mtime_ns for path in cache.glob("*/clips/*")}
    assert len(after) == 3
    assert before.items() <= after.items()  # those that were there are not written again


@pytest.mark.parametrize("name", ["..", "/", "training/..", "elsewhere"])
def test_folders_that_are_not_offered_are_rejected(client: ComfyClient, folder, name):
    with pytest.raises(PromptRejectedError) as caught:
        run(client, changed(prompt(), "clips", folder=name))
    (error,) = caught.value.node_errors["clips"]["errors"]
    assert error["type"] == "value_not_in_list"


def test_what_is_wrong_is_said_at_the_node(client: ComfyClient, folder):
    with pytest.raises(PromptFailedError, match=r"None of the 3 clips can be used\. 'a\.webp' has 6 frames; at least 9 are needed\.") as caught:
        run(client, prompt(frames=9))
    assert caught.value.node_id == "clips"
