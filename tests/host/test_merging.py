"""Merge Motion Models: plain interpolation, by ComfyUI's patches."""

from __future__ import annotations

import json

import comfy.model_management
import pytest
import torch
from pack.motion_models.companions.low_rank import LowRank
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import add_lora, lora_patcher
from pack.nodes.host.motion.lora_branches import add_steered_lora
from pack.nodes.host.motion.steered import BlockValues, Steered
from pack.nodes.host.provenance import file_metadata, file_name
from pack.nodes.merging import MergeMotionModelsNode
from pack.nodes.steering import MotionBlocksNode

from .world import BOTH, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample, saved_weights

INPUT = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
RATIOS = {"down_blocks.0": 0.5, "down_blocks.1": 0.25, "mid_block": 1.0, "up_blocks.0": 0.0, "up_blocks.1": 0.75}
"""Of some blocks by their names in files, where a way up begins at the innermost level."""


def merge(one, other, ratio: float, blocks: BlockValues | None = None):
    return MergeMotionModelsNode.execute(one, other, ratio, blocks).args[0]


@pytest.fixture
def pair(tmp_path):
    return [load_motion_model(motion_file(tmp_path, Family.V2, seed, **SMALL_MOTION)) for seed in (1, 2)]


@pytest.fixture
def pair_weights(pair):
    return [saved_weights(patcher) for patcher in pair]


@BOTH
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0])
def test_it_is_plain_interpolation(pair, pair_weights, ratio):
    one, other = pair_weights
    merged = saved_weights(merge(*pair, ratio))
    assert merged.keys() == one.keys()
    for name, weight in merged.items():
        expected = one[name] if ratio == 1.0 else other[name] if ratio == 0.0 else ratio * one[name] + (1.0 - ratio) * other[name]
        if ratio in (0.0, 1.0):
            assert torch.equal(weight, expected), name
        else:
            torch.testing.assert_close(weight, expected, atol=1e-7, rtol=1e-6)
    for patcher, before in zip(pair, pair_weights, strict=True):
        now = saved_weights(patcher)
        assert all(torch.equal(now[name], before[name]) for name in before)


@BOTH
def test_each_block_has_its_ratio(pair, pair_weights):
    """Levels count from the outside: up_1, the outermost, is the last block of a way up in files."""
    one, other = pair_weights
    (blocks,) = MotionBlocksNode.execute(down_1=0.5, down_2=0.25, up_2=0.0, up_1=0.75).args
    merged = saved_weights(merge(*pair, 1.0, blocks))
    for block, ratio in RATIOS.items():
        names = [name for name in merged if name.startswith(f"{block}.")]
        assert names
        for name in names:
            torch.testing.assert_close(merged[name], ratio * one[name] + (1.0 - ratio) * other[name], atol=1e-7, rtol=1e-6)
    halved = saved_weights(merge(*pair, 0.5, blocks))
    torch.testing.assert_close(halved[INPUT], 0.25 * one[INPUT] + 0.75 * other[INPUT], atol=1e-7, rtol=1e-6)


@BOTH
def test_loras_on_either_come_along(pair, pair_weights):
    layers = [LowRank(torch.randn(4, 32), torch.randn(32, 4)) for _ in range(3)]
    with_loras = [patcher.clone() for patcher in pair]
    for patcher, layer in zip(with_loras, layers, strict=False):
        add_lora(patcher, {INPUT: layer}, 0.5)
    merged = merge(*with_loras, 0.25)
    add_lora(merged, {INPUT: layers[2]}, 1.0)
    first, second, after = (layer.up @ layer.down for layer in layers)
    expected = 0.25 * (pair_weights[0][INPUT] + 0.5 * first) + 0.75 * (pair_weights[1][INPUT] + 0.5 * second) + after
    torch.testing.assert_close(saved_weights(merged)[INPUT], expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_two_branches_off_one_loader_with_a_lora_on_one(pair, pair_weights):
    """The two are one network; with the LoRA in its weights already, the merger still knows the weights without."""
    layer = LowRank(torch.randn(4, 32), torch.randn(32, 4))
    with_lora = pair[0].clone()
    add_lora(with_lora, {INPUT: layer}, 1.0)
    comfy.model_management.load_models_gpu([with_lora])
    merged = saved_weights(merge(with_lora, pair[0], 0.25))
    torch.testing.assert_close(merged[INPUT], pair_weights[0][INPUT] + 0.25 * layer.up @ layer.down, atol=1e-5, rtol=1e-5)


@BOTH
def test_it_animates_and_nothing_is_copied(pair):
    model = make_model(**SMALL_UNET)
    merged = merge(*pair, 0.5)
    assert merged.model is pair[0].model
    theirs = dict(pair[1].model.named_parameters())
    assert all(patches[-1][1][0][0] is theirs[name] for name, patches in merged.patches.items())
    outs = [sample(animate(model, patcher), steps=1) for patcher in (pair[0], merged, pair[1])]
    assert (outs[1] - outs[0]).abs().max() > 0.01
    assert (outs[1] - outs[2]).abs().max() > 0.01
    assert torch.equal(sample(animate(model, merge(*pair, 1.0)), steps=1), outs[0])
    assert torch.equal(sample(animate(model, merge(*pair, 0.0)), steps=1), outs[2])


def test_it_says_what_it_is_made_of(pair):
    merged = merge(*pair, 0.25, BlockValues(down=(0.5,)))
    assert file_name(merged) == "v2_1.safetensors + v2_2.safetensors"
    recipe = json.loads(file_metadata(merged)["loom_merged"])
    assert recipe["motion_model_1"] == "v2_1.safetensors"
    assert (recipe["ratio"], recipe["ratio_blocks"]["down"]) == (0.25, [0.5])
    assert file_name(pair[0]) == "v2_1.safetensors"


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (Family.V1, Family.V3, "whether the UNet's norms see all frames"),
        (Family.V2, Family.LCM, "the number of steps to sample with"),
        (Family.SDXL, Family.HOTSHOT, "the noise schedule, whether the UNet's norms see all frames, whether the motion modules' norms"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_the_second_ones_family_loses_is_told(tmp_path, caplog, one, other, what):
    pair = [load_motion_model(motion_file(tmp_path, family, layers_per_block=1)) for family in (one, other)]
    merged = merge(*pair, 0.5)
    assert merged.model.config.family is one
    (notice,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"differ in {what}" in notice
    assert f"{one.title} '{one.name.lower()}_0.safetensors'" in notice


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [(Family.V3, "AnimateDiff v3, SD1.5, without a mid block"), (Family.SDXL, "AnimateDiff-SDXL, SDXL, without a mid block")],
    ids=["v3", "SDXL"],
)
def test_other_shapes(pair, tmp_path, other, words):
    with pytest.raises(IncompatibleMotionModel, match=rf"'v2_1.safetensors' \(AnimateDiff v2.*{words}.* have different shapes"):
        merge(pair[0], load_motion_model(motion_file(tmp_path, other)), 0.5)


def test_ratios_beyond_all(pair):
    with pytest.raises(InvalidInput, match=r"ratio 0.8 times 2 for block up_1 is 1.6; expected 0 to 1"):
        merge(*pair, 0.8, BlockValues(up=(2.0, 1.0)))
    with pytest.raises(InvalidInput, match="ratio is -0.5, but it must be"):
        merge(*pair, -0.5)
    assert not pair[0].patches


@pytest.mark.parametrize("index", [0, 1])
def test_a_lora_whose_strength_varies(pair, index):
    lora = lora_patcher({INPUT: LowRank(torch.randn(4, 32), torch.randn(32, 4))})
    pair[index] = pair[index].clone()
    add_steered_lora(pair[index], lora, Steered.of("strength", 1.0, [0.0, 1.0]))
    with pytest.raises(IncompatibleMotionModel, match=rf"'v2_{index + 1}.safetensors' has a motion LoRA whose strength varies.*Merge first"):
        merge(*pair, 0.5)
