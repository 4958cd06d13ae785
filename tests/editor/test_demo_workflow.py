"""The first thing that one opens after ``loom.py serve``: it runs."""

from __future__ import annotations

import json
import re

from launcher.demo_workflow import TITLE, WORKFLOW, demo_url, put_into_side_bar
from launcher.server import ComfyServer

from .editor import Editor
from .test_editor import check_footers


def test_the_printed_url_opens_a_workflow_that_runs_and_is_in_the_side_bar(editor: Editor, server: ComfyServer):
    assert put_into_side_bar(server.base_directory / "user")
    editor.page.goto(demo_url(server.url), timeout=120_000)
    nodes = json.loads(WORKFLOW.read_text(encoding="utf-8"))["nodes"]
    editor.page.wait_for_function("count => window.app?.graph?.nodes.length === count", arg=len(nodes), timeout=60_000)
    assert editor.complaints() == ""
    editor.set_widget("LoomSampler", "steps", 1)
    editor.set_widget("LoomEmptyAnimationLatent", "frames", 6)
    with editor.page.expect_response(re.compile(r"/view\?.*AnimateDiffDemo"), timeout=120_000) as shown:
        editor.page.get_by_test_id("queue-button").click()
    assert shown.value.headers["content-type"] == "image/webp"
    check_footers(editor, "with the frames that were shown while it sampled")
    editor.command("Workspace.ToggleSidebarTab.workflows")
    editor.page.get_by_test_id("workflows-sidebar").get_by_text(TITLE).first.wait_for()
    editor.command("Workspace.ToggleSidebarTab.workflows")
