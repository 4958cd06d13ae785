"""Motion LoRAs whose strength varies: not merged into the weights, in ComfyUI's care."""

from __future__ import annotations

import comfy.model_management
import comfy_extras.nodes_curve  # noqa: F401 -- loads comfy_api.latest, without which comfy_api.input can't be imported
import pytest
import torch
from comfy_api.input import CurveInput
from pack.motion_models.errors import IncompatibleMotionModel, InvalidInput
from pack.motion_models.training.settings import TrainingSettings
from pack.nodes.host.files import saving as saving
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import load_motion_lora
from pack.nodes.host.motion.lora_branches import steered_loras
from pack.nodes.host.motion.steered import Steered
from pack.nodes.host.training import training_run as training_run

from .test_motion_lora import changes, is_near, lora_file
from .world import BOTH, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, same_state, sample, state_of


@pytest.fixture(scope="module")
def model(patchers):
    with torch.inference_mode():
        return make_model(**SMALL_UNET)


@pytest.fixture
def motion(tmp_path):
    return load_motion_model(motion_file(tmp_path, **SMALL_MOTION))


@pytest.fixture
def path(tmp_path):
    return lora_file(tmp_path)


def steered(motion, path, number=1.0, values=None, steps=None):
    return load_motion_lora(motion, path, Steered.of("strength", number, values, steps))


def curve(*points: tuple[float, float]) -> CurveInput:
    return CurveInput.from_raw({"points": [list(point) for point in points], "interpolation": "linear"})


def watch(motion) -> list:
    """The strengths that the LoRA beside a motion model is run with, one a call of the UNet."""
    ((side, _),) = steered_loras(motion)
    strengths = []
    side.model.branches[0].register_forward_pre_hook(lambda branch, arguments: strengths.append(arguments[1]))
    return strengths


VARIED = {
    "a number": (0.7, 1.0, None),
    "numbers": (1.4, [0.5] * 8, None),
    "a mask": (0.7, torch.ones(5, 5), None),
    "masks": (0.7, torch.ones(8, 4, 4), None),
    "a curve over the clip": (0.7, curve((0, 1), (1, 1)), None),
    "a curve over the run": (1.4, None, curve((0, 0.5), (1, 0.5))),
    "both": (1.4, [2.0] * 8, curve((0, 0.25), (1, 0.25))),
}


@BOTH
@pytest.mark.parametrize("kind", VARIED)
def test_constant_it_is_the_merged_one(model, motion, path, kind):
    expected = sample(animate(model, load_motion_lora(motion, path, Steered(0.7))))
    beside = steered(motion, path, *VARIED[kind])
    assert not beside.patches
    assert is_near(sample(animate(model, beside)), expected)


def test_0_is_the_motion_model_without(model, motion, path):
    expected = sample(animate(model, motion))
    for values, steps in (([0.0] * 8, None), (None, curve((0, 0), (1, 0)))):
        assert torch.equal(sample(animate(model, steered(motion, path, 1.0, values, steps))), expected)


def test_each_frame_has_its_strength(model, motion, path):
    strengths = watch(beside := steered(motion, path, 2.0, [i / 8 for i in range(8)]))
    sample(animate(model, beside), steps=1, cfg=1.0)
    tokens = torch.cat(strengths)
    assert tokens.shape[1:] == (8, 1)
    assert torch.equal(tokens, torch.tensor([2.0 * i / 8 for i in range(8)])[:, None].expand_as(tokens))


def test_each_step_has_its_strength(model, motion, path):
    strengths = watch(beside := steered(motion, path, 2.0, steps=curve((0, 1), (1, 0))))
    sample(animate(model, beside), steps=3, cfg=1.0)
    assert set(strengths) == {2.0, 1.0}  # and in the last step, at 0, it is left out
    assert strengths == sorted(strengths, reverse=True)


def test_merged_and_beside_add_up(model, motion, path, tmp_path):
    other = lora_file(tmp_path, seed=3)
    expected = sample(animate(model, load_motion_lora(load_motion_lora(motion, path, Steered(0.5)), other, Steered(-0.3))))
    mixed = steered(load_motion_lora(motion, path, Steered(0.5)), other, -0.3, [1.0] * 8)
    assert is_near(sample(animate(model, mixed)), expected)
    both = steered(steered(motion, path, 0.5, [1.0] * 8), other, -0.3, [1.0] * 8)
    assert len(steered_loras(both)) == 2
    assert is_near(sample(animate(model, both)), expected)


def test_two_branches_off_one_loader(model, motion, path):
    state = state_of(motion)
    with_lora, without = animate(model, steered(motion, path, 1.0, [1.0] * 8)), animate(model, motion)
    plain, moved = sample(without, steps=1), sample(with_lora, steps=1)
    assert (plain - moved).abs().max() > 0.01
    assert torch.equal(sample(without, steps=1), plain)
    assert torch.equal(sample(with_lora, steps=1), moved)
    assert same_state(motion, state)
    assert not steered_loras(motion)


def test_it_loads_counts_and_frees_with_the_model(model, motion, path):
    beside = steered(motion, path, 1.0, [1.0] * 8)
    ((side, _),) = steered_loras(beside)
    assert side.model_size() == sum(down.nbytes + up.nbytes for down, up in changes().values())
    animated = animate(model, beside)
    before = sample(animated, steps=1)
    loaded = [entry.model.model for entry in comfy.model_management.current_loaded_models]
    assert {id(model.model), id(motion.model), id(side.model)} <= {id(network) for network in loaded}
    comfy.model_management.unload_all_models()
    assert not comfy.model_management.current_loaded_models
    side.load(side.load_device, lowvram_model_memory=side.model_size() // 3)
    assert 0 < side.loaded_size() < side.model_size()
    assert torch.equal(sample(animated, steps=1), before)


@BOTH
def test_clones_and_a_second_gpu(motion, path):
    """For a second GPU ComfyUI makes everything once more."""
    model = make_model(**SMALL_UNET)
    model.cached_patcher_init = (lambda disable_dynamic=False: make_model(**SMALL_UNET), ())
    animated = animate(model, steered(motion, path, 1.0, [i / 8 for i in range(8)]))
    assert torch.equal(sample(animated.clone(), steps=1), expected := sample(animated, steps=1))
    other = animated.deepclone_multigpu(torch.device("cpu", 1))
    assert len(networks_of(other)) == 3
    assert not networks_of(other) & networks_of(animated)
    assert torch.equal(sample(other, steps=1), expected)


def networks_of(animated) -> set[torch.nn.Module]:
    return {patcher.model for patcher in (animated, *animated.get_nested_additional_models())}


def test_a_unet_in_few_bits(motion, path):
    half = make_model(torch.bfloat16, **SMALL_UNET)
    beside = steered(motion, path, 1.0, torch.rand(8, 4, 4), curve((0, 1), (1, 0.5)))
    assert sample(animate(half, beside), steps=1).isfinite().all()


# --- bad input -------------------------------------------------------------------------------------------------------


def test_values_that_do_not_fit_the_clip(model, motion, path):
    animated = animate(model, steered(motion, path, 1.0, [1.0] * 5))
    with pytest.raises(InvalidInput, match="Load Motion LoRA's strength_values has values for 5 frames, but a clip has 8"):
        sample(animated)


def test_it_is_neither_saved_nor_trained(motion, path):
    """Both would leave it out, unseen."""
    beside = steered(motion, path, 1.0, [1.0] * 8)
    uses = (
        lambda: saving.save_motion_model(beside, "x", "fp32"),
        lambda: training_run.train_in_graph(make_model(**SMALL_UNET), None, beside, TrainingSettings(steps=1), "x"),
    )
    for use in uses:
        with pytest.raises(IncompatibleMotionModel, match=r"'v3_0.safetensors' has a motion LoRA whose strength varies .*cannot be part"):
            use()
