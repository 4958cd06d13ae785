"""The training example over HTTP: clips in, a motion model out, animations with it; and a stop in between."""

from __future__ import annotations

import io
import re
import shutil

import pytest
import torch
from launcher.client import ComfyClient, Prompt
from launcher.errors import PromptFailedError, PromptInterruptedError
from launcher.workflow import to_prompt
from PIL import Image
from safetensors import safe_open

from .example import find, load_example, shrink
from .world import MOTION_MODEL, changed, run

SIZE, FRAMES, STEPS = 64, 4, 2


@pytest.fixture
def folders(server):
    """A folder of clips in ComfyUI's input folder; its output folder."""
    clips, output = server.base_directory / "input" / "my_clips", server.base_directory / "output"
    clips.mkdir(parents=True)
    for level in (60, 160):
        first, *rest = (Image.new("RGB", (SIZE, SIZE), (level, 20 * number, 0)) for number in range(FRAMES))
        first.save(clips / f"{level}.webp", save_all=True, append_images=rest, lossless=True)
        (clips / f"{level}.txt").write_text(f"level {level}")
    yield clips, output
    shutil.rmtree(clips)
    shutil.rmtree(output / "loom_training")


@pytest.fixture
def example(client: ComfyClient, folders) -> Prompt:
    """As users get it, but with tiny models, short clips and two steps."""
    prompt = shrink(to_prompt(load_example("Train a Motion Model"), client.object_info()))
    prompt[find(prompt, "LoomEmptyAnimationLatent")]["inputs"]["frames"] = FRAMES
    prompt[find(prompt, "LoomLoadTrainingClips")]["inputs"] |= {
        "folder": "my_clips", "width": SIZE, "height": SIZE, "frames": FRAMES, "stride": 1,
    }  # fmt: skip
    prompt[find(prompt, "LoomTrainMotionModel")]["inputs"] |= {"steps": STEPS, "precision": "fp32"}
    return prompt


def test_the_example_trains_saves_and_animates(client, server, example, folders):
    train = find(example, "LoomTrainMotionModel")
    values = []

    def on_progress(nodes):
        if nodes.get(train, {}).get("state") == "running":
            values.append((nodes[train]["value"], nodes[train]["max"]))

    made = run(client, example, on_progress=on_progress)
    assert values == sorted(values)
    assert (1, STEPS) in values
    with Image.open(io.BytesIO(made.file(find(example, "SaveAnimatedWEBP")))) as picture:
        assert (picture.size, picture.n_frames) == ((32, 32), FRAMES)
    with Image.open(io.BytesIO(made.file(find(example, "LossGraphNode")))) as graph:
        assert graph.width > 800
    (file,) = (folders[1] / "animatediff_models").glob("my_motion_model_*.safetensors")
    offered = client.object_info("LoomLoadMotionModel")["LoomLoadMotionModel"]["input"]["required"]["motion_model_name"]
    assert file.name in str(offered)
    with safe_open(file, framework="pt") as saved:
        metadata = saved.metadata()
    assert metadata["loom_steps"] == str(STEPS)
    assert metadata["loom_started_from"] == MOTION_MODEL
    assert "LoomTrainMotionModel" in metadata["prompt"]

    longer = run(client, changed(example, train, steps=STEPS + 1))
    assert train in longer.executed()
    assert f"Training continues from step {STEPS}" in server.log_text()
    assert run(client, changed(example, train, steps=STEPS + 1)).executed() == set()
    with pytest.raises(PromptFailedError, match="holds the checkpoint of another training run, .* learning_rate is"):
        run(client, changed(example, train, steps=STEPS + 1, learning_rate=0.002))
    file.unlink()


def test_a_cancelled_training_goes_on_where_it_was(client, server, example, folders):
    train = find(example, "LoomTrainMotionModel")
    example[train]["inputs"] |= {"steps": 1000, "checkpoint_name": "cancelled", "checkpoint_every": 1000}

    def cancel(nodes):
        if nodes.get(train, {}).get("value", 0) >= 2:
            client.interrupt()

    with pytest.raises(PromptInterruptedError):
        run(client, example, on_progress=cancel)
    checkpoint = folders[1] / "loom_training" / "checkpoints" / "cancelled" / "training_state.pt"
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 2 <= step < 1000
    run(client, changed(example, train, steps=step + 1))
    assert re.search(rf"Training continues from step {step}, in '.*cancelled'", server.log_text())
    assert torch.load(checkpoint, weights_only=True)["step"] == step + 1
