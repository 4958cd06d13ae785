"""The example of Text2Video-Zero as a user runs it, but small: no motion model's file is asked for."""

from __future__ import annotations

import io

from launcher.client import ComfyClient
from launcher.workflow import to_prompt
from PIL import Image

from .example import find, load_example
from .world import CHECKPOINT, run


def test_the_example_moves(client: ComfyClient):
    prompt = to_prompt(load_example("Text2Video-Zero"), client.object_info())
    assert not any(node["class_type"] == "LoomLoadMotionModel" for node in prompt.values())
    prompt[find(prompt, "CheckpointLoaderSimple")]["inputs"]["ckpt_name"] = CHECKPOINT
    prompt[find(prompt, "LoomEmptyAnimationLatent")]["inputs"] |= {"width": 64, "height": 64}
    prompt[find(prompt, "LoomSampler")]["inputs"]["steps"] = 4
    with Image.open(io.BytesIO(run(client, prompt).file(find(prompt, "SaveAnimatedWEBP")))) as picture:
        assert picture.n_frames == 8
        frames = []
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(picture.convert("RGB").tobytes())
    assert len(set(frames)) == 8
