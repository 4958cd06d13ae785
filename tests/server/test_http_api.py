"""The page about ComfyUI's API: its program and its curl command run as they stand, and its table is true."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launcher.client import ComfyClient, Prompt
from launcher.pack import PACK_NAME, PACK_ROOT
from launcher.workflow import to_prompt
from PIL import Image

from .example import NAMES, load_example, shrink

PAGE = (PACK_ROOT / "docs" / "http_api.md").read_text(encoding="utf-8")
SERVER = "http://127.0.0.1:8188"


def block(language: str, start: str) -> str:
    """The block of the page that begins so."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [text for name, text in blocks if name == language and text.startswith(start)]
    return found


def loom(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PACK_ROOT / "loom.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def folder(tmp_path: Path, server) -> Path:
    """With the page's ``prompt.json``, as the command prints it, but small."""
    printed = loom("api", "Text to Animation", "--url", server.url)
    assert (printed.returncode, printed.stderr) == (0, "")
    prompt: Prompt = shrink(json.loads(printed.stdout))
    (tmp_path / "prompt.json").write_text(json.dumps(prompt), encoding="utf-8")
    return tmp_path


def test_the_program_saves_an_animation(server, folder: Path):
    program = block("python", "import asyncio")
    assert SERVER in program
    (folder / "animate.py").write_text(program.replace(SERVER, server.url), encoding="utf-8")
    done = subprocess.run([sys.executable, "animate.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "step 1 of 1" in done.stdout
    with Image.open(folder / "animation.webp") as picture:
        assert (picture.format, picture.n_frames, picture.size) == ("WEBP", 16, (32, 32))


def test_curl_queues_it(server, client: ComfyClient, folder: Path):
    if not (shutil.which("curl") and shutil.which("sh")):
        pytest.skip("there is no curl here")
    command = block("", f"curl -s {SERVER}/prompt").replace(SERVER, server.url)
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    entry = client.wait(json.loads(done.stdout)["prompt_id"], timeout=120)
    assert entry["status"]["status_str"] == "success"


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_an_api_form(client: ComfyClient, name: str):
    prompt = to_prompt(load_example(name), schemas := client.object_info())
    for node in prompt.values():
        required = schemas[node["class_type"]]["input"].get("required", {})
        assert required.keys() <= node["inputs"].keys(), node["class_type"]
        known = {*required, *schemas[node["class_type"]]["input"].get("optional", {})}
        assert {name.split(".")[0] for name in node["inputs"]} <= known, node["class_type"]


def test_names_are_taken_as_people_write_them(server):
    wanted = loom("api", "Text2Video-Zero", "--url", server.url).stdout
    assert loom("api", "text2video_zero", "--url", server.url).stdout == wanted
    missing = loom("api", "no such thing", "--url", server.url)
    assert missing.returncode == 1
    assert "There are: " in missing.stderr
    assert ", Text to Animation, " in missing.stderr


def test_the_table_names_every_optional_input(client: ComfyClient):
    told = {node: re.findall(r"`(\w+)`", names) for node, names in re.findall(r"^\| `(Loom\w+)` \| (.+) \|$", PAGE, re.MULTILINE)}
    ours = {name: node for name, node in client.object_info().items() if node["python_module"] == f"custom_nodes.{PACK_NAME}"}
    assert told == {name: names for name, node in sorted(ours.items()) if (names := list(node["input"].get("optional", {})))}
