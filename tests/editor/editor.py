"""Driving ComfyUI's editor, and watching for what goes wrong in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from launcher.comfyui import find_comfyui
from launcher.demo_models import demo_models
from launcher.demo_workflow import DEMO_PACK, DEMO_PACK_NAME
from launcher.pack import PACK_NAME, PACK_ROOT
from launcher.server import ComfyServer, link_file
from safetensors.torch import load_file

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page, Response

EXAMPLES = PACK_ROOT / "example_workflows"
EXAMPLE = EXAMPLES / "AnimateDiff - Text to Animation.json"
FIRST_RUN_IS_OVER = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}


def load_example(path: Path = EXAMPLE) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def start_server(comfyui: Path, folder: Path) -> ComfyServer:
    """A server, to be entered with ``with``, that has tiny models under their own names and those in the example workflow.

    LOOM_COMFYUI_ARGS holds more arguments for it, as ``--front-end-root FOLDER`` for another version of the editor.
    """
    tiny = demo_models(find_comfyui(str(comfyui)), Path(sys.executable))
    names = {node["type"]: node["widgets_values"][0] for node in load_example()["nodes"] if node.get("widgets_values")}
    checkpoint = folder / names["CheckpointLoaderSimple"]
    link_file(checkpoint, tiny.checkpoint)
    motion_model = folder / names["LoomLoadMotionModel"]
    torch.save(load_file(tiny.motion_model), motion_model)  # a .ckpt, as it is released
    files = {"checkpoints": [checkpoint, tiny.checkpoint], "animatediff_models": [motion_model, tiny.motion_model]}
    arguments = ["--cpu", "--use-pytorch-cross-attention", *shlex.split(os.environ.get("LOOM_COMFYUI_ARGS", ""))]
    return ComfyServer(comfyui, more_packs={DEMO_PACK_NAME: DEMO_PACK}, model_files=files, extra_args=arguments)


class Editor:
    """One page of the editor.

    Attributes:
        page: Playwright's page.
        problems: what the pack did wrong so far: errors and warnings in the browser's console, exceptions, files not served.
    """

    def __init__(self, server: ComfyServer, page: Page, settings: dict[str, Any]) -> None:
        self.page = page
        self.problems: list[str] = []
        self._url = server.url
        self._user = server.base_directory / "user" / "default"
        self._settings = json.dumps({**FIRST_RUN_IS_OVER, **settings})
        self._is_open = False
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("console", self._look_at_message)
        page.on("response", self._look_at_response)

    def _look_at_message(self, message: ConsoleMessage) -> None:
        # Of nodes that are missing the editor asks a registry outside, which the server's policy forbids.
        is_forbidden = "Content Security Policy" in message.text
        is_ours = self._is_about_the_pack(message.text) or f"/extensions/{PACK_NAME}/js/" in message.location["url"]
        if message.type in ("error", "warning") and is_ours and not is_forbidden:
            self.problems.append(f"console: {message.type}: {message.text}")

    def _look_at_response(self, response: Response) -> None:
        # Help pages are asked for as NODE/LANGUAGE.md first, also in English, which is at NODE.md.
        if response.status >= 400 and self._is_about_the_pack(response.url) and "/docs/" not in response.url:
            self.problems.append(f"HTTP {response.status}: {response.url}")

    @staticmethod
    def _is_about_the_pack(text: str) -> bool:
        return any(word in text.lower() for word in (PACK_NAME, "loom", "animatediff"))

    def begin(self) -> None:
        """An empty workflow and nothing else: opened, or opened again where the last test left something on the page."""
        self.problems.clear()
        if self._is_open:
            self.page.keyboard.press("Escape")
            self.page.evaluate("(toast => toast.removeAll ? toast.removeAll() : toast.dismissAll())(app.extensionManager.toast)")
            self._empty()
            for _ in range(10):  # that a run has ended is told for some seconds
                self.page.wait_for_timeout(500)
                if not self.notices().count():
                    break
        if not self._is_open or self.notices().count() or self.page.locator(".node-help-content").is_visible():
            self._open()

    def _open(self) -> None:
        self._user.mkdir(parents=True, exist_ok=True)
        (self._user / "comfy.settings.json").write_text(self._settings, encoding="utf-8")
        self.page.set_default_timeout(20_000)
        self.page.goto(self._url, timeout=120_000)
        self.page.wait_for_function("window.app?.graph && document.querySelector('#graph-canvas')", timeout=120_000)
        self.page.wait_for_function("Object.keys(LiteGraph.registered_node_types).includes('LoomSampler')")
        self._empty()
        self._is_open = True

    def reopen(self, settings: dict[str, Any]) -> None:
        """An empty workflow in an editor with other settings, which later tests have, too."""
        self._settings = json.dumps({**json.loads(self._settings), **settings})
        self._open()

    def _empty(self) -> None:
        """Again if need be: the editor loads a workflow of its own when it is opened, and may be late with it."""
        for _ in range(10):
            self.command("Comfy.NewBlankWorkflow")
            self.page.wait_for_timeout(300)
            if self.page.evaluate("app.graph.nodes.length") == 0:
                return
        raise AssertionError("the editor does not get empty")

    def command(self, name: str) -> None:
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def screenshot(self, path: Path) -> None:
        self.page.mouse.move(800, 880)  # away from anything with a tooltip
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=path)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes as the editor would save them."""
        return self.page.evaluate("app.graph.serialize().nodes")

    def set_widget(self, node_type: str, name: str, value: Any) -> None:
        self.page.evaluate(
            """([type, name, value]) => {
                const node = app.graph.nodes.find(node => node.type === type)
                const widget = node.widgets.find(widget => widget.name === name)
                widget.value = value
                widget.callback?.(value)
            }""",
            [node_type, name, value],
        )

    def notices(self) -> Locator:
        """Dialogs and what pops up in a corner."""
        parts = "[role=alert], [role=dialog], [role=status], [data-testid=toast]"
        return self.page.locator(parts).filter(has_text=re.compile(r"\S"))  # frontend 1.58 keeps empty ones, for screen readers

    def toasts(self) -> Locator:
        return self.page.locator(".p-toast-message, [data-testid=toast]")  # of frontend 1.47, of 1.58

    def complaints(self) -> str:
        """What the editor says about a workflow that it can't run: missing nodes, missing models."""
        self.page.wait_for_timeout(2000)  # it looks for them after the workflow is shown
        texts = self.notices().all_inner_texts()
        return "\n".join(text for text in texts if "error" in text.lower() or "missing" in text.lower())
