"""ComfyUI's own editor in a browser, served by a real ComfyUI with tiny models."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launcher.server import ComfyServer

from .editor import Editor, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No outside services: what the tests look at comes from the server alone.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium found; on Debian and Ubuntu: apt-get install chromium")
    return found


@pytest.fixture(scope="package")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI; `python3 loom.py test` sets it")
    with start_server(Path(path), tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture(scope="package")  # not longer: while playwright runs, nothing else can run an event loop
def browser(chromium: str) -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def screenshots() -> Path | None:
    """Where pictures of the editor go, for somebody to look at: LOOM_SCREENSHOTS. Without it none are taken."""
    if not (named := os.environ.get("LOOM_SCREENSHOTS")):
        return None
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(params=[True, False], ids=["Nodes 2.0", "canvas nodes"])
def has_nodes_2(request: pytest.FixtureRequest) -> bool:
    """Whether nodes are drawn the new way (Vue) or the old one (canvas); for tests that care."""
    return request.param


@pytest.fixture(scope="package")
def pages() -> Iterator[dict[bool, Editor]]:
    """The editors that earlier tests left open, by how they draw nodes: opening one takes longer than most tests do in it."""
    left: dict[bool, Editor] = {}
    yield left
    for opened in left.values():
        opened.page.context.close()


@pytest.fixture
def editor(
    request: pytest.FixtureRequest, server: ComfyServer, browser: Browser, screenshots: Path | None, pages: dict[bool, Editor]
) -> Iterator[Editor]:
    """An empty workflow in the editor. Afterwards nothing of the pack has failed."""
    nodes_2 = request.getfixturevalue("has_nodes_2") if "has_nodes_2" in request.fixturenames else True
    opened = pages.pop(nodes_2, None)
    if opened is None:
        page = browser.new_context(viewport={"width": 1600, "height": 900}, reduced_motion="reduce").new_page()
        opened = Editor(server, page, {"Comfy.VueNodes.Enabled": nodes_2})
    failed, is_good = request.session.testsfailed, False
    try:
        opened.begin()
        yield opened
        if screenshots is not None:
            opened.screenshot(screenshots / (re.sub(r"\W+", "_", request.node.name).strip("_") + ".png"))
        assert opened.problems == []
        is_good = request.session.testsfailed == failed
    finally:
        if is_good:
            pages[nodes_2] = opened
        else:
            opened.page.context.close()
