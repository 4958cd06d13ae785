"""The timeline of schedules in the real editor: the text stays the one truth, whatever one does with either."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from launcher.pack import PACK_NAME, PACK_ROOT

from .editor import Editor

if TYPE_CHECKING:
    from playwright.sync_api import Locator

CASES = json.loads((PACK_ROOT / "tests" / "data" / "schedule_cases.json").read_text(encoding="utf-8"))
MODULES = f"/extensions/{PACK_NAME}/js/timeline"
SEA = "a watercolour\n\n0: a calm sea\n# later\n8: a storm {a|b}\n-1: night\nbest quality"

READ = """async ([url, cases]) => {
    const { Schedule } = await import(url)
    const { Unreadable } = await import(url.replace("schedule", "grammar"))
    const read = async settings => {
        try {
            const { ordered, values, hasFormulas } = new Schedule(settings)
            const keys = ordered.map(({ span, label, number }) => [span.first, span.last, label, number])
            if (!hasFormulas) return { values, keys }
            const answer = await app.api.fetchApi("/loom/values", { method: "POST", body: JSON.stringify(settings) })
            const { values: workedOut } = await answer.json()
            return workedOut && { values: workedOut, keys }
        } catch (error) {
            if (error instanceof Unreadable) return null
            throw error
        }
    }
    return Promise.all(cases.map(read))
}"""

ADD = """([type, x, y, values]) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    app.graph.add(node)
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find(widget => widget.name === name)
        widget.value = value
        widget.callback?.(value)
    }
    return node.id
}"""


# Whether the node's timeline is on the page whenever one looks, for a second.
STAYS = """async id => {
    for (let i = 0; i < 50; i++) {
        await new Promise(done => setTimeout(done, 20))
        if (!app.graph.getNodeById(id).widgets.find(widget => widget.name === 'timeline').element.isConnected) return false
    }
    return true
}"""


class Timelines:
    """The nodes of one page by their ids."""

    def __init__(self, editor: Editor) -> None:
        self.page = editor.page
        self.editor = editor
        self.page.evaluate("app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0]")

    def add(self, type: str, x: int = 100, y: int = 100, **values: Any) -> int:
        number = self.page.evaluate(ADD, [type, x, y, values])
        self.page.wait_for_timeout(500)
        self.page.evaluate("app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
        return number

    def on(self, number: int) -> Locator:
        # On the canvas, widgets stand beside one another in no node.
        self.page.evaluate(
            "id => { app.graph.getNodeById(id).widgets.find(w => w.name === 'timeline').element.dataset.testid = `timeline-${id}` }",
            number,
        )
        return self.page.get_by_test_id(f"timeline-{number}")

    def value(self, number: int, name: str = "text") -> Any:
        return self.page.evaluate(
            "([id, name]) => app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value", [number, name]
        )

    def set(self, number: int, name: str, value: Any) -> None:
        self.page.evaluate(
            "([id, name, value]) => { const w = app.graph.getNodeById(id).widgets.find(w => w.name === name); w.value = value; w.callback?.(value) }",
            [number, name, value],
        )

    def key(self, number: int, index: int) -> Locator:
        return self.on(number).locator(f".key[data-index='{index}'] .hit")

    def drag(self, what: Locator, x: float, y: float = 0) -> None:
        box = what.bounding_box()
        assert box
        left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        self.page.mouse.move(left + x / 2, top + y / 2)
        self.page.mouse.move(left + x, top + y, steps=3)
        self.page.mouse.up()
        self.page.wait_for_timeout(100)

    def frame_width(self, number: int) -> float:
        """Pixels from frame to frame, by the ruler."""
        frames = self.on(number).locator("text.frame")
        for _ in range(20):  # drawn anew when the server has worked out formulas
            first, last = frames.first, frames.last
            boxes = [label.bounding_box() for label in (first, last)]
            if all(boxes):
                break
            self.page.wait_for_timeout(100)
        centres = [box["x"] + box["width"] / 2 for box in boxes]
        numbers = [float(label.text_content().rstrip("%")) for label in (first, last)]
        return (centres[1] - centres[0]) / (numbers[1] - numbers[0])

    def undo(self) -> None:
        self.editor.command("Comfy.Undo")
        self.page.wait_for_timeout(600)

    def prompt(self, number: int) -> dict[str, Any]:
        output = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return output[str(number)]["inputs"]


@pytest.fixture
def timelines(editor: Editor) -> Timelines:
    return Timelines(editor)


def test_prompts_are_moved_added_and_deleted(timelines: Timelines, has_nodes_2: bool):
    node = timelines.add("LoomPromptSchedule", text=SEA, frames=17)
    shown = timelines.on(node)
    assert shown.locator("text.label").all_text_contents() == ["a calm sea", "a storm {a|b}", "night"][: shown.locator("text.label").count()]
    assert timelines.page.locator("textarea").first.bounding_box()["height"] > 80  # a new node has room for some lines
    timelines.set(node, "frames", 48)
    cut = shown.locator("text.label", has_text=re.compile("^a c.*…$"))  # there is less room for it now
    cut.wait_for()
    assert "a calm sea".startswith(cut.text_content()[:-1])
    timelines.set(node, "frames", 17)
    shown.get_by_text("a calm sea", exact=True).wait_for()
    width = timelines.frame_width(node)
    saved = timelines.page.evaluate("JSON.stringify(app.graph.serialize().nodes[0].widgets_values)")
    position = timelines.page.evaluate("id => [...app.graph.getNodeById(id).pos]", node)

    timelines.drag(timelines.key(node, 1), 3 * width)
    assert timelines.value(node) == SEA.replace("8:", "11:")
    assert timelines.page.evaluate("id => [...app.graph.getNodeById(id).pos]", node) == position
    assert "frame 11" in shown.locator("output").text_content()
    timelines.drag(timelines.key(node, 1), 5 * width)  # where night is, no other can be
    assert timelines.value(node) == SEA.replace("8:", "15:")
    timelines.undo()
    assert timelines.value(node) == SEA.replace("8:", "11:")
    timelines.undo()
    assert timelines.value(node) == SEA
    timelines.editor.command("Comfy.Redo")
    timelines.page.wait_for_timeout(600)
    assert timelines.value(node) == SEA.replace("8:", "11:")

    # What one sees after undo is the node that is there now, and stays so.
    timelines.on(node)
    assert timelines.page.evaluate(STAYS, node)
    shown = timelines.on(node)
    before = shown.locator("text.label").count()
    timelines.page.wait_for_timeout(300)
    box = shown.locator(".track").bounding_box()
    assert box
    timelines.page.mouse.dblclick(box["x"] + 4 * width, box["y"] + box["height"] - 10)
    added = SEA.replace("8:", "11:").replace("a calm sea", "a calm sea\n4: a calm sea")
    assert timelines.value(node) == added
    assert shown.locator("text.label").count() == before + 1
    timelines.page.keyboard.press("Delete")
    assert timelines.value(node) == SEA.replace("8:", "11:")
    assert len(timelines.editor.nodes()) == 1

    # With keys alone.
    shown.locator(".scroller").focus()
    for key in ("ArrowLeft", "ArrowRight", "Alt+ArrowLeft", "Alt+ArrowLeft"):
        timelines.page.keyboard.press(key)
    assert timelines.value(node) == SEA.replace("8:", "9:")
    timelines.undo()
    assert timelines.value(node) == SEA.replace("8:", "10:")

    # A run gets what it got without a timeline, and so does a file.
    inputs = timelines.prompt(node)
    assert inputs["text"].startswith("a watercolour\n\n0: a calm sea\n# later\n10: a storm ")  # a or b
    assert "timeline" not in inputs
    now = timelines.page.evaluate("JSON.stringify(app.graph.serialize().nodes[0].widgets_values)")
    assert json.loads(now) == [SEA.replace("8:", "10:"), *json.loads(saved)[1:]]


def test_text_and_frames_are_followed_and_what_is_not_read_is_left(timelines: Timelines, has_nodes_2: bool):
    node = timelines.add("LoomValueSchedule", text="# slow\n0: 1.0\n8: 0.5 # later\n12: sin(t)", frames=17)
    shown = timelines.on(node)
    assert shown.locator(".key").count() == 3
    timelines.drag(timelines.key(node, 1), 0, -30)
    pulled = timelines.value(node)
    number = float(pulled.split("8: ")[1].split(" ")[0])
    assert number > 0.6
    assert pulled == f"# slow\n0: 1.0\n8: {number} # later\n12: sin(t)"
    timelines.drag(timelines.key(node, 2), 2 * timelines.frame_width(node), -20)  # a formula moves, and stays a formula
    assert timelines.value(node) == pulled.replace("12: sin", "14: sin")
    timelines.set(node, "frames", 33)
    shown.locator("text.frame", has_text="32").wait_for()

    box = timelines.page.locator("textarea").first
    box.fill("0: 1.0\n4: what")
    shown.get_by_text("can't draw this text").wait_for()  # the server was asked: what is not known
    area = shown.locator(".scroller").bounding_box()
    assert area
    timelines.page.mouse.dblclick(area["x"] + 100, area["y"] + 60)
    timelines.page.keyboard.press("Delete")
    timelines.page.keyboard.press("Insert")
    assert timelines.value(node) == "0: 1.0\n4: what"
    box.fill("0: 1.0\n4: 0.3")
    shown.locator(".key[data-index='1']").wait_for()

    # Hundreds of frames: closer, and along.
    timelines.set(node, "frames", 400)
    shown.locator("text.frame", has_text="384").wait_for()
    shown.locator(".scroller").focus()
    for _ in range(6):
        timelines.page.keyboard.press("+")
    assert timelines.frame_width(node) > 5
    timelines.page.evaluate("root => { root.querySelector('.scroller').scrollLeft = 1e6 }", shown.element_handle())
    timelines.page.wait_for_timeout(300)
    assert int(shown.locator("text.frame").first.text_content()) > 250

    # Saved, loaded, copied and pasted.
    graph = timelines.page.evaluate("app.graph.serialize()")
    timelines.page.evaluate("graph => app.loadGraphData(graph)", graph)
    timelines.page.wait_for_timeout(700)
    assert timelines.on(node).locator(".key").count() == 2
    timelines.page.evaluate("id => { app.canvas.selectNode(app.graph.getNodeById(id)); app.canvas.copyToClipboard(); app.canvas.pasteFromClipboard() }", node)
    timelines.page.wait_for_timeout(700)
    (copy,) = (entry["id"] for entry in timelines.editor.nodes() if str(entry["id"]) != str(node))
    timelines.page.evaluate("id => { app.graph.getNodeById(id).pos = [800, 100]; app.canvas.setDirty(true, true) }", copy)
    timelines.page.wait_for_timeout(300)
    timelines.set(copy, "frames", 17)
    timelines.page.wait_for_timeout(400)
    timelines.drag(timelines.key(copy, 1), 4 * timelines.frame_width(copy))
    assert timelines.value(copy) != timelines.value(node) == "0: 1.0\n4: 0.3"


def test_links_and_subgraphs_are_followed(timelines: Timelines, has_nodes_2: bool):
    page = timelines.page
    node = timelines.add("LoomFrameValues", text="0: 1.0\n8: 0.5", frames=16)
    frames = timelines.add("PrimitiveInt", 500, 100, value=32)
    connect = "([from, slot, to, name]) => { const n = app.graph.getNodeById(to); app.graph.getNodeById(from).connect(slot, n, n.inputs.findIndex(i => i.name === name)) }"
    page.evaluate(connect, [frames, 0, node, "frames"])
    shown = timelines.on(node)
    shown.locator("text.frame", has_text="28").wait_for()
    timelines.set(frames, "value", 64)
    shown.locator("text.frame", has_text="56").wait_for()
    timelines.drag(timelines.key(node, 1), 8 * timelines.frame_width(node))
    moved = timelines.value(node)
    assert moved.startswith("0: 1.0\n16: ")

    # The motion model's trained frames and the windows that set themselves.
    motion_model, applied = timelines.add("LoomLoadMotionModel", 500, 300), timelines.add("LoomApplyMotionModel", 900, 100)
    page.evaluate(connect, [node, 0, applied, "motion_scale_values"])
    page.evaluate(connect, [motion_model, 0, applied, "motion_model"])
    shown.get_by_text("trained on 16").wait_for()
    shown.locator(".window").nth(4).wait_for()
    assert shown.locator(".window").count() == 5
    windows = timelines.add("LoomContextWindows", 900, 500, context_length=32, context_overlap=0)
    page.evaluate(connect, [applied, 0, windows, "model"])
    page.wait_for_function("root => root.querySelectorAll('.window').length === 2", arg=shown.element_handle())

    # The text over a link: shown, greyed, and not written.
    text = timelines.add("PrimitiveStringMultiline", 500, 500, value="0: 1.0\n4: 0.2\n8: 1.0")
    page.evaluate(connect, [text, 0, node, "text"])
    shown.locator(".key[data-index='2']").wait_for()
    assert "read-only" in shown.get_attribute("class")
    timelines.drag(timelines.key(node, 1), 60)
    assert timelines.value(text, "value") == "0: 1.0\n4: 0.2\n8: 1.0"
    page.evaluate("([id, name]) => { const n = app.graph.getNodeById(id); n.disconnectInput(n.inputs.findIndex(i => i.name === name)) }", [node, "text"])
    page.wait_for_timeout(400)
    assert "read-only" not in shown.get_attribute("class")

    # In a subgraph whose node has the text.
    page.evaluate(
        """id => {
            const { subgraph, node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]))
            const inner = subgraph.nodes[0]
            subgraph.inputNode.emptySlot.connect(inner.inputs.find(input => input.name === "text"), inner)
            node.widgets.find(widget => widget.name === "text").value = "0: 0.5\\n40: 1.0\\n50: 0.5"
            app.canvas.openSubgraph(subgraph, node)
        }""",
        node,
    )
    page.wait_for_timeout(1000)
    inner = page.evaluate("app.canvas.graph.nodes[0].id")
    assert page.evaluate("app.canvas.graph.nodes[0].widgets.at(-1).element.querySelectorAll('.key').length") == 3
    page.evaluate("id => { app.canvas.graph.getNodeById(id).widgets.at(-1).element.dataset.testid = 'inner' }", inner)
    assert "read-only" in page.get_by_test_id("inner").get_attribute("class")
    page.get_by_test_id("inner").locator("text.frame", has_text="56").wait_for()


def test_the_renderer_can_be_switched(timelines: Timelines):
    node = timelines.add("LoomStepCurve", text="0%: 1.0\n50%: 0.5")
    for nodes_2 in (False, True):
        timelines.page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", nodes_2)
        timelines.page.wait_for_timeout(1000)
        before = timelines.value(node)
        timelines.drag(timelines.key(node, 1), 10 * timelines.frame_width(node))
        assert timelines.value(node) != before
    assert timelines.value(node).startswith("0%: 1.0\n70%: 0.")


EDITS = """async ([url, text]) => {
    const { Schedule } = await import(`${url}/schedule.js`)
    const { addKey, moveKey, removeKey } = await import(`${url}/edits.js`)
    const schedule = new Schedule({ kind: "prompts", text, frames: 16, easing: "linear" })
    return [moveKey(schedule, 1, 10), addKey(schedule, 4), removeKey(schedule, 1)]
}"""


def test_the_grammar_is_pythons_and_edits_keep_how_a_text_is_written(editor: Editor):
    """tests/unit/test_schedule.py reads the same table with Python."""
    defaults = {"frames": 16, "easing": "linear"}
    found = editor.page.evaluate(READ, [f"{MODULES}/schedule.js", [defaults | case for case in CASES]])
    for case, schedule in zip(CASES, found, strict=True):
        if case.get("refused") or not case.get("drawn", True):
            assert schedule is None, case
        elif "values" in case:
            wanted = case["values"]
            numbers = dict(enumerate(wanted)) if isinstance(wanted, list) else {int(frame): wanted[frame] for frame in wanted}
            assert {frame: schedule["values"][frame] for frame in numbers} == pytest.approx(numbers, abs=1e-12), case
        elif "points" in case:
            points = [[first / 100, number] for first, _, _, number in schedule["keys"]]
            assert points == [pytest.approx(point) for point in case["points"]], case
        else:
            assert [key[:3] for key in schedule["keys"]] == [key[:3] for key in case["keys"]], case

    for text, moved, added, removed in [
        ("a\n\n0: b\n# c\n8: d\ne", "a\n\n0: b\n# c\n10: d\ne", "a\n\n0: b\n4: b\n# c\n8: d\ne", "a\n\n0: b\n# c\ne"),
        ('{"0": "a", "8": "b"}', '{"0": "a", "10": "b"}', '{"0": "a", "4": "a", "8": "b"}', '{"0": "a"}'),
        ('"0": "a",\n"8": "b"', '"0": "a",\n"10": "b"', '"0": "a",\n"4": "a",\n"8": "b"', '"0": "a"'),
        ("0: a | 8: b", "0: a | 10: b", "0: a | 4: a | 8: b", "0: a"),
        ("0%: a\n50%: b", "0%: a\n66.66%: b", "0%: a\n26.6%: a\n50%: b", "0%: a"),
        ("0.0: a\n0.5: b", "0.0: a\n0.63: b", "0.0: a\n0.3: a\n0.5: b", "0.0: a"),
        ("2: a\n-1: b", "2: a\n-6: b", "2: a\n4: a\n-1: b", "2: a"),
        ('"0": "a", "max_f/2": "b"', None, '"0": "a", "4": "a", "max_f/2": "b"', '"0": "a"'),  # a formula is not written anew
        ("0: a\n8:12: b", "0: a\n10:14: b", "0: a\n4: a\n8:12: b", "0: a"),
        ("0: a\n8: b\n10: c", None, "0: a\n4: a\n8: b\n10: c", "0: a\n10: c"),  # a frame has one prompt
    ]:
        assert editor.page.evaluate(EDITS, [MODULES, text]) == [moved, added, removed], text
