"""What DynamicVRAM does to a model's weights changes nothing: sampled, trained and saved numbers are the plain patchers'."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from comfy.weight_adapter.lora import LoRAAdapter
from pack.motion_models.companions.low_rank import LowRank
from pack.motion_models.config import Family
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import add_lora
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.training.training_run import make_trainer

from . import dynamic_vram, world
from .training_world import settings, write_clips

BASE = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
MOTION = "down_blocks.1.motion_modules.0.temporal_transformer.proj_in.weight"


def made(folder):
    """A base with a LoRA, and a motion model that is merged from two and has a LoRA."""
    generator = torch.Generator().manual_seed(6)
    model = world.make_model(**world.SMALL_UNET).clone()
    up, down = torch.randn(32, 2, generator=generator), torch.randn(2, world.CONTEXT, generator=generator)
    assert model.add_patches({BASE: LoRAAdapter({BASE}, (up, down, None, None, None, None))}, 0.3)
    pair = [load_motion_model(world.motion_file(folder, Family.V1, seed, **world.SMALL_MOTION)) for seed in (1, 2)]
    motion = merge_motion_models(*pair, 0.25)
    layer = LowRank(torch.randn(4, 64, generator=generator), torch.randn(64, 4, generator=generator))
    add_lora(motion, {MOTION: layer}, 0.5)
    return model, motion


def with_both(function):
    """The function's results with plain patchers and with those of DynamicVRAM."""
    results = []
    for switch_on in (lambda patch: None, dynamic_vram.switch_on):
        with pytest.MonkeyPatch.context() as patch:
            switch_on(patch)
            results.append(function())
            comfy.model_management.unload_all_models()
    return results


def test_frames_are_the_same_though_memory_is_taken_back_in_mid_run(tmp_path):
    taken = []

    def frames():
        model, motion = made(tmp_path)
        animated = world.animate(model, motion)

        def take_back(apply, inputs):
            for entry in comfy.model_management.current_loaded_models:
                if entry.model.is_dynamic():
                    taken.append(entry.model.model.dynamic_vbars[dynamic_vram.CARD].free_memory(1e32))
            return apply(inputs["input"], inputs["timestep"], **inputs["c"])

        animated.set_model_unet_function_wrapper(take_back)
        return world.sample(animated, frames=4)

    plain, dynamic = with_both(frames)
    assert torch.equal(plain, dynamic)
    assert len(taken) >= 4
    assert any(taken)


def test_a_file_is_the_same_before_and_after_a_run(tmp_path):
    def files():
        model, motion = made(tmp_path)
        before = world.saved_weights(motion)
        world.sample(world.animate(model, motion), steps=1, frames=2)
        return before, world.saved_weights(motion)

    first, *others = [weights for pair in with_both(files) for weights in pair]
    for weights in others:
        assert all(torch.equal(weights[name], first[name]) for name in first)


def test_training_is_the_same(tmp_path):
    def trained():
        model, _ = made(tmp_path)
        with torch.inference_mode(False):
            trainer = make_trainer(model, write_clips(tmp_path / "clips"), Family.V3, settings(steps=2))
            list(trainer.run())
            return trainer.weights()

    plain, dynamic = with_both(trained)
    assert all(torch.equal(plain[name], dynamic[name]) for name in plain)
