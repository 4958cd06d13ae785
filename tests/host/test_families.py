"""Every family animates a UNet of its base: SD1.5-shaped or SDXL-shaped, a tenth as wide."""

from __future__ import annotations

import comfy.supported_models
import pytest
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from pack.motion_models.config import Family
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput
from pack.motion_models.layouts import Layout, to_layout
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.motion.unet import followed_layers, modules_by_layer
from safetensors.torch import save_file

from .world import (
    POOLED,
    SDXL_FAMILIES,
    animate,
    cond,
    make_base_for,
    make_model,
    make_sdxl,
    motion_config,
    motion_file,
    motion_weights,
    same_state,
    sample,
    state_of,
)

FAMILIES = pytest.mark.parametrize("family", [family for family in Family if not family.takes_image], ids=lambda family: family.name)


@FAMILIES
def test_a_family_animates_its_base(family, tmp_path):
    model = make_base_for(family)
    before, still = state_of(model), sample(model)
    motion = load_motion_model(motion_file(tmp_path, family))
    assert motion.model.config.family is family
    animated = animate(model, motion)
    moving = sample(animated)
    assert moving.isfinite().all()
    assert (moving - still).abs().max() > 0.01
    assert torch.equal(sample(model), still)
    assert same_state(model, before)


def test_prompts_without_what_sdxl_needs_are_refused(tmp_path):
    animated = animate(make_sdxl(), load_motion_model(motion_file(tmp_path, Family.SDXL)))
    fits = cond(pooled_output=torch.zeros(1, POOLED))
    assert sample(animated, steps=1, positive=fits, negative=fits).isfinite().all()
    for wrong in (cond(), cond(pooled_output=torch.zeros(1, 8)), [[cond()[0][0], {}]]):
        with pytest.raises(InvalidInput, match="^A prompt's pooled embeddings are [08] wide, but SDXL expects 24. Encode it"):
            sample(animated, steps=1, positive=fits, negative=wrong)


@pytest.mark.parametrize("layout", [Layout.HOTSHOT, Layout.DIFFUSERS], ids=lambda layout: layout.name)
@FAMILIES
def test_the_layout_of_the_file_makes_no_difference(family, layout, tmp_path):
    config = motion_config(family)
    path = tmp_path / f"{family.name}_{layout.name}.safetensors"
    save_file(to_layout(config, motion_weights(config), layout), path)
    model = make_base_for(family)
    outs = [sample(animate(model, load_motion_model(p)), steps=1) for p in (str(path), motion_file(tmp_path, family))]
    assert torch.equal(*outs)


@FAMILIES
def test_the_other_base_is_refused(family, tmp_path):
    other = Family.V3 if family in SDXL_FAMILIES else Family.SDXL
    motion = load_motion_model(motion_file(tmp_path, family))
    bases = {True: "SDXL", False: "SD1.5"}
    wanted, found = bases[family in SDXL_FAMILIES], bases[family not in SDXL_FAMILIES]
    with pytest.raises(IncompatibleMotionModel, match=f"is for {wanted}, but the connected model is {found}"):
        animate(make_base_for(other), motion)


def test_followed_layers_of_sdxl(tmp_path):
    """By the numbers of ComfyUI's blocks, as all packs and the official conversion have them."""
    unet = make_base_for(Family.SDXL).get_model_object("diffusion_model")
    motion = load_motion_model(motion_file(tmp_path, Family.SDXL)).model
    blocks = [unet.input_blocks[i] for i in (1, 2, 4, 5, 7, 8)] + [unet.output_blocks[i] for i in range(9)]
    expected = []
    for block in blocks:
        transformers = [layer for layer in block if isinstance(layer, SpatialTransformer)]
        expected.append(transformers[-1] if transformers else next(layer for layer in block if isinstance(layer, ResBlock)))
    modules = modules_by_layer(unet, motion)
    assert list(modules) == expected
    assert list(modules.values()) == [*motion.modules_by_part["down"], *motion.modules_by_part["up"]]
    assert len(followed_layers(unet)["mid"]) == 1  # which SDXL motion models leave alone


def test_hotshot_norms_of_the_base_see_all_frames_and_sdxl_ones_do_not(tmp_path):
    """A much brighter last frame changes the first one of a clip only where norms see all frames."""
    changed = {}
    for family in SDXL_FAMILIES:
        model = make_base_for(family)
        config = motion_config(family)
        weights = motion_weights(config)
        for name in weights:  # so that attention carries nothing from frame to frame
            if "proj_out" in name:
                weights[name].zero_()
        path = tmp_path / f"{family.name}.safetensors"
        save_file(to_layout(config, weights), path)
        animated = animate(model, load_motion_model(str(path)))
        latent = torch.zeros(8, 4, 8, 8)
        brighter = latent.clone()
        brighter[-1] = 40
        outs = [sample(animated, steps=1, latent=value, denoise=0.5) for value in (latent, brighter)]
        changed[family] = (outs[0][0] - outs[1][0]).abs().max().item()
    assert changed[Family.SDXL] == 0
    assert changed[Family.HOTSHOT] > 1e-3


def test_an_sdxl_motion_model_on_the_refiner(tmp_path):
    model = make_model(kind=comfy.supported_models.SDXLRefiner)
    with pytest.raises(IncompatibleMotionModel, match="the connected model is SDXL Refiner"):
        animate(model, load_motion_model(motion_file(tmp_path, Family.SDXL)))
