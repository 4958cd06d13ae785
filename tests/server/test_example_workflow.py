"""The example workflow as a user runs it, but small: progress, previews, and an animation in the end."""

from __future__ import annotations

import io
import json

import pytest
from launcher.client import ComfyClient, Prompt
from launcher.workflow import to_prompt
from PIL import Image

from .example import NAMES, find, load_example, shrink
from .world import rerun, run


@pytest.fixture
def example(client: ComfyClient) -> Prompt:
    return shrink(to_prompt(load_example(), client.object_info()))


def test_gives_an_animation_of_sixteen_frames(client, example):
    saved = find(example, "SaveAnimatedWEBP")
    made = run(client, example)
    with Image.open(io.BytesIO(made.file(saved))) as picture:
        assert picture.format == "WEBP"
        assert picture.n_frames == 16
        assert picture.size == (32, 32)
        frames = []
        for index in range(picture.n_frames):
            picture.seek(index)
            picture.load()
            frames.append(picture.convert("RGB").tobytes())
            assert picture.info["duration"] == 125  # 8 frames a second
    assert len(set(frames)) == 16


def test_the_animation_carries_its_prompt(client, example):
    saved = find(example, "SaveAnimatedWEBP")
    with Image.open(io.BytesIO(run(client, example).file(saved))) as picture:
        texts = [value for value in picture.getexif().values() if isinstance(value, str)]
    (text,) = [text.removeprefix("prompt:") for text in texts if text.startswith("prompt:")]
    stored = json.loads(text)
    for node in stored.values():
        node.pop("is_changed", None)  # ComfyUI's note of a node's fingerprint
    assert stored == example


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(client, example):
    sampler, saved = find(example, "LoomSampler"), find(example, "SaveAnimatedWEBP")
    example[find(example, "LoomEmptyAnimationLatent")]["inputs"]["frames"] = 4

    def pixels(seed: int) -> list[bytes]:
        example[sampler]["inputs"]["seed"] = seed
        with Image.open(io.BytesIO(rerun(client, example, sampler).file(saved))) as picture:
            assert picture.n_frames == 4
            shown = []
            for index in range(picture.n_frames):
                picture.seek(index)
                shown.append(picture.convert("RGB").tobytes())
            return shown

    first, again, other = pixels(7), pixels(7), pixels(8)
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_progress_and_moving_previews_of_the_sampler(client, example):
    sampler, latent = find(example, "LoomSampler"), find(example, "LoomEmptyAnimationLatent")
    example[latent]["inputs"]["frames"] = 6
    values, previews = [], []

    def on_progress(nodes):
        if nodes.get(sampler, {}).get("state") == "running":
            values.append((nodes[sampler]["value"], nodes[sampler]["max"]))

    def on_preview(image, metadata):
        previews.append((image, metadata["node_id"]))

    rerun(client, example, sampler, on_progress=on_progress, on_preview=on_preview)
    assert (1, 2) in values
    assert values == sorted(values)
    assert previews
    assert {node_id for _, node_id in previews} == {sampler}
    with Image.open(io.BytesIO(previews[-1][0])) as sheet:
        assert sheet.format == "JPEG"
        # Six square frames in two rows of three, so not just the first frame.
        assert sheet.width / sheet.height == pytest.approx(1.5, rel=0.01)  # sent in whole pixels


@pytest.mark.parametrize("workflow_name", ["Fast with AnimateLCM", "SDXL Animation", "Steer the Motion"])
def test_examples_of_other_models_and_of_steering_run(client, workflow_name):
    prompt = shrink(to_prompt(load_example(workflow_name), client.object_info()))
    done = run(client, prompt)
    with Image.open(io.BytesIO(done.file(find(prompt, "SaveAnimatedWEBP")))) as picture:
        assert (picture.n_frames, picture.size) == (16, (32, 32))
    if workflow_name == "Steer the Motion":
        (text,) = done.entry["outputs"][find(prompt, "LoomPlan")]["text"]
        assert "here it sees 16 at a time, at positions 0 to 11.25" in text
        assert "motion_scale 1, varying over frames; strength 1, varying over steps and blocks" in text
        assert "Warnings" not in text
        applied = prompt[find(prompt, "LoomApplyMotionModel")]["inputs"]
        assert {"motion_scale_values", "strength_steps", "strength_blocks"} < applied.keys()


@pytest.mark.parametrize("workflow_name", NAMES)
def test_the_workflow_is_as_the_editor_saves_it(workflow_name):
    """Links join slots that exist, types agree, and everything that is linked says so."""
    workflow = load_example(workflow_name)
    assert workflow["version"] == 0.4
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(links)
    for number, source, output, target, slot, kind in links.values():
        assert nodes[source]["outputs"][output]["type"] == kind
        assert {kind, "*"} & set(nodes[target]["inputs"][slot]["type"].split(","))
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
    used = [link for node in nodes.values() for slot in node["inputs"] if (link := slot["link"]) is not None]
    assert sorted(used) == sorted(links)


@pytest.mark.parametrize(
    ("workflow_name", "folders"),
    [
        ("Text to Animation", {"checkpoints", "animatediff_models"}),
        ("Steer the Motion", {"checkpoints", "animatediff_models"}),
        ("Fast with AnimateLCM", {"checkpoints", "animatediff_models", "loras"}),
        ("SDXL Animation", {"checkpoints", "animatediff_models"}),
        ("Long Animation", {"checkpoints", "animatediff_models"}),
        ("Seamless Loop", {"checkpoints", "animatediff_models"}),
        ("Video to Video", {"checkpoints", "animatediff_models", "controlnet"}),
        ("Sparse Control", {"checkpoints", "animatediff_models", "controlnet", "loras"}),
    ],
)
def test_the_editor_can_offer_the_files_that_are_missing(workflow_name, folders):
    offered = {
        model["directory"]: (model, node["widgets_values"][0])
        for node in load_example(workflow_name)["nodes"]
        for model in node["properties"].get("models", [])
    }
    assert offered.keys() == folders
    for model, chosen in offered.values():
        assert model["name"] == chosen
        assert model["url"].startswith("https://")
        assert model["url"].endswith(f"/{chosen}")


@pytest.mark.parametrize("workflow_name", NAMES)
def test_nodes_do_not_overlap_and_lie_inside_their_groups(workflow_name):
    workflow = load_example(workflow_name)
    boxes = [_box(node) for node in workflow["nodes"]]
    for i, (name, one) in enumerate(boxes):
        for other_name, other in boxes[i + 1 :]:
            assert not _overlap(one, other), f"{name} and {other_name}"
    for group in workflow["groups"]:
        x, y, width, height = group["bounding"]
        frame = (x, y, x + width, y + height)
        inside = [name for name, box in boxes if _overlap(box, frame)]
        assert inside, f"group {group['title']} is empty"
        for name, box in boxes:
            if name in inside:
                assert _contains(frame, box), f"{name} sticks out of group {group['title']}"


_TITLE_HEIGHT = 30  # above a node's position
_Box = tuple[float, float, float, float]


def _box(node: dict) -> tuple[str, _Box]:
    (x, y), (width, height) = node["pos"], node["size"]
    return f"{node['type']} {node['id']}", (x, y - _TITLE_HEIGHT, x + width, y + height)


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _contains(outer: _Box, inner: _Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]
