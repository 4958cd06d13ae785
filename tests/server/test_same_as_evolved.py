"""Translated workflows beside what AnimateDiff-Evolved gave for them, which ``record_evolved.py`` recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from launcher.client import ComfyClient
from launcher.server import ComfyServer
from migration.migrate import migrate
from migration.report import Word
from safetensors.torch import load_file

from .conftest import empty
from .evolved_cases import cases, write_models, write_unet
from .world import Models, run

RECORDED = load_file(Path(__file__).with_name("evolved_latents.safetensors"))
ROUNDING = 1e-4
"""Of latents, relative to their norm; the two packs add up in different orders."""


@pytest.fixture(scope="module")
def evolved_client(server: ComfyServer, models: Models) -> Iterator[ComfyClient]:
    """The server, with the models of the recorded runs."""
    write_models(models.motion_model, models.motion_folder, models.lora_folder)
    write_unet(models.checkpoint, models.unet_folder)
    with ComfyClient(server.url) as client:
        yield client
    empty(models.motion_folder)
    empty(models.lora_folder)
    empty(models.unet_folder)


def difference(name: str, latents: torch.Tensor) -> float:
    return ((latents - RECORDED[name]).norm() / RECORDED[name].norm()).item()


def test_every_case_was_recorded():
    assert {name for name, _ in cases()} == RECORDED.keys()


@pytest.mark.parametrize(("name", "prompt"), cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_called_the_same_is_the_same(evolved_client, name, prompt):
    translated, report = migrate(prompt)
    found = difference(name, run(evolved_client, translated).latents())
    assert (found <= ROUNDING) == (report.word is Word.SAME), f"{report.word.value}: {found:.1e}"


@pytest.mark.parametrize("name", ["v1", "v2 as v1, windows"])
def test_each_of_several_clips_is_the_same(evolved_client, name):
    """Norms over all frames are over those of each clip: the first one is what that pack gives for it alone."""
    prompt, _ = migrate(dict(cases())[name])
    frames = prompt["frames"]["inputs"]["batch_size"]
    prompt["frames"]["inputs"]["batch_size"] = 2 * frames
    prompt["sampled"] = {"class_type": "LoomSampler", "inputs": {**prompt["sampled"]["inputs"], "clips": 2}}
    latents = run(evolved_client, prompt).latents()
    assert difference(name, latents[:frames]) <= ROUNDING
    assert difference(name, latents[frames:]) > 0.1
