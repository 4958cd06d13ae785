"""The editor's JavaScript: linted and formatted by Biome, small, and on public hooks only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "web" / "js").rglob("*.js"))


@pytest.fixture(scope="module")
def biome() -> list[str]:
    """The command that runs the version of Biome that biome.json is written for."""
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("npx is not installed; it comes with Node.js")
    version = re.search(r"/schemas/([0-9.]+)/", json.loads((ROOT / "biome.json").read_text(encoding="utf-8"))["$schema"])[1]
    command = [npx, "--yes", f"@biomejs/biome@{version}"]
    try:
        ready = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120, cwd=ROOT)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npx got no @biomejs/biome@{version} within two minutes")
    if ready.returncode:
        pytest.skip(f"npx could not get @biomejs/biome@{version}: {ready.stderr.strip()[-200:]}")
    return command


def test_biome_finds_nothing(biome: list[str]):
    found = subprocess.run([*biome, "ci", "--error-on-warnings", "--colors=off"], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr + found.stdout


def test_it_is_small():
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES) < 1500


def test_only_public_modules_of_the_editor_are_imported():
    for path in SOURCES:
        for module in re.findall(r'(?:from|import\() ?"([^"]+)"', path.read_text(encoding="utf-8")):
            assert module in ("/scripts/app.js", "/scripts/api.js") or (path.parent / module).is_file(), f"{path.name}: {module}"
