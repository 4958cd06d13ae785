"""A workflow made for AnimateDiff-Evolved, opened in the editor without that pack."""

from __future__ import annotations

import json
import re

import pytest

LINEAR = "sqrt_linear (AnimateDiff)"


def node(number: int, type: str, values: list, inputs: dict[str, tuple[str, int | None]], output: str, links: list[int]) -> dict:
    return {
        "id": number, "type": type, "pos": [number * 350, 200], "size": [300, 200], "flags": {}, "order": number, "mode": 0,
        "inputs": [{"name": name, "type": kind, "link": link} for name, (kind, link) in inputs.items()],
        "outputs": [{"name": output, "type": output, "links": links}], "properties": {}, "widgets_values": values,
    }  # fmt: skip


def evolved() -> dict:
    """A workflow as it was shared in 2024, without an id."""
    loader = {"model": ("MODEL", 1), "context_options": ("CONTEXT_OPTIONS", 2), "motion_lora": ("MOTION_LORA", None)}
    sampler = {"model": ("MODEL", 3), "positive": ("CONDITIONING", None), "negative": ("CONDITIONING", None), "latent_image": ("LATENT", 4)}
    return {
        "last_node_id": 5, "last_link_id": 4, "groups": [], "config": {}, "extra": {}, "version": 0.4,
        "nodes": [
            node(1, "CheckpointLoaderSimple", ["v1-5-pruned-emaonly-fp16.safetensors"], {}, "MODEL", [1]),
            node(2, "ADE_AnimateDiffUniformContextOptions", [16, 1, 4, "uniform", False, "pyramid"], {}, "CONTEXT_OPTIONS", [2]),
            node(3, "ADE_AnimateDiffLoaderWithContext", ["v3_sd15_mm.ckpt", LINEAR, 1.0, True], loader, "MODEL", [3]),
            node(4, "EmptyLatentImage", [64, 64, 8], {}, "LATENT", [4]),
            node(5, "KSampler", [5, "fixed", 2, 2.0, "euler", "normal", 1.0], sampler, "LATENT", []),
        ],
        "links": [
            [1, 1, 0, 3, 0, "MODEL"], [2, 2, 0, 3, 1, "CONTEXT_OPTIONS"], [3, 3, 0, 5, 0, "MODEL"], [4, 4, 0, 5, 3, "LATENT"],
        ],
    }  # fmt: skip


def types(editor) -> list[str]:
    return sorted(node["type"] for node in editor.nodes())


OLD = ["ADE_AnimateDiffLoaderWithContext", "ADE_AnimateDiffUniformContextOptions", "CheckpointLoaderSimple", "EmptyLatentImage", "KSampler"]
NEW = [
    "CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "LoomApplyMotionModel", "LoomContextWindows", "LoomLoadMotionModel",
    "MarkdownNote",
]  # fmt: skip


@pytest.fixture
def question(editor):
    return editor.page.get_by_text("This workflow was made for AnimateDiff-Evolved. Open it with Loom's nodes?")


def load(editor, workflow: dict) -> None:
    editor.page.evaluate("workflow => { app.loadGraphData(workflow, true, true, 'evolved') }", workflow)


def test_it_asks_translates_and_can_be_undone(editor, has_nodes_2, question):
    load(editor, evolved())
    question.wait_for()
    assert types(editor) == OLD
    editor.page.get_by_role("button", name=re.compile("confirm|ok|yes", re.IGNORECASE)).first.click()
    editor.page.wait_for_function("app.graph.nodes.some(node => node.type === 'LoomContextWindows')")
    editor.page.wait_for_timeout(1000)
    assert types(editor) == NEW
    note = next(node for node in editor.nodes() if node["type"] == "MarkdownNote")
    assert "ADE_AnimateDiffLoaderWithContext" in note["widgets_values"][0]
    prompt = editor.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert {entry["class_type"] for entry in prompt.values()} == set(NEW) - {"MarkdownNote"}
    windows = next(entry for entry in prompt.values() if entry["class_type"] == "LoomContextWindows")
    assert windows["inputs"] | {"model": 0} == {
        "model": 0, "context_length": 16, "context_overlap": 4, "context_schedule": "looped_uniform", "fuse_method": "pyramid",
        "context_stride": 1, "closed_loop": False, "freenoise": False, "freenoise_order": "any window",
        "cut_equal_length": "closed loops", "wide_windows": "leave out", "count_steps_of": "this run",
    }  # fmt: skip
    editor.command("Comfy.Undo")
    editor.page.wait_for_function("app.graph.nodes.some(node => node.type.startsWith('ADE_'))")
    assert types(editor) == OLD
    editor.page.wait_for_timeout(1000)
    assert not question.is_visible()
    editor.command("Comfy.Redo")
    editor.page.wait_for_function("app.graph.nodes.some(node => node.type === 'LoomContextWindows')")
    assert types(editor) == NEW


def test_no_leaves_the_graph_and_is_not_asked_again(editor, question):
    load(editor, evolved())
    question.wait_for()
    editor.page.keyboard.press("Escape")
    question.wait_for(state="hidden")
    assert types(editor) == OLD
    again = editor.page.evaluate("app.graph.serialize()")
    load(editor, again)
    editor.page.wait_for_timeout(1500)
    assert not question.is_visible()
    assert types(editor) == OLD


def test_other_workflows_are_not_asked_about(editor, question):
    workflow = evolved()
    workflow["nodes"] = [entry | {"inputs": [], "outputs": []} for entry in workflow["nodes"] if not entry["type"].startswith("ADE_")]
    load(editor, workflow | {"links": []})
    editor.page.wait_for_timeout(1500)
    assert not question.is_visible()
    assert types(editor) == ["CheckpointLoaderSimple", "EmptyLatentImage", "KSampler"]


PROMPT = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly-fp16.safetensors"}},
    "2": {"class_type": "ADE_AnimateDiffLoaderGen1", "inputs": {
        "model_name": "v3_sd15_mm.ckpt", "beta_schedule": "autoselect", "model": ["1", 0]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 7, "model": ["2", 0]}},
}  # fmt: skip


def test_a_dropped_file_of_the_apis_form_is_asked_about_and_opened_translated(editor, question):
    editor.page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], "prompt.json", {type: "application/json"}));
            document.querySelector("canvas").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        json.dumps(PROMPT),
    )
    question.wait_for()
    editor.page.get_by_role("button", name=re.compile("confirm|ok|yes", re.IGNORECASE)).first.click()
    editor.page.wait_for_function("app.graph.nodes.some(node => node.type === 'LoomContextWindows')")
    assert types(editor) == [
        "CheckpointLoaderSimple", "KSampler", "LoomApplyMotionModel", "LoomContextWindows", "LoomLoadMotionModel",
    ]  # fmt: skip


def test_a_file_of_the_apis_form_is_opened_translated(editor, tmp_path):
    file = tmp_path / "prompt.json"
    file.write_text(json.dumps(PROMPT), encoding="utf-8")
    with editor.page.expect_file_chooser() as chooser:
        editor.command("AnimateDiffLoom.OpenTranslated")
    chooser.value.set_files(file)
    editor.page.wait_for_function("app.graph.nodes.some(node => node.type === 'LoomContextWindows')")
    assert types(editor) == [
        "CheckpointLoaderSimple", "KSampler", "LoomApplyMotionModel", "LoomContextWindows", "LoomLoadMotionModel",
    ]  # fmt: skip
    file.write_text("{}", encoding="utf-8")
    with editor.page.expect_file_chooser() as chooser:
        editor.command("AnimateDiffLoom.OpenTranslated")
    chooser.value.set_files(file)
    editor.toasts().get_by_text("'prompt.json' could not be translated. The body holds no workflow of ComfyUI's.").wait_for()
    assert len(editor.problems) == 1  # the answer to {}
    editor.problems.clear()
