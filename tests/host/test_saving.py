"""Save Motion Model: what is merged into the weights is in the file, and every layout comes back."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from diffusers import MotionAdapter
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from pack.motion_models.companions.low_rank import LowRank
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput
from pack.nodes.host.files import loading
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import add_lora
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.files.saving import LAYOUTS
from pack.nodes.training import SaveMotionModelNode
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .world import BOTH, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample

INPUT = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"


@pytest.fixture
def output(tmp_path, monkeypatch):
    """ComfyUI's output folder, for one test."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


def save(patcher, output, layout: str = "AnimateDiff", dtype: str = "fp32", prefix: str = "saved") -> str:
    """Save as ComfyUI runs the node; the path of the file."""
    before = set(output.glob("*"))
    hidden = type("Hidden", (), {"prompt": None, "extra_pnginfo": None})
    type("Save", (SaveMotionModelNode,), {"hidden": hidden}).execute(patcher, prefix, dtype, layout)
    (path,) = set(output.glob("*")) - before
    return str(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", Family, ids=lambda family: family.name)
def test_every_layout_comes_back(family, layout, output, tmp_path):
    motion = load_motion_model(motion_file(tmp_path, family, layers_per_block=1))
    if layout == "HotshotXL" and family is not Family.HOTSHOT:
        with pytest.raises(InvalidInput, match=f"is only for HotshotXL, but this motion model is {motion.model.config.family.title}"):
            save(motion, output, layout)
        return
    path = save(motion, output, layout, prefix="AnimateLCM" if family is Family.LCM else "saved")
    back = load_motion_model(path)
    assert back.model.config == motion.model.config
    weights = motion.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in back.model.state_dict().items())
    again = save(back, output, layout, prefix="AnimateLCM" if family is Family.LCM else "saved")
    first, second = load_file(path), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.name)
def test_diffusers_reads_it(family, output, tmp_path):
    """Into its own MotionAdapter, under the names of its own conversion, with the positions that it computes itself."""
    motion = load_motion_model(motion_file(tmp_path, family))
    config = motion.model.config
    prefix = "AnimateLCM" if family is Family.LCM else "saved"
    stored, public = load_file(save(motion, output, "Diffusers", prefix=prefix)), load_file(save(motion, output))
    converted = convert_animatediff_checkpoint_to_diffusers(public)
    adapter = MotionAdapter(
        block_out_channels=config.block_channels, use_motion_mid_block=config.has_mid_block, motion_max_seq_length=config.max_frames
    )
    computed = {name: tensor.clone() for name, tensor in adapter.state_dict().items() if name.endswith("pos_embed.pe")}
    adapter.load_state_dict(stored, strict=True)
    assert stored.keys() == converted.keys() | computed.keys()
    assert all(torch.equal(stored[name], converted[name]) for name in converted)
    for name, table in computed.items():
        torch.testing.assert_close(stored[name], table, atol=1e-4, rtol=0)  # as near as sine and cosine of 1e4 are alike


@BOTH
@pytest.mark.parametrize("layout", ["AnimateDiff", "Diffusers"])
def test_with_a_lora_inside_it_animates_as_with_the_lora(layout, output, tmp_path):
    model = make_model(**SMALL_UNET)
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION)).clone()
    without = sample(animate(model, motion), steps=1)
    add_lora(motion, {INPUT: LowRank(torch.randn(4, 32), torch.randn(32, 4))}, 0.7)
    expected = sample(animate(model, motion), steps=1)
    out = sample(animate(model, load_motion_model(save(motion, output, layout))), steps=1)
    assert torch.equal(out, expected)
    assert (out - without).abs().max() > 0.01


@BOTH
def test_a_merger_is_saved_in_the_weights(output, tmp_path):
    pair = [load_motion_model(motion_file(tmp_path, seed=seed, **SMALL_MOTION)) for seed in (1, 2)]
    one, other = (patcher.model.state_dict() for patcher in pair)
    expected = {name: 0.25 * one[name] + 0.75 * other[name] for name in one}
    back = load_motion_model(save(merge_motion_models(*pair, 0.25), output)).model.state_dict()
    for name, weight in back.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-7, rtol=1e-6)


@BOTH
def test_weights_kept_in_few_bits_are_rounded_once_more_for_the_file_only(output, tmp_path, monkeypatch):
    """A LoRA on fp8 weights: what it adds is in the file as it is, not rounded to fp8 together with them."""
    path = motion_file(tmp_path, **SMALL_MOTION)
    rounded = load_file(path)[INPUT].to(torch.float8_e4m3fn).float()
    save_file({name: t.to(torch.float8_e4m3fn) if "pos_encoder" not in name else t for name, t in load_file(path).items()}, path)
    monkeypatch.setattr(loading, "storage_dtype", lambda weights, device: torch.float8_e4m3fn)
    motion = load_motion_model(path).clone()
    layer = LowRank(torch.randn(4, 32), torch.randn(32, 4))
    add_lora(motion, {INPUT: layer}, 0.1)
    comfy.model_management.load_models_gpu([motion])
    torch.testing.assert_close(load_file(save(motion, output))[INPUT], rounded + 0.1 * layer.up @ layer.down, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", [Family.LCM, Family.V2], ids=lambda family: family.name)
def test_a_file_in_diffusers_layout_says_what_it_is(family, output, tmp_path):
    """Its weights don't, and its name may well say otherwise."""
    motion = load_motion_model(motion_file(tmp_path, family))
    path = save(motion, output, "Diffusers", prefix="my_LCM" if family is Family.V2 else "saved")
    assert load_motion_model(path).model.config == motion.model.config


def test_a_model_trained_on_48_frames_comes_back_as_that(output, tmp_path):
    motion = load_motion_model(motion_file(tmp_path, Family.V2, max_frames=48, trained_frames=48))
    config = load_motion_model(save(motion, output)).model.config
    assert (config.family, config.trained_frames, config.max_frames) == (Family.V2, 48, 48)


def test_names_need_not_be_utf8(tmp_path, monkeypatch):
    """Neither the output folder's, nor one that the metadata tells, of the file that a training started from."""
    output = tmp_path / os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(folder_paths, "output_directory", str(output))
    motion = load_motion_model(motion_file(tmp_path))
    started_from = {"loom_started_from": os.fsdecode(b"caf\xe9.safetensors")}
    trained = loading.motion_model_patcher(motion.model.config, motion.model.state_dict(), "trained", started_from)
    path = save(trained, output)
    assert load_motion_model(path).model.config == motion.model.config
    (tmp_path / "copy.safetensors").write_bytes(Path(path).read_bytes())
    with safe_open(tmp_path / "copy.safetensors", "pt") as file:
        assert file.metadata()["loom_started_from"] == r"caf\udce9.safetensors"


@pytest.mark.parametrize("prefix", ["\ud800", os.fsdecode(b"caf\xe9"), "a\0b"])
def test_a_prefix_that_no_file_can_have(output, tmp_path, prefix):
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    with pytest.raises(InvalidInput, match="Expected characters that file names can have") as caught:
        save(motion, output, prefix=prefix)
    str(caught.value).encode("utf-8")
