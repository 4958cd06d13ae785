"""What a run says reaches the screen: reports in their nodes."""

from __future__ import annotations

from .editor import Editor, load_example

PLAN = """() => {
    const add = (type, x, y) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        return node
    }
    const loader = add('CheckpointLoaderSimple', 0, 120)
    const motion = add('LoomLoadMotionModel', 0, 300)
    const latent = add('LoomEmptyAnimationLatent', 0, 450)
    const apply = add('LoomApplyMotionModel', 380, 120)
    const plan = add('LoomPlan', 780, 120)
    loader.connect(0, apply, 'model')
    motion.connect(0, apply, 'motion_model')
    apply.connect(0, plan, 'model')
    latent.connect(0, plan, 'latent')
    latent.widgets.find(widget => widget.name === 'frames').value = 6
}"""


def test_a_plan_is_shown_in_its_node_and_saved_with_it(editor: Editor, has_nodes_2: bool):
    page = editor.page
    page.evaluate(PLAN)
    page.get_by_test_id("queue-button").click()
    page.wait_for_function("document.querySelector('.loom-report')?.value", timeout=120_000)
    said = page.locator(".loom-report").input_value()
    assert said.startswith("6 frames")
    assert "6 frames are few" in said
    page.wait_for_function("app.graph.nodes.find(node => node.type === 'LoomPlan').imgs || document.querySelector('.lg-node img')")
    page.wait_for_timeout(500)  # until the picture has taken its place
    assert page.evaluate("document.querySelector('.loom-report').offsetHeight") > 100  # room for some lines beside it
    (saved,) = [node for node in editor.nodes() if node["type"] == "LoomPlan"]
    assert len(saved["widgets_values"]) == 2  # steps and cfg: the report is not among them
    page.evaluate("app.loadGraphData(app.graph.serialize())")
    page.wait_for_function("text => document.querySelector('.loom-report')?.value === text", arg=said)


def test_what_a_run_warns_of_is_said_once_a_run_by_its_node(editor: Editor, has_nodes_2: bool):
    page = editor.page
    page.evaluate("workflow => app.loadGraphData(workflow)", load_example())
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(load_example()["nodes"]))
    for name, value in (("width", 32), ("height", 32), ("frames", 6)):
        editor.set_widget("LoomEmptyAnimationLatent", name, value)
    editor.set_widget("LoomSampler", "steps", 1)
    page.evaluate("app.graph.nodes.find(node => node.type === 'LoomSampler').title = 'My sampler'")
    page.evaluate("() => { window.runsEnded = 0; app.api.addEventListener('execution_success', () => window.runsEnded++) }")
    toast = editor.toasts().filter(has_text="6 frames are few")
    for run in (1, 2):
        editor.set_widget("LoomSampler", "seed", 1000 + run + 10 * has_nodes_2)  # or ComfyUI has nothing to do, and says nothing
        page.get_by_test_id("queue-button").click()
        page.wait_for_function("run => window.runsEnded === run", arg=run, timeout=120_000)
        toast.wait_for()
        page.wait_for_timeout(1000)
        assert toast.count() == 1
        assert "My sampler" in toast.inner_text()
