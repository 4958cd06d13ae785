"""Frames that move in the sampler's node while it samples."""

from __future__ import annotations

from .editor import Editor, load_example

# What the editor shows of the preview, looked at every 60 ms: pictures, height of the sampler, pictures of the server.
WATCH = """() => {
    window.seen = { pictures: new Set(), heights: new Set(), messages: 0 }
    app.api.addEventListener('loom.preview', ({ detail }) => { window.seen.messages++; window.late ??= detail })
    app.api.addEventListener('execution_success', () => window.ended = true)
    window.watching = setInterval(() => {
        const film = document.querySelector('.loom-preview image')
        if (!film?.getBoundingClientRect().width) return
        const frame = film.ownerSVGElement.getAttribute('viewBox') + getComputedStyle(film).transform
        window.seen.pictures.add(frame + film.getAttribute('href'))
        window.seen.heights.add(app.graph.nodes.find(node => node.type === window.sampler).size[1])
    }, 60)
}"""
SEEN = "() => ({ ...window.seen, pictures: [...window.seen.pictures], heights: [...window.seen.heights] })"
LATE = """() => {
    for (const [type, detail] of [["loom.preview", window.late], ["execution_success", {}]])
        app.api.dispatchEvent(new CustomEvent(type, { detail }))  // its film is decoded when the run has ended
}"""
OTHER_SAMPLER = """() => {
    const old = app.graph.nodes.find(node => node.type === 'LoomSampler')
    const sampler = LiteGraph.createNode('KSampler')
    sampler.pos = [...old.pos]
    app.graph.add(sampler)
    for (const input of old.inputs.filter(input => input.link !== null)) {
        const link = app.graph.links.get(input.link)
        app.graph.getNodeById(link.origin_id).connect(link.origin_slot, sampler, input.name)
    }
    const target = app.graph.links.get(old.outputs[0].links[0])
    sampler.connect(0, app.graph.getNodeById(target.target_id), target.target_slot)
    app.graph.remove(old)
}"""


def test_frames_move_in_the_samplers_node(editor: Editor, has_nodes_2: bool):
    page = editor.page
    page.evaluate("workflow => app.loadGraphData(workflow)", load_example())
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(load_example()["nodes"]))
    for name, value in (("width", 64), ("height", 32), ("frames", 5)):
        editor.set_widget("LoomEmptyAnimationLatent", name, value)
    editor.set_widget("LoomSampler", "seed", int(has_nodes_2))  # or ComfyUI has nothing to do
    page.evaluate(WATCH)

    def look(sampler: str, steps: int, method: str = "default") -> dict:
        page.evaluate("type => { window.sampler = type }", sampler)
        editor.set_widget(sampler, "steps", steps)
        page.evaluate("method => app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', method)", method)
        page.evaluate("() => { window.ended = false; window.seen.messages = 0; window.seen.pictures.clear(); window.seen.heights.clear() }")
        page.get_by_test_id("queue-button").click()
        page.wait_for_function("window.ended", timeout=120_000)
        page.wait_for_function("!document.querySelector('.loom-preview')")
        return page.evaluate(SEEN)

    def height() -> float:
        return page.evaluate("app.graph.nodes.find(node => node.type === window.sampler).size[1]")

    before = next(node["size"][1] for node in editor.nodes() if node["type"] == "LoomSampler")
    shown = look("LoomSampler", 8)
    assert len(shown["pictures"]) > 5  # more than one film's frames
    assert height() == before
    assert all(picture.startswith("0 0 8 4") for picture in shown["pictures"])  # as wide and high as the frames
    assert len({picture.partition("data:")[0] for picture in shown["pictures"]}) == 5
    page.evaluate(LATE)
    page.wait_for_timeout(300)
    assert page.locator(".loom-preview").count() == 0
    if not has_nodes_2:  # the rest is what the server sends
        page.evaluate("clearInterval(window.watching)")
        return
    assert look("LoomSampler", 2, "latent2rgb")["messages"] == 0  # ComfyUI shows its own
    page.evaluate("app.extensionManager.setting.set('AnimateDiffLoom.MovingPreview', false)")
    page.wait_for_timeout(300)
    assert look("LoomSampler", 3)["messages"] == 0
    page.evaluate("app.extensionManager.setting.set('AnimateDiffLoom.MovingPreview', true)")
    page.wait_for_timeout(300)
    page.evaluate(OTHER_SAMPLER)
    assert len(look("KSampler", 3)["pictures"]) > 1
    saved = next(node for node in editor.nodes() if node["type"] == "KSampler")
    assert len(saved["widgets_values"]) == 7  # the preview is not among them
    page.evaluate("clearInterval(window.watching)")  # other tests go on with this page
