"""Files of every accepted wrapping become one layout; everything else is refused by name."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter
from pack.motion_models import checkpoint
from pack.motion_models.camera_control import CameraControl
from pack.motion_models.camera_control_layout import CameraControlConfig, split_camera_control
from pack.motion_models.companions import companions_in, with_family_of
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.errors import MotionModelError, UnknownMotionModelFormat, UnreadableFile
from pack.motion_models.files import check_weights_file
from pack.motion_models.layouts import Layout, motion_weights, to_layout
from pack.motion_models.recognise import detect_config, expected_shapes, unwrap
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .conftest import random_weights, sdpa, tiny_config

DATA = Path(__file__).parent.parent / "data"
FULL_SIZE = {
    "mm_sd_v15.txt": MotionModelConfig(Family.V1, max_frames=24),
    "mm_sd_v15_v2.txt": MotionModelConfig(Family.V2, has_mid_block=True),
    "v3_sd15_mm.txt": MotionModelConfig(Family.V3),
    "mm_sdxl_v10_beta.txt": MotionModelConfig(Family.SDXL, (320, 640, 1280)),
    "hsxl_temporal_layers.txt": MotionModelConfig(Family.HOTSHOT, (320, 640, 1280), max_frames=24),
    "AnimateLCM_sd15_t2v.txt": MotionModelConfig(Family.LCM, has_mid_block=True, max_frames=64),
    "pia.txt": MotionModelConfig(Family.PIA),
    "AnimateLCM_sd15_i2v.txt": MotionModelConfig(Family.LCM_I2V, has_mid_block=True, max_frames=64),
}


# Of four levels and the longest tables, and of three: for what no family has to itself.
TWO_FAMILIES = pytest.mark.parametrize("config", [Family.LONG, Family.SDXL], ids=lambda family: family.name, indirect=True)


@pytest.fixture
def public(config) -> dict[str, torch.Tensor]:
    """A file's tensors in AnimateDiff's public layout."""
    return to_layout(config, random_weights(config))


def read_layout(name: str) -> dict[str, torch.Size]:
    """Key and shape of each tensor of a released file."""
    lines = (DATA / name).read_text().split("\n")
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {key: torch.Size(map(int, shape.split("x"))) for key, shape in rows}


def with_positions(shapes: dict[str, torch.Size], frames: int) -> dict[str, torch.Size]:
    return {key: torch.Size((1, frames, shape[2])) if key.endswith(".pe") else shape for key, shape in shapes.items()}


def released(name: str) -> tuple[dict[str, torch.Size], MotionModelConfig]:
    """Keys and shapes of the file that users know by this name, without its ending, and what it is."""
    if name.startswith("lt_long_mm"):
        frames = 128 if "64" in name else 64
        config = MotionModelConfig(Family.LONG, has_mid_block=True, max_frames=frames)
        return with_positions(read_layout("mm_sd_v15_v2.txt"), frames), config
    if name.endswith("_diffusers"):
        return read_layout("diffusers_motion_adapter.txt"), FULL_SIZE["mm_sd_v15_v2.txt"]
    layout = next(layout for layout, names in RELEASES.items() if any(fnmatch(name, pattern) for pattern in names))
    return read_layout(layout), FULL_SIZE[layout]


RELEASES = {
    # layout: the files that have it; finetunes have their parent's
    "mm_sd_v15.txt": ("mm_sd_v14", "mm_sd_v15", "temporaldiff-v1-animatediff", "mm-Stabilized_*"),
    "mm_sd_v15_v2.txt": ("mm_sd_v15_v2", "improved*", "animatediff_lightning_*step_comfyui"),
    "v3_sd15_mm.txt": ("v3_sd15_mm",),
    "mm_sdxl_v10_beta.txt": ("mm_sdxl_v10_beta",),
    "hsxl_temporal_layers.txt": ("hsxl_temporal_layers",),
    "AnimateLCM_sd15_t2v.txt": ("AnimateLCM_sd15_t2v",),
    "pia.txt": ("pia",),
    "AnimateLCM_sd15_i2v.txt": ("AnimateLCM_sd15_i2v",),
}
OTHER_LAYOUTS = ("lt_long_mm_32_frames", "lt_long_mm_16_64_frames", "animatediff_lightning_4step_diffusers")
RELEASED = [name.replace("*", "4") for names in RELEASES.values() for name in names] + list(OTHER_LAYOUTS)


@pytest.mark.parametrize("name", RELEASED)
def test_released_layouts_are_recognised_to_the_last_key(name):
    """And written again to the last key."""
    shapes, config = released(name)
    layout, weights, positions = motion_weights(on_meta(shapes))
    assert shapes_of(weights) == expected_shapes(config)
    companions = companions_in(on_meta(shapes))
    assert with_family_of(companions, detect_config(weights, positions, layout, f"{name}.ckpt")) == config
    of_companions = {f"{kind.prefix}{key.removeprefix(kind.inner)}": tensor.shape for kind, its in companions.items() for key, tensor in its.items()}
    assert shapes_of(to_layout(config, weights, layout)) | of_companions == shapes


@pytest.mark.parametrize("name", ["mm_sd_v15", "mm_sd_v15_v2"])
def test_a_checkpoint_of_the_original_training_is_recognised_to_the_last_key(name):
    """AnimateDiff's train.py keeps the whole UNet, as DistributedDataParallel calls it, beside epoch and step."""
    shapes, config = released(name)
    unet = read_layout("sd15_unet.txt")
    assert not unet.keys() & shapes.keys()
    file = {"epoch": 3, "global_step": 100, "state_dict": on_meta({f"module.{key}": shape for key, shape in (unet | shapes).items()})}
    layout, weights, positions = motion_weights(unwrap(file))
    assert detect_config(weights, positions, layout) == config
    assert shapes_of(to_layout(config, weights, layout)) == shapes


def on_meta(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("v3_sd15_mm.txt", 417_137_600), ("mm_sd_v15_v2.txt", 453_209_280), ("mm_sdxl_v10_beta.txt", 236_779_200)],
)
def test_released_sizes(name, parameters):
    """The releases' parameter counts, as published (animatediff-cli logs 453.20928M)."""
    shapes = expected_shapes(FULL_SIZE[name])
    assert sum(shape.numel() for shape in shapes.values()) == parameters


def wrapped(public):
    junk = {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(3), "conv_in.weight": torch.zeros(320, 4, 3, 3)}
    yield "as released", public
    yield "state_dict", {"state_dict": public}
    yield "train.py", {"epoch": 3, "global_step": 100, "state_dict": {f"module.{k}": v for k, v in public.items()}}
    yield "whole UNet", {**public, **junk}
    yield "one entry", {"model": public}
    yield "animatediff_config", {**public, "animatediff_config": {"unet_additional_kwargs": {}}}
    yield "unet prefix", {f"unet.{k}": v for k, v in public.items()}


@TWO_FAMILIES
@pytest.mark.parametrize("index", range(7))
def test_wrappings_come_off(config, public, index):
    _, file = list(wrapped(public))[index]
    found, weights, _ = checkpoint.convert(file)
    assert found == config
    expected = random_weights(config)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_saved_file_has_the_permissions_of_any_other(umask, tmp_path):
    """A server that another user runs can read it, also where it replaced an earlier file."""
    config, path = tiny_config(Family.V3), tmp_path / "saved.safetensors"
    before = os.umask(umask)
    try:
        for _ in range(2):
            checkpoint.save(path, config, random_weights(config))
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {file.name for file in tmp_path.iterdir()} == {"saved.safetensors", "other"}


def test_saving_gives_the_public_layout_and_comes_back(config, public, tmp_path):
    weights = random_weights(config)
    checkpoint.save(tmp_path / "saved.safetensors", config, weights, {"steps": "5"})
    stored = load_file(tmp_path / "saved.safetensors")
    assert stored.keys() == public.keys()
    tables = [tensor for key, tensor in stored.items() if key.endswith("pos_encoder.pe")]
    modules = config.has_mid_block + 5 * len(config.block_channels)
    assert len(tables) == (0 if config.family is Family.LCM else 2 * modules)
    assert all(table.shape[:2] == (1, config.max_frames) for table in tables)
    found, back, _ = checkpoint.convert(stored)
    assert found == config
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(public, config, dtype):
    found, weights, _ = checkpoint.convert({key: tensor.to(dtype) for key, tensor in public.items()})
    assert found == config
    assert {tensor.dtype for tensor in weights.values()} == {dtype}


def test_missing_spare_and_misshapen_weights(public):
    key = "up_blocks.1.motion_modules.2.temporal_transformer.proj_out.bias"
    short = {k: v for k, v in public.items() if k != key}
    with pytest.raises(MotionModelError, match=f"1 weights are missing: '{key}'"):
        checkpoint.convert(short)
    spare = {**public, key.replace("proj_out.bias", "proj_up.bias"): torch.zeros(3)}
    with pytest.raises(MotionModelError, match=r"1 are not expected: .*proj_up"):
        checkpoint.convert(spare)
    with pytest.raises(MotionModelError, match=r"proj_out.bias' has shape \(7,\), expected"):
        checkpoint.convert({**public, key: torch.zeros(7)})
    whole_module = {k: v for k, v in public.items() if not k.startswith("up_blocks.1.motion_modules.2.")}
    with pytest.raises(UnknownMotionModelFormat, match=r"missing: 'up_blocks.1.motion_modules.2'"):
        checkpoint.convert(whole_module)


@TWO_FAMILIES
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(public, bad):
    key = "down_blocks.2.motion_modules.1.temporal_transformer.proj_in.weight"
    public[key] = public[key].clone()
    public[key][5, 7] = bad
    with pytest.raises(MotionModelError, match=f"NaN or infinity: '{key}'"):
        checkpoint.convert(public)


HALVES = {
    torch.float16: (torch.float32, torch.float64),
    torch.bfloat16: (torch.float32, torch.float16),
    torch.float8_e4m3fn: (torch.float16, torch.bfloat16, torch.float32),
    torch.float8_e5m2: (torch.float16, torch.float32),
}


@TWO_FAMILIES
@pytest.mark.parametrize(("origin", "stored"), [(origin, stored) for origin, all_stored in HALVES.items() for stored in all_stored])
def test_a_file_that_was_of_fewer_bits_once(public, config, origin, stored):
    """As mergers, trainings and converters write it that start from such a file."""
    found, weights, _ = checkpoint.convert({key: tensor.to(origin).to(stored) for key, tensor in public.items()})
    assert found == config
    assert {tensor.dtype for tensor in weights.values()} == {stored}


def test_a_table_is_no_half_precision_one_because_it_is_near():
    config = tiny_config(Family.V3)
    public = to_layout(config, random_weights(config))
    key = next(key for key in public if key.endswith("pos_encoder.pe"))
    for change in (1.002, 0.98):
        with pytest.raises(UnknownMotionModelFormat, match="differs from AnimateDiff's sinusoidal positions"):
            checkpoint.convert({**public, key: public[key] * change})


def test_positions_that_are_not_the_formula():
    config = tiny_config(Family.V3)
    public = to_layout(config, random_weights(config))
    key = next(key for key in public if key.endswith("pos_encoder.pe"))
    public[key] = public[key] + 0.1
    with pytest.raises(UnknownMotionModelFormat, match="differs from AnimateDiff's sinusoidal positions by up to 0.1"):
        checkpoint.convert(public)


@TWO_FAMILIES
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64])
def test_numbers_that_are_no_weights(public, dtype):
    key = "down_blocks.2.motion_modules.1.temporal_transformer.proj_in.weight"
    with pytest.raises(MotionModelError, match=f"'{key}': stored as {str(dtype)[6:]}, so quantized or damaged. Use a file with float16"):
        checkpoint.convert({**public, key: public[key].to(dtype)})


CYCLE: dict[str, object] = {"epoch": 1}
CYCLE["state_dict"] = CYCLE
KEY = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
HOSTILE = {
    "a dict that holds itself": (CYCLE, "nested more than 10 levels deep"),
    "one table under many names": ({f"{i}": dict.fromkeys(map(str, range(2000)), 0) for i in range(2000)}, "more than 100,000 entries"),
    "a long key": ({KEY * 10_000: torch.zeros(1)}, "a key of 660,000 characters"),
    "a large level": ({KEY.replace("s.0", "s.1000000000", 1): torch.zeros(0)}, "nothing that Loom knows"),
    "many digits": ({KEY.replace(".0.t", f".{'1' * 400}.t"): torch.zeros(0)}, "nothing that Loom knows"),
    "one number for all": ({KEY: torch.zeros(1).expand(10**6, 10**6)}, "its shapes need 4,000,000,000,000 bytes, but it has 4"),
    "a sparse tensor": ({KEY: torch.zeros(4, 4).to_sparse()}, "sparse, nested or quantized"),
    "keys that are no texts": ({7: torch.zeros(1), None: torch.zeros(1), (1, 2): torch.zeros(1)}, "there is nothing to load"),
    "an odd width": ({KEY: torch.zeros(31, 31), **{KEY.replace("down", "up").replace("modules.0", f"modules.{i}"): torch.zeros(31) for i in range(2)}}, "31 channels wide"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_bounds_come_before_loops(kind):
    file, message = HOSTILE[kind]
    began = time.process_time()
    with pytest.raises(MotionModelError, match=message) as caught:
        checkpoint.convert(file)
    assert len(str(caught.value)) < 300
    assert time.process_time() - began < 2


@pytest.mark.parametrize("shape", [(0, 32, 32), (1, 0, 32), (1, 32, 0), (1, 32, 31), (2, 32, 32), (1, 100_000, 32), (32, 32), ()])
def test_position_tables_of_odd_shapes(shape):
    config = tiny_config(Family.V3)
    public = to_layout(config, random_weights(config))
    odd = {key: torch.zeros(shape) if key.endswith(".pe") else tensor for key, tensor in public.items()}
    with pytest.raises(UnknownMotionModelFormat, match="position tables have the shapes"):
        checkpoint.convert(odd)


# --- what a file says of itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [Layout.ANIMATEDIFF, Layout.DIFFUSERS])
@pytest.mark.parametrize("family", [Family.V2, Family.V3, Family.LCM, Family.LONG], ids=lambda family: family.name)
def test_family_and_trained_frames_come_back(tmp_path, family, layout):
    """48 positions make a LongAnimateDiff of any file with a middle block that says nothing else."""
    config = replace(tiny_config(family), max_frames=64 if family is Family.LCM else 48, trained_frames=40)
    path = tmp_path / "trained.safetensors"
    checkpoint.save(path, config, random_weights(config), layout=layout)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    read, *_ = checkpoint.convert(load_file(path))
    assert read.with_metadata(metadata) == (config, ())


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"loom_trained_frames": frames}, f"trained on '{frames}' frames; expected 1 to 32. 16 are assumed, as for any AnimateDiff v3")
        for frames in ("0", "-16", "33", "9" * 30, "16.5", "many", "", "٣")
    ]
    + [({"loom_family": name}, f"says that it is '{name}', but its weights are not. It is treated as AnimateDiff v3") for name in ("v2", "hotshot", "x", "")],
)
def test_metadata_that_cannot_be_true(metadata, said):
    config = tiny_config(Family.V3)
    found, (notice,) = config.with_metadata(metadata)
    assert found == config
    assert said in notice


def test_a_file_that_says_nothing_is_what_its_weights_are(config):
    assert config.with_metadata({"prompt": "{}"}) == (config, ())


def test_two_sets_of_motion_modules(public):
    with pytest.raises(MotionModelError, match="2 sets of motion modules"):
        checkpoint.convert({**public, **{f"ema.{key}": tensor for key, tensor in public.items()}})


T = torch.zeros(4, 4)
MODULE = "down_blocks.0.motion_modules.0.temporal_transformer"
UNET = "model.diffusion_model.input_blocks.0.0.weight"
OTHER_FILES = {
    # what it is: (some of its tensors, where it belongs and what for)
    "motion LoRA": ({f"{MODULE}.transformer_blocks.0.attention_blocks.0.processor.to_q_lora.up.weight": T}, "models/animatediff_motion_lora; load it with Load Motion LoRA"),
    "domain adapter": ({"down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight": T}, "models/loras; connect it with Load Domain Adapter"),
    "kohya LoRA": ({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": T}, "models/loras; connect it with Load LoRA"),
    "PEFT LoRA": ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": T}, "models/loras; connect it with Load LoRA"),
    "LyCORIS": ({"lora_unet_down_blocks_0_attentions_0_proj_in.hada_w1_a": T}, "models/loras; connect it with Load LoRA"),
    "ControlNet": ({"control_model.input_blocks.0.0.weight": T, "control_model.zero_convs.0.0.weight": T}, "models/controlnet; load it with Load ControlNet Model"),
    "diffusers ControlNet": ({"conv_in.weight": T, "down_blocks.0.resnets.0.conv1.weight": T, "controlnet_down_blocks.0.weight": T}, "models/controlnet; load"),
    "T2I-Adapter": ({"body.0.block1.weight": T, "conv_in.weight": torch.zeros(320, 192, 3, 3)}, "models/controlnet; load it with Load ControlNet Model"),
    "SparseCtrl": ({"controlnet_down_blocks.0.weight": T, f"{MODULE}.proj_in.weight": T}, "a SparseCtrl for scribbles, which belongs in models/controlnet; load it with Load SparseCtrl"),
    "checkpoint": ({UNET: T, "first_stage_model.decoder.conv_in.weight": T}, "models/checkpoints; load it with Load Checkpoint"),
    "UNet alone": ({UNET: T}, "models/diffusion_models; load it with Load Diffusion Model"),
    "diffusers UNet": ({"conv_in.weight": T, "down_blocks.0.resnets.0.conv1.weight": T}, "models/diffusion_models; load"),
    "diffusion model": ({"double_blocks.0.img_attn.qkv.weight": T}, "models/diffusion_models; load it with Load Diffusion Model"),
    "VAE": ({"encoder.conv_in.weight": T, "decoder.conv_in.weight": T}, "models/vae; load it with Load VAE"),
    "SD's VAE": ({"first_stage_model.encoder.down.0.block.0.conv1.weight": T}, "models/vae; load it with Load VAE"),
    "CLIP": ({"text_model.encoder.layers.0.mlp.fc1.weight": T}, "models/text_encoders; load it with Load CLIP"),
    "T5": ({"shared.weight": T, "encoder.block.0.layer.0.SelfAttention.q.weight": T, "decoder.block.0.layer.0.SelfAttention.q.weight": T}, "models/text_encoders; load"),
    "CLIP vision": ({"vision_model.encoder.layers.0.mlp.fc1.weight": T}, "models/clip_vision; load it with Load CLIP Vision"),
    "IP-Adapter": ({"image_proj": {"proj.weight": T}, "ip_adapter": {"1.to_k_ip.weight": T}}, "models/ipadapter."),
    "upscaler": ({"params_ema": {"conv_first.weight": T, "body.0.rdb1.conv1.weight": T}}, "models/upscale_models; load it with Load Upscale Model"),
    "textual inversion": ({"emb_params": T}, "models/embeddings; write embedding:name into a prompt"),
    "A1111's textual inversion": ({"string_to_token": {"*": 265}, "string_to_param": {"*": T}, "step": 500}, "models/embeddings; write"),
    "CameraCtrl as released": ({"epoch": 1, "pose_encoder_state_dict": {"unshuffle.weight": T}, "attention_processor_state_dict": {f"{MODULE}.transformer_blocks.0.attention_blocks.0.processor.qkv_merge.weight": T}}, "models/animatediff_models; load it with Load CameraCtrl"),
    "MotionCtrl's omcm": ({"module.conv_in.weight": torch.zeros(320, 128, 3, 3), "module.body.0.block1.weight": T}, "not supported yet"),
    "unknown": ({"something.else": T}, "nothing that Loom knows; its first key is 'something.else'"),
    "nothing": ({"epoch": 3}, "it is a file without tensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_named_in_a_sentence_for_what_they_are(kind):
    tensors, place = OTHER_FILES[kind]
    with pytest.raises(UnknownMotionModelFormat, match="^not a motion model: it is ") as error:
        checkpoint.convert(tensors)
    sentence = str(error.value).removesuffix(" Use one from the table in the README.")
    assert place in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence


UNSUPPORTED = {
    "MotionCtrl": lambda public: {**public, f"{MODULE}.transformer_blocks.0.cc_projection.weight": T},
    "FancyVideo": lambda public: {**public, "fps_embedding.linear.weight": T},
}


@pytest.mark.parametrize("family", UNSUPPORTED)
def test_families_not_supported_yet_are_refused_by_name(family, public):
    with pytest.raises(UnknownMotionModelFormat, match=f"{family}.* motion model: not supported yet"):
        checkpoint.convert(UNSUPPORTED[family](public))


def test_camera_controls_layout_is_recognised_to_the_last_key():
    shapes = read_layout("CameraCtrl.txt")
    config, weights = split_camera_control(on_meta(shapes))
    assert config == CameraControlConfig()
    network = CameraControl(config, operations=torch.nn, attention=sdpa, device="meta")
    assert shapes_of(weights) == shapes_of(network.state_dict())
    with pytest.raises(UnknownMotionModelFormat, match="it is a CameraCtrl, which belongs in .*; load it with Load CameraCtrl"):
        checkpoint.convert(on_meta(shapes))


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: layout.name)
def test_every_layout_comes_back(layout, config):
    weights = random_weights(config)
    found, back, _ = checkpoint.convert(to_layout(config, weights, layout), f"animate{config.family.name}.safetensors")
    assert found == config
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@pytest.mark.parametrize("family", [Family.V2, Family.V3], ids=lambda family: family.name)
def test_the_diffusers_layout_is_diffusers_own(family):
    config = tiny_config(family)
    theirs = MotionAdapter(
        block_out_channels=config.block_channels, use_motion_mid_block=config.has_mid_block, motion_max_seq_length=32
    )
    stored = to_layout(config, random_weights(config), Layout.DIFFUSERS)
    assert shapes_of(stored) == shapes_of(theirs.state_dict())
    theirs.load_state_dict(stored, strict=True)
    found, _, _ = checkpoint.convert(theirs.state_dict())
    assert found == config


def test_only_its_name_tells_animatelcm_from_v2_in_the_diffusers_layout():
    config = tiny_config(Family.V2)
    stored = to_layout(config, random_weights(config), Layout.DIFFUSERS)
    assert checkpoint.convert(stored, "AnimateLCM_diffusers.safetensors")[0].family is Family.LCM
    assert checkpoint.convert(stored, "diffusion_pytorch_model.safetensors")[0].family is Family.V2


def test_without_positions_only_animatelcm_is_whole():
    config = tiny_config(Family.V3)
    with pytest.raises(UnknownMotionModelFormat, match="no position tables"):
        checkpoint.convert(random_weights(config))


def test_two_layouts_in_one_file():
    config = tiny_config(Family.V3)
    weights = random_weights(config)
    with pytest.raises(MotionModelError, match="2 sets of motion modules, under 'AnimateDiff', 'Diffusers MotionAdapter'"):
        checkpoint.convert({**to_layout(config, weights), **to_layout(config, weights, Layout.DIFFUSERS)})


# --- the file itself -------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100), "b": torch.zeros(3)}, path)
    return path


def test_whole_files_pass(saved, tmp_path):
    check_weights_file(saved)
    torch.save({"a": torch.zeros(3)}, tmp_path / "model.ckpt")
    check_weights_file(tmp_path / "model.ckpt")
    torch.save({"a": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_weights_file(tmp_path / "old.pth")


@pytest.mark.parametrize("keep", [400, 60, 12, 9])
def test_truncated_safetensors(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(UnreadableFile, match=r"'model.safetensors' is cut short: it has \d+ bytes"):
        check_weights_file(saved)


def test_truncated_zip(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UnreadableFile, match=r"'model.ckpt' is cut short: its 20,000 bytes"):
        check_weights_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>login</html>", "is a web page"),
        (b"<HTML><body>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x00{" + b"x" * 100, "it is damaged"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00{abc}", "damaged safetensors header"),
        (b'\x05\x00\x00\x00\x00\x00\x00\x00{"a"}', "damaged safetensors header"),
        (b"PK\x03\x04 a renamed checkpoint", "is not a safetensors file"),
        (b"\x00" * 64, "is not a safetensors file"),
    ],
)
def test_damaged_and_wrong_files(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=message):
        check_weights_file(path)


def test_safetensors_under_another_name(saved):
    renamed = saved.rename(saved.with_suffix(".ckpt"))
    with pytest.raises(UnreadableFile, match=r"Rename it so that it ends in .safetensors"):
        check_weights_file(renamed)


def test_missing_file(tmp_path):
    with pytest.raises(UnreadableFile, match="'none.safetensors' does not exist"):
        check_weights_file(tmp_path / "none.safetensors")
