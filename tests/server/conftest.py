"""One real ComfyUI over HTTP, on the CPU, with tiny models: everything takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher.client import ComfyClient
from launcher.server import ComfyServer

from .world import Models, animation, rerun, start_server, write_models


@pytest.fixture(scope="session")
def comfyui() -> Path:
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI; `python3 loom.py test` sets it")
    return Path(path)


@pytest.fixture(scope="session")
def models(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return write_models(comfyui, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(comfyui: Path, models: Models) -> Iterator[ComfyServer]:
    with start_server(comfyui, models) as running:
        yield running


@pytest.fixture
def client(server: ComfyServer) -> Iterator[ComfyClient]:
    with ComfyClient(server.url) as connected:
        yield connected


@pytest.fixture(scope="session")
def good_latents(server: ComfyServer):
    """What the good prompt gives before anything went wrong on this server."""
    with ComfyClient(server.url) as connected:
        return rerun(connected, animation(), "motion_model").latents()


@pytest.fixture
def motion_folder(models: Models) -> Iterator[Path]:
    """A folder of motion models that ComfyUI lists, empty again after the test."""
    yield models.motion_folder
    empty(models.motion_folder)


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
