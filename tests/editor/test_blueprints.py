"""Blueprints: found by the node search, wired and run, as an artist does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from launcher.pack import PACK_ROOT

from .editor import Editor
from .test_search import open_search

FOLDER = PACK_ROOT / "subgraphs"
SMALL: dict[str, dict[str, Any]] = {
    "AnimateDiff Text to Animation": {"width": 32, "height": 32, "frames": 6, "steps": 1},
    "AnimateDiff Long Animation": {"width": 32, "height": 32, "frames": 18, "steps": 1},
    "AnimateDiff Seamless Loop": {"width": 32, "height": 32, "frames": 18, "repeat_frames": 10, "steps": 1},
    "AnimateDiff Video to Video": {"megapixels": 0.01, "steps": 2},
}

WIRE = """([values, prefix]) => {
    const make = (type, x, settings) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, 700]
        app.graph.add(node)
        set(node, settings)
        return node
    }
    const set = (node, settings) => {
        for (const [name, value] of Object.entries(settings)) node.widgets.find(widget => widget.name === name).value = value
    }
    const block = app.graph.nodes[0]
    const to = name => block.inputs.findIndex(input => input.name === name)
    set(block, values)
    const checkpoint = make("CheckpointLoaderSimple", 100, {})
    checkpoint.connect(0, block, to("model"))
    checkpoint.connect(1, block, to("clip"))
    checkpoint.connect(2, block, to("vae"))
    if (to("image") >= 0) make("EmptyImage", 500, { width: 64, height: 64, batch_size: 6 }).connect(0, block, to("image"))
    block.connect(0, make("SaveAnimatedWEBP", 900, { filename_prefix: prefix }), 0)
    return block.widgets.map(widget => widget.label || widget.name)
}"""


def test_the_files_are_those_that_are_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_blueprint_is_found_wired_and_runs(editor: Editor, name: str):
    prefix = "Blueprint" + name.replace(" ", "")
    open_search(editor).fill(name)
    editor.page.get_by_test_id("result-item").filter(has_text=name).first.click()
    editor.page.wait_for_function("app.graph.nodes.length === 1")
    editor.page.mouse.click(1200, 200)  # where it is put
    shown = editor.page.evaluate(WIRE, [SMALL[name], prefix])
    assert shown[:3] == ["motion_model_name", "positive", "negative"]
    assert editor.complaints() == ""
    with editor.page.expect_response(re.compile(rf"/view\?.*{prefix}"), timeout=120_000) as response:
        editor.page.get_by_test_id("queue-button").click()
    assert response.value.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_links_of_a_blueprint_join_slots_of_their_type(path):
    blueprint = json.loads(path.read_text(encoding="utf-8"))
    (block,), (inner,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert block["type"] == inner["id"]
    assert block["title"] == inner["name"] == path.stem
    assert [slot["name"] for slot in block["inputs"]] == [slot["name"] for slot in inner["inputs"]]
    assert len(block["widgets_values"]) == sum("widget" in slot for slot in block["inputs"])
    nodes = {node["id"]: node for node in inner["nodes"]}
    for link in inner["links"]:
        source = inner["inputs"] if link["origin_id"] == -10 else nodes[link["origin_id"]]["outputs"]
        target = inner["outputs"] if link["target_id"] == -20 else nodes[link["target_id"]]["inputs"]
        assert source[link["origin_slot"]]["type"] == link["type"] == target[link["target_slot"]]["type"]
        assert link["id"] in (source[link["origin_slot"]].get("linkIds") or source[link["origin_slot"]]["links"])
    wired = {slot["link"] for node in nodes.values() for slot in node["inputs"]} - {None}
    assert wired | {link for slot in inner["outputs"] for link in slot["linkIds"]} == {link["id"] for link in inner["links"]}
