"""How much work daily jobs are in the editor: nodes, wires, values, clicks and drags of a real mouse.

Not one of the suite's tests: ``python3 loom.py test tests/editor/measure_jobs.py`` writes jobs.md, for docs/animatediff_evolved.md,
into the folder that LOOM_SCREENSHOTS names. Each job uses the node search, drags from slot to slot and the widgets of Nodes 2.0,
and ends in a run. A double click counts as one click; typing is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .editor import Editor
from .test_search import open_search

ZOOM = 0.6
VIEW = "zoom => { app.canvas.ds.scale = zoom; app.canvas.ds.offset = [0, 0]; app.canvas.setDirty(true, true) }"
START = """types => {
    const places = [[100, 150], [480, 150], [480, 420], [480, 690], [950, 150], [1330, 150], [1600, 150]]
    const nodes = types.map((type, i) => {
        const node = LiteGraph.createNode(type)
        node.pos = places[i]
        app.graph.add(node)
        return node
    })
    const [checkpoint, positive, negative, latent, sampler, decode, save] = nodes
    if (!sampler) return
    checkpoint.connect(0, sampler, 0)
    for (const text of [positive, negative]) checkpoint.connect(1, text, 0)
    positive.connect(0, sampler, 1)
    negative.connect(0, sampler, 2)
    latent.connect(0, sampler, 3)
    sampler.connect(0, decode, 0)
    checkpoint.connect(2, decode, 1)
    decode.connect(0, save, 0)
}"""
SHRINK = """() => {
    for (const {widgets} of app.graph.nodes) {
        for (const [name, value] of Object.entries({ width: 64, height: 64, steps: 2 })) {
            const widget = widgets?.find(widget => widget.name === name)
            if (widget) widget.value = value
        }
    }
}"""
INPUT = "([id, name]) => app.graph.getNodeById(id).inputs.findIndex(input => input.name === name)"
ORIGIN = "([id, slot]) => String(app.graph.getLink(app.graph.getNodeById(id).inputs[slot].link)?.origin_id)"
TYPES = ["CheckpointLoaderSimple", "CLIPTextEncode", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage"]
PLACES = [(400, 1000), (850, 1000), (1300, 1000), (1800, 1000)]


class Hand:
    """A mouse that counts what it does."""

    def __init__(self, editor: Editor):
        self.editor, self.page = editor, editor.page
        self.count = dict.fromkeys(("nodes", "wires", "values", "clicks", "drags"), 0)
        self.places = iter(PLACES)

    def add(self, name: str) -> int:
        """Double-click the canvas, type, choose, put down."""
        before = {node["id"] for node in self.editor.nodes()}
        open_search(self.editor).fill(name)
        self.page.get_by_test_id("result-item").filter(has_text=name).first.click()
        self.page.wait_for_timeout(300)
        x, y = (ZOOM * part for part in next(self.places))
        self.page.mouse.move(x, y, steps=4)
        self.page.wait_for_timeout(300)
        self.page.mouse.click(x, y)
        self.page.wait_for_timeout(300)
        self.count["nodes"] += 1
        self.count["clicks"] += 3
        (new,) = {node["id"] for node in self.editor.nodes()} - before
        return new

    def wire(self, source: int, output: int, target: int, name: str) -> None:
        slot = self.page.evaluate(INPUT, [target, name])
        from_, to = (self._middle(f"[data-slot-key='{key}']") for key in (f"{source}-out-{output}", f"{target}-in-{slot}"))
        self.page.mouse.move(*from_)
        self.page.mouse.down()
        self.page.mouse.move(*to, steps=8)
        self.page.wait_for_timeout(150)
        self.page.mouse.up()
        self.page.wait_for_timeout(150)
        self.count["wires"] += 1
        self.count["drags"] += 1
        assert self.page.evaluate(ORIGIN, [target, slot]) == str(source), (source, target, name)

    def set(self, node: int, name: str, value: Any) -> None:
        """A number, a text, a switch or one of a list."""
        widget = self.page.locator(f"[data-node-id='{node}'] [data-testid='node-widget']").filter(
            has=self.page.locator(f"[aria-label='{name}'], label:text-is('{name}')")
        )
        if isinstance(value, bool):
            self._click(widget.get_by_role("switch"))
        elif (choice := widget.get_by_role("combobox")).count():
            self._click(choice)
            self._click(self.page.get_by_role("option", name=value, exact=True))
        else:
            self._click(widget.locator("textarea, input").first)
            self.page.keyboard.press("ControlOrMeta+a")
            self.page.keyboard.type(str(value))
            self.page.keyboard.press("Tab")
        self.count["values"] += 1
        self.page.wait_for_timeout(200)

    def _click(self, what: Any) -> None:
        what.click(force=True)
        self.count["clicks"] += 1

    def _middle(self, selector: str) -> tuple[float, float]:
        box = self.page.locator(selector).first.bounding_box()
        assert box, selector
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def node(self, type: str) -> int:
        return next(node["id"] for node in self.editor.nodes() if node["type"] == type)


def animate(hand: Hand) -> None:
    names = ("Load Motion Model (AnimateDiff)", "Apply Motion Model (AnimateDiff)", "Save Animated WEBP")
    load, apply, save = map(hand.add, names)
    hand.wire(hand.node("CheckpointLoaderSimple"), 0, apply, "model")
    hand.wire(load, 0, apply, "motion_model")
    hand.wire(apply, 0, hand.node("KSampler"), "model")
    hand.wire(hand.node("VAEDecode"), 0, save, "images")
    hand.set(hand.node("EmptyLatentImage"), "batch_size", 16)


def blueprint(name: str, **values: Any) -> Callable[[Hand], None]:
    def job(hand: Hand) -> None:
        checkpoint, block, save = hand.node(TYPES[0]), hand.add(name), hand.add("Save Animated WEBP")
        for output, slot in enumerate(("model", "clip", "vae")):
            hand.wire(checkpoint, output, block, slot)
        hand.wire(block, 0, save, "images")
        hand.set(block, "positive", "a boat on a calm sea")
        for widget, value in values.items():
            hand.set(block, widget, value)

    return job


def longer(hand: Hand) -> None:
    hand.set(hand.node("EmptyLatentImage"), "batch_size", 48)


def travel(hand: Hand) -> None:
    schedule = hand.add("Prompt Schedule")
    hand.wire(hand.node("CheckpointLoaderSimple"), 1, schedule, "clip")
    hand.wire(hand.node("EmptyLatentImage"), 0, schedule, "latent")
    hand.wire(schedule, 0, hand.node("KSampler"), "positive")
    hand.set(schedule, "text", "0: a calm sea\n12: a storm")


def behind_model(name: str, **values: Any) -> Callable[[Hand], None]:
    def job(hand: Hand) -> None:
        new = hand.add(name)
        hand.wire(hand.node("LoomApplyMotionModel"), 0, new, "model")
        hand.wire(new, 0, hand.node("KSampler"), "model")
        for widget, value in values.items():
            hand.set(new, widget, value)

    return job


def more_motion(hand: Hand) -> None:
    hand.set(hand.node("LoomApplyMotionModel"), "motion_scale", 1.2)


def motion_over_frames(hand: Hand) -> None:
    values = hand.add("Frame Values")
    hand.wire(hand.node("EmptyLatentImage"), 0, values, "latent")
    hand.wire(values, 0, hand.node("LoomApplyMotionModel"), "motion_scale_values")
    hand.set(values, "text", "0: 0.8\n15: 1.2")


def slower(hand: Hand) -> None:
    retime = hand.add("Retime Motion")
    hand.wire(hand.node("LoomLoadMotionModel"), 0, retime, "motion_model")
    hand.wire(retime, 0, hand.node("LoomApplyMotionModel"), "motion_model")
    hand.set(retime, "speed", 0.5)


def plan(hand: Hand) -> None:
    new = hand.add("Animation Plan")
    hand.wire(hand.node("LoomApplyMotionModel"), 0, new, "model")
    hand.wire(hand.node("EmptyLatentImage"), 0, new, "latent")


def film(hand: Hand) -> None:
    create, save = hand.add("Create Video"), hand.add("Save Video")
    hand.wire(hand.node("VAEDecode"), 0, create, "images")
    hand.wire(create, 0, save, "video")


JOBS: dict[str, tuple[str, Callable[[Hand], None]]] = {
    "animate, 16 frames, saved as WEBP": ("a still", animate),
    "the same with a blueprint": ("a checkpoint", blueprint("AnimateDiff Text to Animation")),
    "48 frames": ("an animation", longer),
    "48 frames with a blueprint": ("a checkpoint", blueprint("AnimateDiff Long Animation")),
    "a seamless loop": ("an animation", behind_model("Context Windows (Loom)", context_schedule="looped_uniform", closed_loop=True)),
    "a seamless loop with a blueprint": ("a checkpoint", blueprint("AnimateDiff Seamless Loop")),
    "prompt travel": ("an animation", travel),
    "FreeNoise": ("an animation", behind_model("Context Windows (Loom)", freenoise=True)),
    "FreeInit": ("an animation", behind_model("FreeInit")),
    "more motion": ("an animation", more_motion),
    "motion over frames": ("an animation", motion_over_frames),
    "slow motion": ("an animation", slower),
    "see windows and cost before the run": ("an animation", plan),
    "MP4": ("an animation", film),
}


def test_jobs(editor: Editor, screenshots: Path | None):
    assert screenshots is not None, "LOOM_SCREENSHOTS names no folder for jobs.md"
    page = editor.page
    page.evaluate("() => app.api.addEventListener('execution_success', () => { window.ran = true })")
    starts: dict[str, Any] = {}
    for start, types in (("a checkpoint", TYPES[:1]), ("a still", TYPES)):
        page.evaluate("app.graph.clear()")
        page.evaluate(START, types)
        starts[start] = page.evaluate("app.graph.serialize()")
    rows = ["| job | begins with | nodes, wires, values | clicks, drags |", "|---|---|---|---|"]
    for name, (start, job) in JOBS.items():
        page.evaluate("graph => app.loadGraphData(graph)", starts[start])
        page.wait_for_timeout(2000)  # the editor moves the view to the graph
        page.evaluate(VIEW, ZOOM)
        page.wait_for_timeout(300)
        hand = Hand(editor)
        job(hand)
        if job is animate:
            starts["an animation"] = page.evaluate("app.graph.serialize()")
        page.evaluate(SHRINK)
        page.evaluate("window.ran = false")
        page.get_by_test_id("queue-button").click()
        page.wait_for_function("window.ran", timeout=120_000)
        counts = list(map(str, hand.count.values()))
        rows.append(f"| {name} | {start} | {', '.join(counts[:3])} | {', '.join(counts[3:])} |")
    (screenshots / "jobs.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
