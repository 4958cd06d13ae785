"""Nodes and help pages in the languages that the editor can be set to."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from launcher.pack import PACK_ROOT

from .editor import Editor

NODE = "LoomSharedNoise"
LANGUAGES = sorted(path.stem for path in (PACK_ROOT / "web" / "docs" / NODE).glob("*.md"))
# The editor has to be opened for each. Files and texts of all are held by tests/unit/test_locales.py; the way to the screen is one.
FIRST = ["fr", "zh"]


@pytest.fixture
def languages(editor: Editor) -> Iterator[Editor]:
    """The editor, in English again afterwards."""
    yield editor
    editor.reopen({"Comfy.Locale": "en"})


def add_node(editor: Editor) -> dict[str, str]:
    """The words on a new node, which is selected."""
    return editor.page.evaluate(
        """type => {
            const node = LiteGraph.createNode(type)
            node.pos = [400, 300]
            app.graph.add(node)
            app.canvas.selectNode(node)
            const {title, widgets: [widget], outputs: [output]} = node
            return {title, widget: widget.label ?? widget.name, output: output.localized_name ?? output.label ?? output.name}
        }""",
        NODE,
    )


OTHERS = [locale for locale in LANGUAGES if locale not in FIRST]


@pytest.mark.parametrize("locales", [FIRST, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=", ".join)
def test_nodes_and_help_pages_are_shown_in_each_language(languages: Editor, locales: list[str]):
    page = languages.page
    for locale in locales:
        texts = json.loads((PACK_ROOT / "locales" / locale / "nodeDefs.json").read_text(encoding="utf-8"))[NODE]
        languages.reopen({"Comfy.Locale": locale})
        shown = {"title": texts["display_name"], "widget": texts["inputs"]["cutoff"]["name"], "output": texts["outputs"]["0"]["name"]}
        assert add_node(languages) == shown

        if not page.locator(".node-help-content").is_visible():
            page.get_by_test_id("info-button").click()
        help_page = (PACK_ROOT / "web" / "docs" / NODE / f"{locale}.md").read_text(encoding="utf-8")
        headings = [line.lstrip("# ") for line in help_page.splitlines() if line.startswith("#")]
        content = page.locator(".node-help-content")
        content.get_by_role("heading", name=headings[1], exact=True).wait_for()
        assert content.get_by_role("heading").all_inner_texts() == headings
        assert "**" not in content.inner_text()  # marks that are not read as such, as some are beside CJK letters
