"""Families for SDXL, with the norms of AnimateDiff-Evolved, beside what that pack gave: ``record_evolved_families.py`` recorded it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pack.nodes.apply import ApplyMotionModelNode
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.windows import ContextWindowsNode
from safetensors.torch import load_file

from .evolved_families import OVERLAP, WINDOW, base, clip, write_motion_model

RECORDED = load_file(Path(__file__).with_name("evolved_families.safetensors"))


def difference(name, latents):
    return ((latents - RECORDED[name]).norm() / RECORDED[name].norm()).item()


@pytest.mark.parametrize("kind", ["whole", "windows"])
@pytest.mark.parametrize("name", ["SDXL", "HotshotXL"])
def test_it_is_what_was_recorded(name, kind, tmp_path):
    motion = load_motion_model(str(write_motion_model(name, tmp_path)))
    model = ApplyMotionModelNode.execute(base(), motion, "auto", group_norms="like AnimateDiff-Evolved")[0]
    if kind == "windows":
        model = ContextWindowsNode.execute(model, WINDOW, OVERLAP, "standard_static", "pyramid")[0]
    assert difference(f"{name}, {kind}", clip(model)) < 1e-4


def test_the_norms_make_the_difference(tmp_path):
    motion = load_motion_model(str(write_motion_model("SDXL", tmp_path)))
    assert difference("SDXL, whole", clip(ApplyMotionModelNode.execute(base(), motion, "auto")[0])) > 1e-2
