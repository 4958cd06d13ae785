"""Files in ComfyUI's folders, looked into without being loaded."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import UnreadableFile
from pack.nodes.host.files import file_reports as inspecting
from pack.nodes.host.files import folders as folders
from pack.nodes.inspecting import InspectFileNode
from safetensors.torch import load_file, save_file

from .world import motion_config, motion_file, motion_weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A motion-model folder of this test's own."""
    paths = ([str(tmp_path)], set(folder_paths.supported_pt_extensions))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, folders.MOTION_MODELS, paths)
    folder_paths.filename_list_cache.clear()
    yield tmp_path
    folder_paths.filename_list_cache.clear()


def test_a_safetensors_file(folder):
    motion_file(folder, Family.SDXL, dtype=torch.float16)
    assert "animatediff_models/sdxl_0.safetensors" in inspecting.file_names()
    result = InspectFileNode.execute("animatediff_models/sdxl_0.safetensors")
    assert result[0].startswith("sdxl_0.safetensors: an AnimateDiff-SDXL motion model\nFor SDXL models (32, 64, 128) wide")
    assert "float16 (420 tensors)" in result[0]
    assert result.ui.as_dict()["text"] == (result[0],)


def test_a_pickle(folder):
    torch.save({"state_dict": motion_weights(motion_config(Family.LCM)), "epoch": 3}, folder / "lcm.ckpt")
    assert "an AnimateLCM motion model" in InspectFileNode.execute("animatediff_models/lcm.ckpt")[0]


def test_files_that_cannot_be_read_are_reported(folder):
    path = folder / "cut.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:300])
    (folder / "page.ckpt").write_text("<!doctype html>")
    assert "a file that cannot be read\nCannot be used: 'cut.safetensors' is cut short" in InspectFileNode.execute("animatediff_models/cut.safetensors")[0]
    assert "is a web page" in InspectFileNode.execute("animatediff_models/page.ckpt")[0]


def test_a_file_that_the_loader_refuses_for_its_positions_is_not_to_be_loaded(folder):
    path = motion_file(folder)
    assert "load it with Load Motion Model" in InspectFileNode.execute("animatediff_models/v3_0.safetensors")[0]
    tensors = load_file(path)
    save_file({key: tensor * 1.1 if key.endswith(".pe") else tensor for key, tensor in tensors.items()}, path)
    report = InspectFileNode.execute("animatediff_models/v3_0.safetensors")[0]
    assert "Cannot be used: " in report
    assert "differs from AnimateDiff's sinusoidal positions by up to 0.1." in report
    assert "load it" not in report


def test_a_file_says_how_it_was_trained(folder):
    motion_file(folder, Family.V2, max_frames=48, trained_frames=40)
    report = InspectFileNode.execute("animatediff_models/v2_0.safetensors")[0]
    assert "an AnimateDiff v2 motion model" in report
    assert "Trained on clips of 40 frames, positions for 48." in report


@pytest.mark.parametrize("choice", ["animatediff_models/none.ckpt", "etc/passwd", "../secrets.ckpt", "checkpoints/../../x.ckpt"])
def test_files_that_are_not_offered(folder, choice):
    with pytest.raises(UnreadableFile, match="Press R in the editor"):
        InspectFileNode.execute(choice)


def test_a_changed_file_is_looked_at_again(folder):
    motion_file(folder, Family.V3)
    before = InspectFileNode.fingerprint_inputs("animatediff_models/v3_0.safetensors")
    save_file({"a": torch.zeros(100)}, folder / "v3_0.safetensors")
    assert InspectFileNode.fingerprint_inputs("animatediff_models/v3_0.safetensors") != before
