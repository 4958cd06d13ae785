"""ComfyUI's versions: the newest works, one that is too old is told so."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launcher.client import ComfyClient
from launcher.pack import PACK_ROOT
from launcher.workflow import to_prompt
from PIL import Image

from .example import find, load_example, shrink
from .test_object_info import NODES
from .world import run, start_server

IMPORT_PACK = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pack", sys.argv[1], submodule_search_locations=[sys.argv[2]])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""


def import_under(version: str, folder: Path) -> str:
    """What Python prints when the pack is imported in a ComfyUI of some version that has nothing but its version."""
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    command = [sys.executable, "-c", IMPORT_PACK, str(PACK_ROOT / "__init__.py"), str(PACK_ROOT)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("version", ["0.29.1", "0.3.77"])
def test_an_old_comfyui_is_told_to_update(tmp_path, version):
    assert import_under(version, tmp_path) == (
        f"ImportError: AnimateDiff Loom needs ComfyUI 0.30.0 or newer; this is {version}. Update ComfyUI."
    )


@pytest.mark.parametrize("version", ["0.30.0", "0.33.0", "1.0.0"])
def test_a_new_one_is_not(tmp_path, version):
    assert "needs ComfyUI" not in import_under(version, tmp_path)


def test_the_newest_comfyui_runs_the_example(models):
    newest = os.environ.get("COMFYUI_PATH_NEWEST")
    if not newest:
        pytest.skip(
            "COMFYUI_PATH_NEWEST does not name a newer ComfyUI to try the pack on "
            "(and COMFYUI_PYTHON_NEWEST the Python that has its requirements, if not this one)"
        )
    python = Path(os.environ.get("COMFYUI_PYTHON_NEWEST") or sys.executable)
    with start_server(Path(newest), models, python) as server, ComfyClient(server.url) as client:
        schemas = client.object_info()
        assert set(NODES) <= schemas.keys()
        prompt = shrink(to_prompt(load_example(), schemas))
        with Image.open(io.BytesIO(run(client, prompt).file(find(prompt, "SaveAnimatedWEBP")))) as picture:
            assert picture.n_frames == 16
