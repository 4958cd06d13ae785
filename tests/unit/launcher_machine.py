"""A machine for the launcher's tests: a home and a cache of their own, a ComfyUI and a Python of straw."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from launcher import cache, comfyui, devices

ROOT = Path(__file__).resolve().parents[2]
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are POSIX's")

# Answers like ComfyUI, has one node of the pack, and a child that doesn't end when asked to.
SERVING_MAIN = """
import http.server, json, os, pathlib, signal, subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", child])
if report := os.environ.get("PIDS"):
    pathlib.Path(report).write_text(f"{os.getpid()} {child.pid}")
print("arguments", *sys.argv[1:])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        module = os.environ.get("MODULE", "custom_nodes.comfyui-animatediff-loom")
        body = json.dumps({"LoomSampler": {"python_module": module}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def private_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a cache of the test's own, and no ComfyUI that the machine may have."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("LOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(comfyui, "PACK_ROOT", tmp_path / "pack")
    # Spare the tests PyTorch's import of several seconds.
    remembered = f"{{{devices.json.dumps(devices.memory_key(Path(sys.executable)))}: false}}"
    (cache.cache_folder() / "accelerators.json").write_text(remembered)
    devices.has_accelerator.cache_clear()
    return home


def fake_comfyui(path: Path, version: str = "0.30.0", main: str = "") -> Path:
    (path / "comfy").mkdir(parents=True)
    (path / "main.py").write_text(main)
    (path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    (path / "requirements.txt").write_text("torch\n")
    return path


def with_models(comfyui: Path) -> Path:
    """Files of its own, so that the demo's need not be made."""
    for kind in ("checkpoints", "animatediff_models"):
        (comfyui / "models" / kind).mkdir(parents=True)
        (comfyui / "models" / kind / "mine.safetensors").touch()
    return comfyui


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie, whose parent hasn't looked yet, is dead
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(condition, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(done)


def fake_python(folder: Path) -> Path:
    """This Python, under a name for which it has all modules and PyTorch sees no device."""
    script = folder / "python"
    has_all = '[ "$1" = -I ] && echo "[]" && exit'
    script.write_text(f'#!/bin/sh\n{has_all}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return script
