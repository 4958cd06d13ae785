"""Translated workflows beside what AnimateDiff-Evolved gave for them, which ``record_evolved.py`` recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from launcher.client import ComfyClient
from launcher.comfyui import find_comfyui
from launcher.demo_models import demo_models
from launcher.server import ComfyServer, link_file
from migration.migrate import migrate
from migration.report import Word
from safetensors.torch import load_file

from .evolved_cases import CHECKPOINT, cases, write_models
from .world import run

RECORDED = load_file(Path(__file__).with_name("evolved_latents.safetensors"))
ROUNDING = 1e-4
"""Of latents, relative to their norm; the two packs add up in different orders."""


@pytest.fixture(scope="module")
def evolved_client(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyClient]:
    tiny = demo_models(find_comfyui(str(comfyui)), Path(sys.executable))
    folders = {name: tmp_path_factory.mktemp(name) for name in ("checkpoints", "animatediff_models", "animatediff_motion_lora")}
    link_file(folders["checkpoints"] / CHECKPOINT, tiny.checkpoint)
    write_models(tiny.motion_model, folders["animatediff_models"], folders["animatediff_motion_lora"])
    named = {name: [folder] for name, folder in folders.items()}
    with ComfyServer(comfyui, model_folders=named, extra_args=["--cpu"]) as server, ComfyClient(server.url) as client:
        yield client


def difference(name: str, latents: torch.Tensor) -> float:
    return ((latents - RECORDED[name]).norm() / RECORDED[name].norm()).item()


def test_every_case_was_recorded():
    assert {name for name, _ in cases()} == RECORDED.keys()


@pytest.mark.parametrize(("name", "prompt"), cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_called_the_same_is_the_same(evolved_client, name, prompt):
    translated, report = migrate(prompt)
    found = difference(name, run(evolved_client, translated).latents())
    assert (found <= ROUNDING) == (report.word is Word.SAME), f"{report.word.value}: {found:.1e}"
