"""Nodes are found by the words that artists use, in the editor's own search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .editor import Editor

if TYPE_CHECKING:  # without playwright these tests are skipped, not broken
    from playwright.sync_api import Locator

LOAD, APPLY, LORA = "Load Motion Model (AnimateDiff)", "Apply Motion Model (AnimateDiff)", "Load Motion LoRA"
WINDOWS, PROMPTS, SAMPLER = "Context Windows (Loom)", "Prompt Schedule", "AnimateDiff Sampler"
SEARCHES = {
    "animatediff": {LOAD, APPLY},
    "animatediff loader": {LOAD, APPLY},
    "animatediff evolved": {LOAD, APPLY},
    "evolved": {LOAD, APPLY},
    "motion module": {LOAD, APPLY},
    "mm_sd_v15_v2": {LOAD},
    "apply animatediff": {APPLY},
    "beta schedule": {APPLY},
    "motion lora": {LORA},
    "camera motion": {LORA},
    "zoom": {LORA},
    "context options": {WINDOWS},
    "context windows": {WINDOWS},
    "long animation": {WINDOWS},
    "loop": {WINDOWS, "Retime Motion"},
    "seamless": {WINDOWS, "Retime Motion"},
    "slow motion": {"Retime Motion"},
    "prompt travel": {PROMPTS},
    "batch prompt schedule": {PROMPTS},
    "multival": {"Frame Values"},
    "value schedule": {"Value Schedule"},
    "freenoise": {"FreeNoise", "Apply FreeNoise"},
    "gif": {SAMPLER},
    "animation latent": {"Empty Animation Latent"},
}
FIRST = 3


def test_artists_words_find_the_right_nodes_first(editor: Editor):
    search = open_search(editor)
    first = {words: results(editor, search, words)[:FIRST] for words in SEARCHES}
    assert {words: found for words, found in first.items() if not SEARCHES[words] <= set(found)} == {}


def test_a_node_that_was_found_is_added(editor: Editor):
    results(editor, open_search(editor), "animatediff")
    editor.page.get_by_test_id("result-item").get_by_text(APPLY, exact=True).click()
    editor.page.wait_for_function("app.graph.nodes.length === 1")
    (added,) = editor.nodes()
    assert added["type"] == "LoomApplyMotionModel"
    assert added["widgets_values"] == ["auto", 1, 1, 0, 1, "as trained", False, "steps", False]


def results(editor: Editor, search: Locator, words: str) -> list[str]:
    """The nodes that are found, best first; the list is emptied before, so that nothing of an earlier search is read."""
    found = editor.page.get_by_test_id("result-item")
    search.fill("there is no such node")
    found.first.wait_for(state="hidden")
    search.fill(words)
    found.first.wait_for()
    rows = [text.split("\n") for text in found.all_inner_texts()]
    return [name for name, *more in rows if "Blueprint" not in more]


def open_search(editor: Editor) -> Locator:
    """Double-click the canvas; again if the machine was too busy to see two clicks as one double click."""
    search = editor.page.get_by_placeholder("Add a node...")
    for attempt in range(50):
        if search.is_visible():
            break
        if attempt % 10 == 0:
            editor.page.mouse.dblclick(800, 500)
        editor.page.wait_for_timeout(200)
    return search
