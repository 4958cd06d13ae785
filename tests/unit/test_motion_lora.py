"""Motion LoRAs of every layout fit a motion model's weights; everything else is refused or reported by name."""

from __future__ import annotations

import json
import re

import pytest
import torch
from diffusers import MotionAdapter
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.errors import IncompatibleMotionModel, MotionModelError, UnknownMotionModelFormat
from pack.motion_models.layouts import to_layout
from pack.motion_models.motion_lora import convert_motion_lora

from .conftest import random_weights, tiny_config
from .test_checkpoint import FULL_SIZE, OTHER_FILES, on_meta, read_layout

RANK = 4
V2 = tiny_config(Family.V2)
Pair = tuple[torch.Tensor, torch.Tensor]


def pairs_for(config: MotionModelConfig, seed: int = 0) -> dict[str, Pair]:
    """Down and up for each linear layer inside the transformer blocks, by the layer's name in AnimateDiff's layout."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name.removesuffix(".weight"): tensor.shape for name, tensor in random_weights(config).items()}
    return {
        name: (torch.randn(RANK, shape[1], generator=generator), torch.randn(shape[0], RANK, generator=generator))
        for name, shape in shapes.items()
        if ".transformer_blocks." in name and len(shape) == 2
    }


def attention_only(pairs: dict[str, Pair]) -> dict[str, Pair]:
    return {name: pair for name, pair in pairs.items() if ".attention_blocks." in name}


# --- layouts, written out as their programs write them ----------------------------------------------------------------


def official(pairs):
    """AnimateDiff's: attention processors, so no feed-forward."""
    tensors = {}
    for name, (down, up) in attention_only(pairs).items():
        parent, layer = re.fullmatch(r"(.+)\.(to_q|to_k|to_v|to_out)(?:\.0)?", name).groups()
        tensors[f"{parent}.processor.{layer}_lora.down.weight"] = down
        tensors[f"{parent}.processor.{layer}_lora.up.weight"] = up
    return tensors


def motion_director(pairs):
    """ADMotionDirector's: a processor beside each linear layer, named after its child."""
    tensors = {}
    for name, (down, up) in pairs.items():
        parent, layer = name.rsplit(".", 1)
        tensors[f"{parent}.processor.{layer}_lora.down.weight"] = down
        tensors[f"{parent}.processor.{layer}_lora.up.weight"] = up
    return tensors


def to_diffusers(name: str) -> str:
    return (
        name.replace(".temporal_transformer", "").replace("attention_blocks.0", "attn1").replace("attention_blocks.1", "attn2")
    )


def peft(pairs):
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"unet.{to_diffusers(name)}.lora_A.weight"], tensors[f"unet.{to_diffusers(name)}.lora_B.weight"] = down, up
    return tensors


def peft_with_a_named_adapter(pairs):
    return {f"base_model.model.{key.replace('.weight', '.default.weight')}": tensor for key, tensor in peft(pairs).items()}


def diffusers_processors(pairs):
    return {f"unet.{to_diffusers(key)}": tensor for key, tensor in official(pairs).items()}


def attention_processors(pairs):
    """Diffusers', before PEFT's."""
    tensors = {}
    for name, (down, up) in attention_only(pairs).items():
        path = f"unet.{to_diffusers(name)}.lora_linear_layer"
        tensors[f"{path}.down.weight"], tensors[f"{path}.up.weight"] = down, up
    return tensors


def kohya(pairs, prefix="lora_unet_", underscored=True):
    tensors = {}
    for name, (down, up) in pairs.items():
        path = prefix + (name.replace(".", "_") if underscored else name)
        tensors |= {f"{path}.lora_down.weight": down, f"{path}.lora_up.weight": up, f"{path}.alpha": torch.tensor(2.0)}
    return tensors


LAYOUTS = {
    "official": official,
    "DDP": lambda pairs: {f"module.{key}": tensor for key, tensor in official(pairs).items()},
    "MotionDirector": motion_director,
    "PEFT": peft,
    "PEFT, named": peft_with_a_named_adapter,
    "diffusers": diffusers_processors,
    "lora_linear_layer": attention_processors,
    "kohya": kohya,
    "A1111": lambda pairs: kohya(pairs, prefix=""),
    "kohya, dotted": lambda pairs: kohya(pairs, underscored=False),
    "dotted": lambda pairs: kohya(pairs, prefix="", underscored=False),
}
ATTENTION_ONLY = {"official", "DDP", "diffusers", "lora_linear_layer"}
WITH_ALPHA = {"kohya", "A1111", "kohya, dotted", "dotted"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same(layout, config):
    pairs = pairs_for(config)
    lora = convert_motion_lora(LAYOUTS[layout](pairs), config)
    expected = attention_only(pairs) if layout in ATTENTION_ONLY else pairs
    assert lora.notices == ()
    assert lora.layers.keys() == {f"{name}.weight" for name in expected}
    for name, (down, up) in expected.items():
        layer = lora.layers[f"{name}.weight"]
        assert layer.down is down
        assert layer.up is up
        assert layer.alpha == (2.0 if layout in WITH_ALPHA else None)
        assert layer.scale == (2.0 / RANK if layout in WITH_ALPHA else 1.0)


def test_the_released_loras_are_read_to_the_last_key():
    tensors = {key: torch.zeros(shape) for key, shape in read_layout("v2_lora_PanLeft.txt").items()}
    lora = convert_motion_lora({"state_dict": tensors, "animatediff_config": {"motion_module_type": "Vanilla"}}, FULL_SIZE["mm_sd_v15_v2.txt"])
    assert lora.notices == ()
    assert 2 * len(lora.layers) == len(tensors) == 336
    assert sum(layer.down.numel() + layer.up.numel() for layer in lora.layers.values()) == 19_333_120
    attention = {key for key in read_layout("mm_sd_v15_v2.txt") if re.search(r"\.to_(q|k|v|out\.0)\.weight$", key)}
    assert lora.layers.keys() == attention


def test_diffusers_names_are_those_of_its_motion_adapter():
    adapter = MotionAdapter(
        block_out_channels=V2.block_channels, motion_layers_per_block=2, motion_num_attention_heads=8, motion_norm_num_groups=32,
        use_motion_mid_block=True,
    )
    shapes = {name: module.weight.shape for name, module in adapter.named_modules() if isinstance(module, torch.nn.Linear)}
    tensors = {}
    for name, (out, inside) in shapes.items():
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = torch.zeros(RANK, inside), torch.zeros(out, RANK)
    lora = convert_motion_lora(tensors, V2)
    assert lora.notices == ()
    assert len(lora.layers) == len(shapes)


# --- what is left out is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_middle_block_that_is_not_there_is_told_once(layout):
    lora = convert_motion_lora(LAYOUTS[layout](pairs_for(V2)), tiny_config(Family.V3))
    (notice,) = lora.notices
    count = sum("mid_block" in key for key in LAYOUTS[layout](pairs_for(V2)))
    assert f"a mid block (v2), which this AnimateDiff v3 one does not have: {count} of its keys are left out" in notice
    assert lora.layers
    assert not any("mid_block" in name for name in lora.layers)


def test_keys_for_the_checkpoint_are_told():
    spatial = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
    tensors = official(pairs_for(V2)) | {f"{spatial}.down.weight": torch.zeros(4, 32), f"{spatial}.up.weight": torch.zeros(32, 4)}
    lora = convert_motion_lora(tensors, V2)
    (notice,) = lora.notices
    assert f"2 of its keys are for the checkpoint, not for the motion model, and are left out: '{spatial}.down.weight'" in notice
    assert "Load LoRA" in notice
    assert 2 * len(lora.layers) == len(tensors) - 2


def test_motion_keys_that_fit_nothing_are_told():
    key = "down_blocks.0.motion_modules.7.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora.up.weight"
    lora = convert_motion_lora(official(pairs_for(V2)) | {key: torch.zeros(32, 4)}, V2)
    assert lora.notices == (f"1 of its keys match no weight of this motion model and are left out: '{key}'.",)


# --- what is no motion LoRA, or not for this motion model --------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(OTHER_FILES) - {"motion LoRA", "unknown"}))
def test_other_files_are_named_for_what_they_are(kind):
    tensors, place = OTHER_FILES[kind]
    with pytest.raises(UnknownMotionModelFormat, match="not a motion LoRA: it ") as error:
        convert_motion_lora(tensors, V2)
    assert place in str(error.value)


def test_unknown_files_are_named_by_their_first_key():
    with pytest.raises(UnknownMotionModelFormat, match=r"it is nothing that Loom knows; its first key is 'a\.b'"):
        convert_motion_lora({"a.b": torch.zeros(3)}, V2)


def test_a_motion_model_is_no_motion_lora(config):
    tensors = to_layout(config, random_weights(config))
    title = re.escape(config.family.title)
    with pytest.raises(UnknownMotionModelFormat, match=f"it is an? {title} motion model, which belongs in models/animatediff_models; load it with Load Motion Model"):
        convert_motion_lora(tensors, V2)


def test_a_domain_adapter_is_no_motion_lora():
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"
    with pytest.raises(UnknownMotionModelFormat, match=r"it is a domain adapter, which belongs in models/loras; connect it with Load Domain Adapter"):
        convert_motion_lora({key: torch.zeros(4, 320)}, V2)


@pytest.mark.parametrize(("made_for", "used_with"), [("mm_sdxl_v10_beta.txt", "v3_sd15_mm.txt"), ("v3_sd15_mm.txt", "mm_sdxl_v10_beta.txt")])
def test_a_lora_for_the_other_base(made_for, used_with):
    weights = {key: shape for key, shape in read_layout(made_for).items() if re.search(r"\.to_[qkv]\.weight$", key)}
    tensors = {}
    for key, (out, inside) in weights.items():
        path = key.removesuffix(".weight")
        tensors |= on_meta({f"{path}.lora_down.weight": (4, inside), f"{path}.lora_up.weight": (out, 4)})
    tensors = {key: torch.zeros(tensor.shape) for key, tensor in tensors.items()}
    with pytest.raises(IncompatibleMotionModel, match=r"up_blocks\.1.*have shapes .*made for another base model"):
        convert_motion_lora(tensors, FULL_SIZE[used_with])


def test_a_lora_that_fits_nothing():
    tensors = {key.replace("blocks.0", "blocks.9"): tensor for key, tensor in official(pairs_for(V2)).items() if "down_blocks.0" in key}
    with pytest.raises(IncompatibleMotionModel, match=r"none of its \d+ keys is for a weight of this AnimateDiff v2 motion model; .*for SD1.5"):
        convert_motion_lora(tensors, V2)


TO_Q = "lora_unet_down_blocks_0_motion_modules_0_temporal_transformer_transformer_blocks_0_attention_blocks_0_to_q"


@pytest.mark.parametrize(
    ("kind", "part"),
    [("an OFT", "oft_blocks"), ("a LoRA of convolutions in Tucker form", "lora_mid.weight"), ("a GLoRA", "a1.weight"), ("a difference of whole weights", "diff")],
)
def test_kinds_that_are_not_supported_are_named(kind, part):
    tensors = {f"{TO_Q}.{part}": torch.zeros(4, 32), f"{TO_Q}.lora_up.bias": torch.zeros(4)}
    with pytest.raises(UnknownMotionModelFormat, match=f"it is {kind}, which is not supported: '{TO_Q}.{part}'. Use one that was trained as LoRA, LoHa"):
        convert_motion_lora(tensors, V2)


@pytest.mark.parametrize("part", ["a", "b"])
def test_half_a_loha(part):
    tensors = {f"{TO_Q}.hada_w{i}_{side}": torch.zeros(4, 32) if side == "b" else torch.zeros(32, 4) for i in "12" for side in "ab"}
    del tensors[f"{TO_Q}.hada_w2_{part}"]
    with pytest.raises(MotionModelError, match=f"has no matching hada_w2_{part} matrix"):
        convert_motion_lora(tensors, V2)


def test_matrices_stored_as_convolutions():
    pairs = pairs_for(V2)
    flat, convolutions = kohya(pairs), {key: tensor[..., None, None] if tensor.ndim == 2 else tensor for key, tensor in kohya(pairs).items()}
    lora, expected = convert_motion_lora(convolutions, V2), convert_motion_lora(flat, V2)
    assert lora.layers.keys() == expected.layers.keys()
    assert all(torch.equal(lora.layers[name].down, layer.down) for name, layer in expected.layers.items())


def test_alpha_in_metadata_as_diffusers_writes_it():
    settings = json.dumps({"unet.r": RANK, "unet.lora_alpha": 8, "text_encoder.lora_alpha": 2})
    lora = convert_motion_lora(peft(pairs_for(V2)), V2, metadata={"lora_adapter_metadata": settings})
    assert {layer.scale for layer in lora.layers.values()} == {8 / RANK}
    for nonsense in ("", "[]", "{", json.dumps({"unet.lora_alpha": "x"}), "[" * 100_000, '{"lora_alpha": NaN}', '{"lora_alpha": 1%s}' % ("0" * 400)):
        lora = convert_motion_lora(peft(pairs_for(V2)), V2, metadata={"lora_adapter_metadata": nonsense})
        assert {layer.scale for layer in lora.layers.values()} == {1.0}
    for name, value in {"use_rslora": True, "alpha_pattern": {"to_q": 2}}.items():
        settings = json.dumps({"unet.lora_alpha": 8, f"unet.{name}": value})
        with pytest.raises(UnknownMotionModelFormat, match=f"its metadata asks for {name}, another scale for each layer"):
            convert_motion_lora(peft(pairs_for(V2)), V2, metadata={"lora_adapter_metadata": settings})


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64, torch.complex64])
def test_numbers_that_are_no_weights(dtype):
    tensors = official(pairs_for(V2))
    tensors[f"{FIRST}.processor.to_q_lora.up.weight"] = tensors[f"{FIRST}.processor.to_q_lora.up.weight"].to(dtype)
    with pytest.raises(MotionModelError, match=rf"to_q_lora.up.weight': stored as {str(dtype)[6:]}, so quantized or damaged"):
        convert_motion_lora(tensors, V2)


def test_a_lora_of_rank_0():
    tensors = {key: tensor[:0] if ".down." in key else tensor[:, :0] for key, tensor in official(pairs_for(V2)).items()}
    with pytest.raises(MotionModelError, match="have no values"):
        convert_motion_lora(tensors, V2)


# --- damage ----------------------------------------------------------------------------------------------------------

FIRST = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"


@pytest.mark.parametrize(("gone", "word"), [("down", "down"), ("up", "up")])
def test_half_a_pair(gone, word):
    tensors = official(pairs_for(V2))
    del tensors[f"{FIRST}.processor.to_q_lora.{gone}.weight"]
    with pytest.raises(MotionModelError, match=f"has no matching {word} matrix. The file is incomplete"):
        convert_motion_lora(tensors, V2)


def test_an_alpha_alone():
    tensors = kohya(pairs_for(V2), underscored=False)
    for half in ("down", "up"):
        del tensors[f"lora_unet_{FIRST}.to_q.lora_{half}.weight"]
    with pytest.raises(MotionModelError, match=r"to_q\.alpha' has no matching"):
        convert_motion_lora(tensors, V2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["lora_down.weight", "lora_up.weight", "alpha"])
def test_values_that_are_not_finite(part, value):
    tensors = kohya(pairs_for(V2), underscored=False)
    tensors[f"lora_unet_{FIRST}.to_q.{part}"].fill_(value)
    with pytest.raises(MotionModelError, match=rf"hold NaN or infinity: '.*to_q\.{part}'"):
        convert_motion_lora(tensors, V2)


def test_matrices_of_different_ranks():
    tensors = official(pairs_for(V2))
    tensors[f"{FIRST}.processor.to_q_lora.up.weight"] = torch.zeros(32, 8)
    with pytest.raises(IncompatibleMotionModel, match=r"have shapes \(32, 8\) and \(4, 32\), but the weight that they are for is \(32, 32\)"):
        convert_motion_lora(tensors, V2)


def test_two_loras_in_a_file():
    pairs = pairs_for(V2)
    with pytest.raises(MotionModelError, match="are for the same weight. Save just one LoRA to a file"):
        convert_motion_lora(official(pairs) | kohya(pairs), V2)


def test_an_alpha_of_several_values():
    tensors = kohya(pairs_for(V2), underscored=False)
    tensors[f"lora_unet_{FIRST}.to_q.alpha"] = torch.zeros(3)
    with pytest.raises(MotionModelError, match="has 3 values of float32, expected one number"):
        convert_motion_lora(tensors, V2)
