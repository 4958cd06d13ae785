"""The example workflow as a user runs it, but small: progress, previews, and an animation in the end."""

from __future__ import annotations

import io
import json
import re

import pytest
from launcher.client import ComfyClient, Prompt
from launcher.errors import PromptRejectedError
from launcher.workflow import to_prompt
from PIL import Image

from .example import FOLDER, NAMES, find, load_example, shrink
from .test_object_info import SNAPSHOT
from .world import rerun, run

NOT_NODES = {"Ctrl+B", "R", "Show advanced inputs", "Stable Diffusion 1.5 checkpoint", "SDXL checkpoint", "LoRA", "ControlNet"}
NOT_NODES |= {"HotshotXL", "Text2Video-Zero", "Flicker", "Motion", "Consistency", "Loop closure", "Stop", "SparseCtrl", "PIA's motion model", "CameraCtrl"}


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
    example[latent]["inputs"]["frames"], example[sampler]["inputs"]["steps"] = 6, 2
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


@pytest.mark.parametrize(
    ("workflow_name", "frames"),
    [
        ("Smoother Long Animation", 32), ("Custom Sampler", 48), ("Merge Motion Models", 16), ("Move to a Beat", 32),
        ("Steadier Animation", 16), ("Move Along a Path", 16),
    ],
)  # fmt: skip
def test_examples_of_noise_parts_mergers_and_beats_run(client, workflow_name, frames):
    prompt = shrink(to_prompt(load_example(workflow_name), client.object_info()))
    done = run(client, prompt)
    with Image.open(io.BytesIO(done.file(find(prompt, "SaveAnimatedWEBP")))) as picture:
        assert (picture.n_frames, picture.size) == (frames, (32, 32))
    notices = done.entry["prompt"][3].get("animatediff_loom_notices", [])
    assert [notice["text"] for notice in notices if notice["severity"] == "warn"] == []
    if workflow_name == "Merge Motion Models":
        (text,) = done.entry["outputs"][find(prompt, "LoomInspectFile")]["text"]
        assert "AnimateDiff v3" in text


@pytest.fixture
def picture(server):
    """Where the examples take it from: ComfyUI comes with one of this name."""
    path = server.base_directory / "input" / "example.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48), "teal").save(path)
    yield path
    path.unlink()


@pytest.mark.parametrize("workflow_name", ["Image to Animation", "Picture to Loop"])
def test_a_picture_is_animated(client, picture, workflow_name):
    prompt = shrink(to_prompt(load_example(workflow_name), client.object_info()))
    with Image.open(io.BytesIO(run(client, prompt).file(find(prompt, "SaveAnimatedWEBP")))) as made:
        frames = []
        for index in range(made.n_frames):
            made.seek(index)
            frames.append(made.convert("RGB").tobytes())
    assert len(frames) > 12  # a WEBP joins frames that are alike
    assert frames[0] != frames[8]


@pytest.mark.parametrize(("workflow_name", "loader"), [("SparseCtrl", "LoomLoadSparseControl"), ("Camera Path", "LoomLoadCameraControl")])
def test_examples_of_adapters_need_nothing_but_their_file(client, picture, workflow_name, loader):
    prompt = shrink(to_prompt(load_example(workflow_name), client.object_info()))
    with pytest.raises(PromptRejectedError) as caught:
        client.queue(prompt)
    assert caught.value.node_errors.keys() == {find(prompt, loader)}


def test_every_node_stands_in_an_example():
    shown = {node["type"] for name in NAMES for node in load_example(name)["nodes"]}
    ours = json.loads(SNAPSHOT.read_text(encoding="utf-8")).keys()
    assert ours - shown == set()


def test_the_examples_pictures_move_and_are_small():
    """The template browser asks for NAME.jpg alone, and browsers know an animated WEBP by its first bytes."""
    pictures = sorted(FOLDER.glob("*.jpg"))
    assert [path.stem for path in pictures] == sorted(path.stem for path in FOLDER.glob("*.json"))
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("WEBP", (320, 320)), path.stem
            assert picture.n_frames > 1, path.stem
        assert path.stat().st_size < 150_000, path.stem
    assert sum(path.stat().st_size for path in pictures) < 1_500_000


@pytest.mark.parametrize("workflow_name", NAMES)
def test_notes_name_nodes_as_they_are_called(client, workflow_name):
    """What a note prints in bold with capitals is a node, a key or a piece of the editor."""
    titles = {node["display_name"] or name for name, node in client.object_info().items()}
    titles |= {title.partition(" (")[0] for title in titles}
    for note in (node for node in load_example(workflow_name)["nodes"] if node["type"] == "MarkdownNote"):
        (text,) = note["widgets_values"]
        named = {name for name in re.findall(r"\*\*(.+?)\*\*", text) if name[0].isupper()}
        assert named - titles - NOT_NODES == set(), note["title"]
        assert "Live preview method" not in text  # Loom's own preview needs no setting


@pytest.mark.parametrize("workflow_name", NAMES)
def test_apps_show_inputs_and_outputs_that_exist(client, workflow_name):
    """The editor's app mode shows some widgets and results alone: these are named in the workflow."""
    workflow = load_example(workflow_name)
    shown = workflow["extra"].get("linearData")
    assert (shown is None) == (workflow_name in ("Measure an Animation", "Train a Motion Model"))
    if shown is not None:
        nodes = {node["id"]: node for node in workflow["nodes"]}
        for node_id, name in shown["inputs"]:
            slots = {slot["widget"]["name"]: slot for slot in nodes[node_id]["inputs"] if "widget" in slot}
            assert slots[name]["link"] is None
        assert all(client.object_info(kind)[kind]["output_node"] for kind in (nodes[node_id]["type"] for node_id in shown["outputs"]))


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
        ("Smoother Long Animation", {"checkpoints", "animatediff_models"}),
        ("Custom Sampler", {"checkpoints", "animatediff_models", "loras"}),
        ("Merge Motion Models", {"checkpoints", "animatediff_models"}),
        ("Move to a Beat", {"checkpoints", "animatediff_models"}),
        ("Steadier Animation", {"checkpoints", "animatediff_models"}),
        ("Move Along a Path", {"checkpoints", "animatediff_models"}),
        ("Image to Animation", {"checkpoints", "animatediff_models"}),
        ("Picture to Loop", {"checkpoints", "animatediff_models"}),
        ("SparseCtrl", {"checkpoints", "animatediff_models", "loras", "controlnet"}),
        ("PIA", {"checkpoints", "animatediff_models"}),
        ("AnimateLCM-I2V", {"checkpoints", "animatediff_models", "loras"}),
        ("Camera Path", {"checkpoints", "animatediff_models", "loras"}),
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


@pytest.mark.parametrize("workflow_name", NAMES)
def test_words_can_be_read_where_the_editor_fits_an_example_into_its_window(workflow_name):
    """A window of 1600 x 900 pixels: the editor fits nodes into three quarters of it, and draws no words below 57 %."""
    boxes = [box for _, box in map(_box, load_example(workflow_name)["nodes"])]
    width, height = (max(box[i + 2] for box in boxes) - min(box[i] for box in boxes) for i in (0, 1))
    assert min(0.75 * 1586 / width, 0.75 * 888 / height) > 8 / 14


_TITLE_HEIGHT = 30  # above a node's position
_Box = tuple[float, float, float, float]


def _box(node: dict) -> tuple[str, _Box]:
    (x, y), (width, height) = node["pos"], node["size"]
    return f"{node['type']} {node['id']}", (x, y - _TITLE_HEIGHT, x + width, y + height)


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _contains(outer: _Box, inner: _Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]
