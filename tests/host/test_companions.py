"""A network that a motion model's file brings along, from the file through ComfyUI's care to the next file."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from pack.motion_models import companions
from pack.motion_models.companions import COMPANIONS, Companion
from pack.motion_models.config import Family
from pack.motion_models.errors import MotionModelError
from pack.motion_models.inspect_file import inspect_file
from pack.nodes.host.files import saving
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.motion.companions import companions_of
from safetensors.torch import load_file, save_file

from .test_saving import output, save  # noqa: F401 -- a fixture
from .world import SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample


class Toy(torch.nn.Module):
    """As wide as its weights are."""

    def __init__(self, weights, *, operations, dtype=None, device=None):
        super().__init__()
        out, inside = weights["layer.weight"].shape
        self.layer = operations.Linear(inside, out, dtype=dtype, device=device)


TOY = Companion("toy", "a toy", Toy, "toy_encoder.")


@pytest.fixture
def path(tmp_path, monkeypatch) -> str:
    """Of a motion model's file with a toy in it."""
    for module in (companions, saving):
        monkeypatch.setattr(module, "COMPANIONS", (*COMPANIONS, TOY))
    path = motion_file(tmp_path, Family.V3, **SMALL_MOTION)
    toy = {"toy_encoder.layer.weight": torch.randn(3, 5), "toy_encoder.layer.bias": torch.randn(3)}
    save_file(load_file(path) | toy, path)
    return path


def is_toy(patcher, path) -> bool:
    (toy,) = companions_of(patcher, TOY)
    weights, stored = toy.model.state_dict(), load_file(path)
    return len(weights) == 2 and all(torch.equal(tensor, stored[f"toy_encoder.{name}"]) for name, tensor in weights.items())


@pytest.mark.parametrize("layout", ["AnimateDiff", "Diffusers"])
def test_it_goes_from_file_to_file(path, output, layout):  # noqa: F811
    motion = load_motion_model(path)
    assert is_toy(motion, path)
    saved = save(motion, output, layout)
    assert is_toy(load_motion_model(saved), path)
    assert {"toy_encoder.layer.weight", "toy_encoder.layer.bias"} < load_file(saved).keys()


def test_it_stays_with_its_motion_model(path, tmp_path):
    """Through clones, merging, a second GPU's copy, and into memory with a MODEL that runs."""
    motion = load_motion_model(path)
    other = load_motion_model(motion_file(tmp_path, Family.V3, seed=1, **SMALL_MOTION))
    for patcher in (motion.clone(), merge_motion_models(motion, other, 0.5), motion.clone(force_deepcopy=True, disable_dynamic=True)):
        assert is_toy(patcher, path)
    animated = animate(make_model(**SMALL_UNET), motion)
    sample(animated, steps=1)
    loaded = {id(each.model.model) for each in comfy.model_management.current_loaded_models}
    assert id(companions_of(motion, TOY)[0].model) in loaded


def test_the_inspector_names_it(path):
    assert "It also contains a toy." in inspect_file(load_file(path), "motion.safetensors").text


@pytest.mark.parametrize(
    "change",
    [
        lambda toy: {"toy_encoder.layer.bias": torch.zeros(4)},
        lambda toy: {"toy_encoder.other": torch.zeros(4)},
        lambda toy: {"toy_encoder.layer.bias": torch.full((3,), float("nan"))},
    ],
    ids=["shape", "spare", "nan"],
)
def test_a_damaged_one_is_refused(path, change):
    stored = load_file(path)
    save_file(stored | change(stored), path)
    with pytest.raises(MotionModelError, match=r"it contains a toy, of which|NaN or infinity: 'layer.bias'"):
        load_motion_model(path)
