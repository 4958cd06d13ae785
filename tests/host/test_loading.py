"""Motion models in ComfyUI's care: loaded, cast, counted, freed as any other model."""

from __future__ import annotations

import os
import pickle

import comfy.ldm.modules.attention as core_attention
import comfy.model_management
import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import MotionModelError, UnknownMotionModelFormat, UnreadableFile
from pack.nodes.host.files import loading as loading
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion import injection as injection
from safetensors.torch import load_file, save_file

from .world import (
    BOTH,
    SMALL_MOTION,
    SMALL_UNET,
    animate,
    make_model,
    motion_config,
    motion_file,
    motion_weights,
    sample,
)


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.mark.parametrize("stem", ["other", os.fsdecode(b"caf\xe9")], ids=["UTF-8", "Latin-1"])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pth", ".pt"])
def test_every_ending(model, tmp_path, suffix, stem):
    path = motion_file(tmp_path, **SMALL_MOTION)
    expected = sample(animate(model, load_motion_model(path)), steps=1)
    other = tmp_path / f"{stem}{suffix}"
    tensors = load_file(path)
    if suffix == ".safetensors":
        save_file(tensors, other)
    else:
        torch.save({"epoch": 1, "state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}, other)
    assert torch.equal(sample(animate(model, load_motion_model(str(other))), steps=1), expected)


def test_the_loader_tells_ComfyUI_what_it_needs(tmp_path):
    patcher = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    weights = motion_weights(motion_config(**SMALL_MOTION))
    assert patcher.model_size() == sum(tensor.nbytes for tensor in weights.values())
    assert patcher.clone().model is patcher.model
    factory, arguments = patcher.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert again.model is not patcher.model
    assert not again.is_dynamic()
    assert all(not parameter.requires_grad for parameter in patcher.model.parameters())


@BOTH
def test_it_loads_and_frees_with_the_model(model, tmp_path):
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    animated = animate(model, motion)
    before = sample(animated)
    loaded = {id(entry.model.model) for entry in comfy.model_management.current_loaded_models}
    assert {id(model.model), id(motion.model)} <= loaded
    comfy.model_management.unload_all_models()
    assert not comfy.model_management.current_loaded_models
    assert torch.equal(sample(animated), before)


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_storage_dtypes_are_cast_at_use(model, tmp_path, monkeypatch, storage):
    """Weights kept in few bits give exactly what the rounded weights give in full precision."""
    path = motion_file(tmp_path, **SMALL_MOTION)
    rounded = {key: tensor.to(storage).float() if "pos_encoder" not in key else tensor for key, tensor in load_file(path).items()}
    save_file(rounded, tmp_path / "rounded.safetensors")
    expected = sample(animate(model, load_motion_model(str(tmp_path / "rounded.safetensors"))), steps=1)
    monkeypatch.setattr(loading, "storage_dtype", lambda weights, device: storage)
    motion = load_motion_model(path)
    assert {parameter.dtype for parameter in motion.model.parameters()} == {storage}
    assert torch.equal(sample(animate(model, motion), steps=1), expected)


@pytest.mark.parametrize("file_dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(model, tmp_path, file_dtype):
    path = motion_file(tmp_path, dtype=file_dtype, **SMALL_MOTION)
    motion = load_motion_model(path)
    # On a CPU ComfyUI computes in float32, and keeps weights so.
    assert {parameter.dtype for parameter in motion.model.parameters()} == {torch.float32}
    assert torch.isfinite(sample(animate(model, motion), steps=1)).all()


@pytest.mark.parametrize(
    ("dtype", "manual_cast", "tolerance"),
    [(torch.bfloat16, None, 0.05), (torch.float16, torch.float32, 2e-3), (torch.float8_e4m3fn, torch.bfloat16, 0.5)],
)
def test_unets_of_other_dtypes(tmp_path, model, dtype, manual_cast, tolerance):
    """Motion modules compute in the UNet's dtype, whatever that is; near float32 as far as the dtype goes."""
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    exact = sample(animate(model, motion), steps=1)
    out = sample(animate(make_model(dtype, manual_cast, **SMALL_UNET), motion), steps=1)
    assert torch.isfinite(out).all()
    assert (out - exact).abs().mean() / exact.abs().mean() < tolerance


def test_partly_loaded_weights_are_cast_where_they_are_used(model, tmp_path):
    """Low VRAM: part of the motion model stays where it is and is moved at each use."""
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    expected = sample(animate(model, motion), steps=1)
    comfy.model_management.unload_all_models()
    motion.load(motion.load_device, lowvram_model_memory=motion.model_size() // 3)
    assert 0 < motion.loaded_size() < motion.model_size()
    assert torch.equal(sample(animate(model, motion), steps=1), expected)


def test_attention_batches_are_split_as_cuda_needs(model, tmp_path, monkeypatch):
    """A clip of 16x16 latents is 512 attention batches; CUDA refuses more than 65,535 at once, core splits at 2^15."""
    motion = load_motion_model(motion_file(tmp_path, **SMALL_MOTION))
    monkeypatch.setattr(injection, "CPU_BLOCK_TOKENS", None)
    expected = sample(animate(model, motion), steps=1, size=16)
    sizes, original = [], core_attention.comfy.ops.scaled_dot_product_attention

    def watch(q, *args, **kwargs):
        sizes.append(q.shape[0])
        return original(q, *args, **kwargs)

    monkeypatch.setattr(core_attention.comfy.ops, "scaled_dot_product_attention", watch)
    sample(animate(model, motion), steps=1, size=16)
    assert max(sizes) == 512
    sizes.clear()
    monkeypatch.setattr(core_attention, "SDP_BATCH_LIMIT", 100)
    out = sample(animate(model, motion), steps=1, size=16)
    assert max(sizes) == 100
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-5)


def test_attention_overrides_of_the_user_are_respected(model, tmp_path):
    animated = animate(model, load_motion_model(motion_file(tmp_path, **SMALL_MOTION)))
    heads = []

    def override(function, q, k, v, num_heads, *args, **kwargs):
        heads.append((num_heads, q.shape[1]))
        return function(q, k, v, num_heads, *args, **kwargs)

    animated.model_options["transformer_options"]["optimized_attention_override"] = override
    sample(animated, steps=1, frames=5)
    assert heads.count((8, 5)) >= 12  # two attentions in each of six modules


class _Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    for name, protocol in (("new.ckpt", True), ("old.ckpt", False)):
        path = tmp_path / name
        torch.save({"state_dict": _Payload(str(marker))}, path, _use_new_zipfile_serialization=protocol)
        with pytest.raises(UnreadableFile, match=f"'{name}' was not loaded: .* which Loom never runs"):
            load_motion_model(str(path))
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(_Payload(str(marker))))
    with pytest.raises(UnreadableFile, match="never runs"):
        load_motion_model(str(tmp_path / "bare.ckpt"))
    assert not marker.exists()


def test_garbage_under_a_pickles_name(tmp_path):
    for i, content in enumerate((b"garbage", b"\x80\x02garbage", b"PK\x03\x04" + b"\0" * 100 + b"PK\x05\x06" + b"\0" * 18)):
        path = tmp_path / f"{i}.ckpt"
        path.write_bytes(content)
        with pytest.raises(UnreadableFile, match=f"'{i}.ckpt'"):
            load_motion_model(str(path))


def test_messages_name_the_file(tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "style.safetensors")
    with pytest.raises(UnknownMotionModelFormat, match=r"^'style.safetensors': not a motion model: it is a LoRA"):
        load_motion_model(str(tmp_path / "style.safetensors"))
    config = motion_config(Family.V2)
    weights = motion_weights(config)
    weights["mid_block.motion_modules.0.temporal_transformer.norm.bias"][0] = float("nan")
    weights = {**weights, **{k.replace("to_q.weight", "pos_encoder.pe"): torch.zeros(1, 32, v.shape[0]) for k, v in weights.items() if k.endswith("to_q.weight")}}
    save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(MotionModelError, match=r"^'nan.safetensors': 1 weights hold NaN"):
        load_motion_model(str(tmp_path / "nan.safetensors"))


def test_any_log_can_write_what_is_said_of_a_file(tmp_path, caplog):
    """A file unpacked from an old zip may have a name that is no UTF-8; ComfyUI's queue ends where its log can't write."""
    path = tmp_path / os.fsdecode(b"good\xe9.ckpt")
    torch.save(load_file(motion_file(tmp_path, **SMALL_MOTION)), path)
    with caplog.at_level("INFO"):
        load_motion_model(str(path))
    assert r"good\udce9.ckpt" in caplog.text.encode("utf-8").decode()
