"""What files are, told from names and shapes alone."""

from __future__ import annotations

import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.inspect_file import inspect_file
from pack.motion_models.layouts import Layout, to_layout

from .conftest import random_weights, tiny_config
from .test_checkpoint import FULL_SIZE, OTHER_FILES, UNSUPPORTED, on_meta, read_layout


@pytest.mark.parametrize("name", FULL_SIZE)
def test_released_motion_models(name):
    config = FULL_SIZE[name]
    report = inspect_file({"state_dict": on_meta(read_layout(name))}, name, 900_000_000)
    assert (report.config, report.problem, report.folder) == (config, "", "models/animatediff_models")
    lines = report.text.split("\n")
    assert lines[0] in (f"{name}: a {config.family.title} motion model", f"{name}: an {config.family.title} motion model")
    assert lines[1].startswith(f"For {config.base_model} models (320, 640, 1280")
    assert lines[2] == f"Trained on clips of {config.trained_frames} frames, positions for {config.max_frames}."
    assert "float32" in lines[4]
    assert "900.0 MB" in lines[4]


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: layout.name)
def test_the_layout_is_named(layout):
    config = tiny_config(Family.V3)
    report = inspect_file(to_layout(config, random_weights(config), layout), "model.safetensors")
    assert report.layout is layout
    assert f"Layout of {layout.value}." in report.text


@pytest.mark.parametrize("kind", [kind for kind, (_, place) in OTHER_FILES.items() if "models/" in place])
def test_other_files(kind):
    tensors, place = OTHER_FILES[kind]
    report = inspect_file(tensors, "file.safetensors")
    assert report.config is None
    assert report.folder in place
    assert f"Belongs in {report.folder}" in report.text


def test_unknown_and_empty_files():
    assert "nothing that Loom knows; its first key is 'a.b'" in inspect_file({"a.b": torch.zeros(3)}, "f").text
    assert "a file without tensors\nCannot be used: there is nothing to load." in inspect_file({"epoch": 3}, "f").text


@pytest.mark.parametrize("family", UNSUPPORTED)
def test_families_not_supported_yet(family):
    config = tiny_config(Family.V2)
    public = to_layout(config, random_weights(config))
    report = inspect_file(UNSUPPORTED[family](public), "file.ckpt")
    assert f"{family} motion model" in report.kind
    assert "not supported yet" in report.problem


def test_what_is_missing_is_said():
    config = tiny_config(Family.V3)
    public = to_layout(config, random_weights(config))
    key = "up_blocks.1.motion_modules.2.temporal_transformer.proj_out.bias"
    report = inspect_file({name: tensor for name, tensor in public.items() if name != key}, "file.ckpt")
    assert report.config == config
    assert f"1 weights are missing: '{key}'" in report.problem
    half = {name: tensor for name, tensor in public.items() if not name.startswith("up_blocks")}
    assert "missing: 'up_blocks.0.motion_modules.0'" in inspect_file(half, "file.ckpt").problem


@pytest.mark.parametrize(
    ("down", "up"),
    [("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight"), ("to_q_lora.down.weight", "to_q_lora.up.weight")],
)
def test_ranks(down, up):
    tensors = {f"block.{i}.{name}": torch.zeros(shape) for i in range(3) for name, shape in ((down, (16, 64)), (up, (64, 16)))}
    tensors["block.conv.lora_down.weight"], tensors["block.conv.lora_up.weight"] = torch.zeros(8, 64, 3, 3), torch.zeros(64, 8, 1, 1)
    report = inspect_file(tensors, "file.safetensors")
    assert report.rank == 16
    assert "Ranks from 8 to 16; most are 16." in report.text


def test_metadata_and_hints():
    config = tiny_config(Family.LCM)
    public = to_layout(config, random_weights(config))
    text = inspect_file(public, "lcm.safetensors", metadata={"loom_steps": "500", "format": "pt"}).text
    assert "loom_steps: 500" in text
    assert "format" not in text
    assert "the sampler lcm, the scheduler simple" in text
    config = tiny_config(Family.V2)
    public = to_layout(config, random_weights(config))
    assert "AnimateDiff-Lightning" in inspect_file(public, "animatediff_lightning_4step_comfyui.safetensors").text
    assert "AnimateDiff-Lightning" not in inspect_file(public, "mm_sd_v15_v2.ckpt").text
