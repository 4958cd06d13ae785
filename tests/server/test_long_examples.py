"""The example workflows whose clips are longer than a context window, as users run them, but small."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
from launcher.client import ComfyClient, Prompt
from launcher.errors import PromptRejectedError
from launcher.workflow import to_prompt
from PIL import Image

from .example import find, load_example, shrink
from .world import Run, node, run

VIDEO_FPS, VIDEO_FRAMES = 10, 25  # of the video that is put in, longer than what Trim Video leaves
USED_FRAMES = 20  # two seconds


def animation(done: Run) -> tuple[set[bytes], int]:
    """The different frames that were saved, and how many frames there are."""
    with Image.open(io.BytesIO(done.file(find(done.prompt, "SaveAnimatedWEBP")))) as picture:
        frames = set()
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.add(picture.convert("RGB").tobytes())
        return frames, picture.n_frames


def with_plan(prompt: Prompt, frames: str) -> Prompt:
    """Also ask what will run; ``frames`` is the class of the node that makes the latent."""
    asked = {"model": [find(prompt, "LoomContextWindows"), 0], "latent": [find(prompt, frames), 0]}
    return {**prompt, "plan": node("LoomPlan", steps=2, cfg=7.5, **asked)}


def plan(done: Run) -> str:
    (text,) = done.entry["outputs"]["plan"]["text"]
    return text


def test_one_movement_takes_the_whole_of_a_long_animation(client: ComfyClient):
    prompt = shrink(to_prompt(load_example("Long Animation"), client.object_info()))
    done = run(client, with_plan(prompt, "LoomEmptyAnimationLatent"))
    frames, count = animation(done)
    assert count == len(frames) == 64
    assert "here it sees 16 at a time, at positions 0 to 14.994" in plan(done)
    assert "Context windows: 5 of 16 frames\n   0-15, 12-27, 24-39, 36-51, 48-63" in plan(done)
    assert "Warnings" not in plan(done)


def test_a_seamless_loop_swings_and_is_measured(client: ComfyClient):
    prompt = shrink(to_prompt(load_example("Seamless Loop"), client.object_info()))
    done = run(client, with_plan(prompt, "LoomEmptyAnimationLatent"))
    frames, count = animation(done)
    assert count == len(frames) == 30
    assert "at positions 0 to 15" in plan(done)
    assert re.search(r"\d+-29\+0-\d+", plan(done)), "no window goes round the clip's end"
    assert "Warnings" not in plan(done)
    (measured,) = done.entry["outputs"][find(prompt, "LoomAnimationMetrics")]["text"]
    assert re.search(r"^loop closure: \d+\.\d+ \(", measured, re.MULTILINE)


# --- video to video --------------------------------------------------------------------------------------------------


def write_video(path: Path) -> Path:
    """Grey frames that get lighter, 96 x 64 pixels, and silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(VIDEO_FRAMES):
            grey = np.full((64, 96, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
        samples = np.zeros((1, 8000 * VIDEO_FRAMES // VIDEO_FPS), np.float32)
        silence = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return path


@pytest.fixture
def video(server):
    """The video that the example names, in ComfyUI's input folder."""
    path = write_video(server.base_directory / "input" / "my_video.mp4")
    yield path
    path.unlink()


def test_a_video_becomes_a_video_of_the_same_length_with_its_sound(client: ComfyClient, video: Path):
    prompt = shrink(to_prompt(load_example("Video to Video"), client.object_info()))
    assert not {"Canny", "ControlNetLoader", "ControlNetApplyAdvanced"} & {part["class_type"] for part in prompt.values()}
    done = run(client, with_plan(prompt, "VAEEncode"))
    assert "Context windows: 2 of 16 frames\n   0-15, 4-19" in plan(done)
    with av.open(io.BytesIO(done.file(find(prompt, "SaveVideo")))) as container:
        (stream,), (_sound,) = container.streams.video, container.streams.audio
        assert (stream.width, stream.height, stream.average_rate) == (128, 80, VIDEO_FPS)
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
    assert len(levels) == USED_FRAMES
    # Half of the noise leaves what is dark and what is light.
    assert np.corrcoef(levels, range(USED_FRAMES))[0, 1] > 0.5


def test_the_controlnet_needs_nothing_but_its_file_to_be_switched_on(client: ComfyClient, video: Path):
    workflow = load_example("Video to Video")
    bypassed = [part for part in workflow["nodes"] if part["mode"] == 4]
    assert {part["type"] for part in bypassed} == {"Canny", "ControlNetLoader", "ControlNetApplyAdvanced"}
    for part in bypassed:
        part["mode"] = 0
    prompt = shrink(to_prompt(workflow, client.object_info()))
    sampler, control = prompt[find(prompt, "LoomSampler")]["inputs"], find(prompt, "ControlNetApplyAdvanced")
    assert (sampler["positive"], sampler["negative"]) == ([control, 0], [control, 1])
    with pytest.raises(PromptRejectedError) as caught:
        client.queue(prompt)
    assert caught.value.node_errors.keys() == {find(prompt, "ControlNetLoader")}
