"""The example workflow that measures a clip with and one without the motion model, as a user runs it, but small."""

from __future__ import annotations

import io
import re

import pytest
from launcher.client import ComfyClient, Prompt
from launcher.errors import PromptRejectedError
from launcher.workflow import to_prompt
from PIL import Image

from .example import load_example
from .world import CHECKPOINT, MOTION_MODEL, Run, run

SMALLER = {
    "CheckpointLoaderSimple": {"ckpt_name": CHECKPOINT},
    "LoomLoadMotionModel": {"motion_model_name": MOTION_MODEL},
    "LoomEmptyAnimationLatent": {"width": 32, "height": 32, "frames": 5},
    "LoomSampler": {"steps": 2},
}
MEASURES = (
    "flicker", "motion amount", "motion direction", "frame consistency", "loop closure", "worst seam", "colour drift",
)


@pytest.fixture
def prompt(client: ComfyClient) -> Prompt:
    prompt = to_prompt(load_example("Measure an Animation"), client.object_info())
    for node in prompt.values():
        node["inputs"] |= SMALLER.get(node["class_type"], {})
    return prompt


def metrics_nodes(prompt: Prompt) -> list[str]:
    return [node_id for node_id, node in prompt.items() if node["class_type"] == "LoomAnimationMetrics"]


def report(done: Run, node_id: str) -> dict[str, float]:
    (text,) = done.entry["outputs"][node_id]["text"]
    return {name: float(value) for name, value in re.findall(r"^([\w ]+): (\S+) \(", text, re.MULTILINE)}


def test_both_clips_are_measured_and_shown(client, prompt):
    done = run(client, prompt)
    with_motion, without = metrics_nodes(prompt)
    for node_id in (with_motion, without):
        assert tuple(report(done, node_id)) == MEASURES
        with Image.open(io.BytesIO(done.file(node_id))) as picture:
            assert picture.format == "PNG"
            assert picture.size == (640, 360)
    assert report(done, with_motion) != report(done, without)


def test_the_two_branches_differ_in_the_motion_model_alone(prompt):
    with_motion, without = (node for node in prompt.values() if node["class_type"] == "LoomSampler")
    assert {name for name, value in with_motion["inputs"].items() if value != without["inputs"][name]} == {"model"}
    assert prompt[with_motion["inputs"]["model"][0]]["class_type"] == "LoomApplyMotionModel"
    schedule = prompt[without["inputs"]["model"][0]]
    assert schedule["class_type"] == "LoomNoiseSchedule"
    assert prompt[schedule["inputs"]["model"][0]]["class_type"] == "CheckpointLoaderSimple"


def test_bad_windows_are_refused_before_anything_runs(client, prompt):
    for node_id in metrics_nodes(prompt):
        prompt[node_id]["inputs"] |= {"context_length": 4, "context_overlap": 4}
    prompt = {node_id: node for node_id, node in prompt.items() if node["class_type"] != "SaveAnimatedWEBP"}
    with pytest.raises(PromptRejectedError) as caught:
        client.queue(prompt)
    assert sorted(caught.value.node_errors) == sorted(metrics_nodes(prompt))
    for node in caught.value.node_errors.values():
        assert "Context windows of 4 frames can't overlap by 4" in node["errors"][0]["details"]
