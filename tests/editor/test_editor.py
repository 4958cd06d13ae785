"""Nodes, the example workflow and help pages where a user meets them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from launcher.pack import PACK_NAME, PACK_ROOT
from PIL import Image

from .editor import EXAMPLE, EXAMPLES, Editor, load_example

if TYPE_CHECKING:  # without playwright these tests are skipped, not broken
    from playwright.sync_api import Locator

TITLE_HEIGHT = 30  # above a node's position
DOCS = sorted((PACK_ROOT / "web" / "docs").glob("Loom*.md"))


def find_example(editor: Editor) -> Locator:
    """The example's card in the template browser."""
    editor.page.get_by_label("Templates", exact=True).click()
    editor.page.get_by_text(PACK_NAME).last.click()
    card = editor.page.get_by_test_id("template-workflow-AnimateDiff - Text to Animation")
    card.wait_for()
    card.scroll_into_view_if_needed()
    return card


def test_the_example_has_a_moving_picture_and_opens_from_the_template_browser(editor: Editor):
    card = find_example(editor)
    # The editor shows a picture of its own where a template has none, but not as a blob.
    shown = card.locator("img[src^='blob:'], img[src*='workflow_templates']").first  # of frontend 1.47, of 1.58
    shown.wait_for()
    with Image.open(EXAMPLE.with_suffix(".jpg")) as picture:
        assert shown.evaluate("async image => { await image.decode(); return image.naturalWidth }") == picture.width
        assert picture.width == picture.height  # the card is a square
    looks = {shown.screenshot()}
    for _ in range(20):
        editor.page.wait_for_timeout(150)
        looks.add(shown.screenshot())
        if len(looks) > 1:
            break
    assert len(looks) > 1, "the picture stands still"

    card.click()
    editor.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(load_example()["nodes"]))
    assert editor.complaints() == ""
    saved = {node["id"]: node for node in load_example()["nodes"]}
    for node in editor.nodes():
        assert node["type"] == saved[node["id"]]["type"]
        assert node["pos"] == saved[node["id"]]["pos"]
        values = node.get("widgets_values", [])
        assert values == saved[node["id"]].get("widgets_values", values)
    assert editor.page.evaluate("app.graph.serialize().links") == load_example()["links"]
    check_layout(editor.nodes(), load_example()["groups"])


def test_all_examples_keep_their_layout_and_values(editor: Editor):
    """The editor makes a node larger that its example gives too little room, and drops values that it has no widget for."""
    for path in sorted(EXAMPLES.glob("*.json")):
        example = load_example(path)
        editor.page.evaluate("workflow => app.loadGraphData(workflow)", example)
        editor.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(example["nodes"]))
        editor.page.wait_for_timeout(500)  # nodes get their sizes after they are shown
        shown = editor.nodes()
        check_layout(shown, example["groups"])
        check_footers(editor, path.stem)
        for saved, node in zip(sorted(example["nodes"], key=by_id), sorted(shown, key=by_id), strict=True):
            assert node.get("widgets_values", []) == saved.get("widgets_values", []), f"{path.stem}: {node['type']}"
    # The editor asks how large the files are that are missing here, and may not.
    editor.problems[:] = [problem for problem in editor.problems if "https://huggingface.co" not in problem]


# Of a graph that is not shown, in a tenth of the time: what the canvas does to a node before it draws it.
NOT_SHOWN = """workflow => {
    const graph = new LiteGraph.LGraph()
    graph.configure(workflow)
    graph.nodes.forEach(node => node.expandToFitContent())
    return graph.serialize().nodes
}"""


@pytest.mark.parametrize("has_nodes_2", [False], ids=["canvas nodes"])
def test_all_examples_keep_their_layout_on_the_canvas(editor: Editor, has_nodes_2: bool):
    for path in sorted(EXAMPLES.glob("*.json")):
        example = load_example(path)
        check_layout(editor.page.evaluate(NOT_SHOWN, example), example["groups"])
    for node in example["nodes"]:
        node["size"] = [node["size"][0], 10]
    larger = editor.page.evaluate(NOT_SHOWN, example)
    assert all(node["size"][1] > 10 for node in larger if node.get("widgets_values"))  # so it would have shown


# Nodes 2.0 hangs buttons below a node's body: what is wrong with it, and its advanced inputs.
DRAWN = """() => [...document.querySelectorAll('[data-node-id]')].map(node => {
    const boxes = [node, ...node.querySelectorAll('button')].map(part => part.getBoundingClientRect()).filter(box => box.width)
    const edge = (side, choose) => choose(...boxes.map(box => box[side]))
    return [node.dataset.nodeId, [edge('left', Math.min), edge('top', Math.min), edge('right', Math.max), edge('bottom', Math.max)]]
})"""


def check_footers(editor: Editor, name: str) -> None:
    """Nodes 2.0: with the files missing, no node covers another, whatever hangs below it."""
    drawn = editor.page.evaluate(DRAWN)
    for number, (node, box) in enumerate(drawn):
        for other, other_box in drawn[number + 1 :]:
            assert not overlap(box, other_box), f"{name}: {node} and {other}"


def by_id(node: dict) -> int:
    return node["id"]


def check_layout(nodes: list[dict], groups: list[dict]) -> None:
    """However nodes are drawn, they stay inside their groups and apart."""
    boxes = {}
    for node in nodes:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes[f"{node['type']} {node['id']}"] = (x, y - TITLE_HEIGHT, x + width, y + height)
    for name, box in boxes.items():
        for x, y, width, height in (group["bounding"] for group in groups):
            if overlap(box, (x, y, x + width, y + height)):
                assert x <= box[0], name
                assert y <= box[1], name
                assert box[2] <= x + width, name
                assert box[3] <= y + height, name
        for other, other_box in boxes.items():
            assert name == other or not overlap(box, other_box), f"{name} and {other}"


def overlap(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("fault", ["node", "model"])
def test_the_editor_would_complain_about_a_broken_example(editor: Editor, fault: str):
    """So that silence, in the test above, means something."""
    workflow = load_example()
    for node in workflow["nodes"]:
        if node["type"] == "LoomLoadMotionModel" and fault == "model":
            node["widgets_values"] = ["no_such_file.ckpt"]
        if node["type"] == "LoomSampler" and fault == "node":
            node["type"] = "LoomNoSuchNode"
            node["properties"] = {}
    editor.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    missing = {"node": "LoomNoSuchNode", "model": "no_such_file.ckpt"}[fault]
    editor.notices().filter(has_text=missing).first.wait_for()
    assert missing in editor.complaints()
    editor.problems.clear()  # the editor's own words about the missing node


def test_the_example_runs_and_shows_its_animation(editor: Editor, has_nodes_2: bool):
    editor.page.evaluate("workflow => app.loadGraphData(workflow)", load_example())
    editor.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(load_example()["nodes"]))
    for name, value in (("width", 32), ("height", 32), ("frames", 6)):
        editor.set_widget("LoomEmptyAnimationLatent", name, value)
    editor.set_widget("LoomSampler", "steps", 2)
    editor.set_widget("LoomSampler", "seed", int(has_nodes_2))  # or ComfyUI shows what it has cached
    editor.page.evaluate("app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', 'latent2rgb')")
    editor.page.evaluate(
        """() => {
            window.previews = []
            app.api.addEventListener('b_preview_with_metadata', event => window.previews.push(event.detail.nodeId))
        }"""
    )
    with editor.page.expect_response(re.compile(r"/view\?.*AnimateDiff"), timeout=120_000) as shown:
        editor.page.get_by_test_id("queue-button").click()
    assert shown.value.status == 200
    assert shown.value.headers["content-type"] == "image/webp"
    previews = editor.page.evaluate("window.previews")
    sampler = next(node["id"] for node in load_example()["nodes"] if node["type"] == "LoomSampler")
    assert set(previews) == {str(sampler)}
    assert editor.complaints() == ""


def test_an_example_opens_as_an_app(editor: Editor):
    """Its prompts, sizes and seed as a form, without the graph."""
    editor.page.evaluate("workflow => app.loadGraphData(workflow)", load_example())
    editor.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(load_example()["nodes"]))
    editor.command("Comfy.ToggleLinear")
    try:
        form = editor.page.get_by_test_id("linear-widgets")
        form.wait_for()
        prompts = [node["widgets_values"][0] for node in load_example()["nodes"] if node["type"] == "CLIPTextEncode"]
        assert [box.input_value() for box in form.locator("textarea").all()] == prompts
    finally:
        editor.command("Comfy.ToggleLinear")
        editor.page.locator("#graph-canvas").wait_for()


@pytest.mark.skipif(not DOCS, reason="the pack has no help pages")
def test_help_pages_open(editor: Editor):
    for page in DOCS:
        text = page.read_text(encoding="utf-8")
        title, *sections = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        editor.page.evaluate(
            """type => {
                app.graph.clear()
                const node = LiteGraph.createNode(type)
                node.pos = [100, 100]
                app.graph.add(node)
                app.canvas.selectNode(node)
            }""",
            page.stem,
        )
        if not editor.page.locator(".node-help-content").is_visible():
            editor.page.get_by_test_id("info-button").click()
        shown = editor.page.locator(".node-help-content")
        shown.get_by_role("heading", name=title, exact=True).wait_for()
        assert shown.get_by_role("heading").all_inner_texts() == [title, *sections]
        assert shown.locator("table").count() == len(re.findall(r"^\|---", text, re.MULTILINE))
        assert shown.locator("code").count() > 0
