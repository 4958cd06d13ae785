"""Train Motion Model and Save Motion Model, as ComfyUI runs them."""

from __future__ import annotations

import gc
import json
import math

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy_extras.nodes_train import LossGraphNode
from pack.motion_models.companions.low_rank import LowRank
from pack.motion_models.config import Family
from pack.motion_models.errors import InvalidInput, MotionModelError
from pack.motion_models.training.errors import InvalidSettings, OtherTrainingRun
from pack.motion_models.training.settings import TrainingSettings
from pack.motion_models.training.trainer import Trainer
from pack.nodes.host.charts.loss_plot import draw_losses, running_mean
from pack.nodes.host.files.folders import MOTION_MODEL_FILES, register_folders
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.files.lora_files import add_lora
from pack.nodes.host.files.merged_models import merge_motion_models
from pack.nodes.host.training import training_run as training_run
from pack.nodes.training import SaveMotionModelNode, TrainMotionModelNode
from safetensors import safe_open
from safetensors.torch import load_file

from . import world
from .training_world import FRAMES, write_clips


@pytest.fixture
def output(tmp_path, monkeypatch):
    """ComfyUI's output folder, for one test."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    known = {kind: (list(paths), set(endings)) for kind, (paths, endings) in folder_paths.folder_names_and_paths.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    return tmp_path / "output"


@pytest.fixture
def clips(tmp_path):
    return write_clips(tmp_path / "clips")


def count_of(kind: type) -> int:
    """Objects of a class that are in memory."""
    return sum(type(thing) is kind for thing in gc.get_objects())


def train(model, clips, **inputs):
    inputs = {"steps": 3, "batch_size": 1, "learning_rate": 1e-3, "precision": "fp32", "checkpoint_name": "", **inputs}
    return TrainMotionModelNode.execute(model, clips, **inputs).args


def same(one, other) -> bool:
    one, other = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


@world.BOTH
def test_what_is_trained_animates(output, clips):
    model = world.make_model(**world.SMALL_UNET)
    before = world.state_of(model)
    trained, loss, steps = train(model, clips)
    assert steps == 3
    assert len(loss["loss"]) == 3
    assert all(math.isfinite(value) for value in loss["loss"])
    assert world.same_state(model, before)
    assert not torch.equal(world.sample(world.animate(model, trained), frames=FRAMES), world.sample(model, frames=FRAMES))
    assert not output.exists()


def test_cores_loss_graph_takes_the_losses(output, clips):
    _, loss, _ = train(world.make_model(**world.SMALL_UNET), clips)
    LossGraphNode.hidden = None
    assert LossGraphNode.execute(loss, "loss").ui is not None


def test_it_goes_on_from_its_checkpoint(output, clips):
    model = world.make_model(**world.SMALL_UNET)
    whole, whole_loss, _ = train(model, clips, steps=4)
    train(model, clips, steps=2, checkpoint_name="mine")
    assert (output / "loom_training" / "checkpoints" / "mine" / "training_state.pt").is_file()
    resumed, loss, steps = train(model, clips, steps=4, checkpoint_name="mine")
    assert steps == 4
    assert loss == whole_loss
    assert same(resumed, whole)
    with pytest.raises(OtherTrainingRun, match="learning_rate is 0.002, in the checkpoint 0.001"):
        train(model, clips, steps=4, checkpoint_name="mine", learning_rate=2e-3)


@world.BOTH
def test_an_interrupt_keeps_what_there_is(output, clips, monkeypatch):
    """Pressed in the third step, as the editor's button does."""
    model = world.make_model(**world.SMALL_UNET)
    whole, *_ = train(model, clips, steps=4)
    updates = []

    def hook(value, total, preview, node_id=None):
        updates.append((value, total))
        if len(updates) == 3:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0)  # or fast steps are left out
    before = world.state_of(model)
    gc.collect()
    unets = count_of(UNetModel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(model, clips, steps=4, checkpoint_name="mine")
    gc.collect()
    assert count_of(UNetModel) == unets
    assert count_of(Trainer) == 0
    assert world.same_state(model, before)
    assert updates == [(0, 4), (1, 4), (2, 4)]
    resumed, loss, _ = train(model, clips, steps=4, checkpoint_name="mine")
    assert updates[3:] == [(2, 4), (3, 4), (4, 4)]
    assert len(loss["loss"]) == 4
    assert same(resumed, whole)


def test_the_node_shows_the_loss_while_it_trains(output, clips, monkeypatch):
    shown = []
    monkeypatch.setattr(training_run, "_PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id=None: shown.append(preview))
    train(world.make_model(**world.SMALL_UNET), clips, steps=3)
    assert shown[0] is None
    assert [(kind, picture.size) for kind, picture, _ in shown[1:]] == [("JPEG", (512, 256))] * 3


@pytest.mark.parametrize("family", [family for family in Family if not family.takes_image], ids=lambda family: family.name)
def test_a_new_one_is_of_its_family_and_a_connected_one_goes_on(output, clips, family):
    model = world.make_model(**world.SMALLEST_UNET)
    settings = TrainingSettings(steps=1, batch_size=1, learning_rate=1e-3, dtype="fp32", gradient_checkpointing=True)
    trained, *_ = training_run.train_in_graph(model, clips, family, settings, "")
    assert trained.model.config.family is family
    held, *_ = train(model, clips, steps=1, motion_model=trained, learning_rate=0.0, family="v1")
    assert held.model.config.family is family
    assert same(held, trained)
    further, *_ = train(model, clips, steps=1, motion_model=trained)
    assert not same(further, trained)


def test_checkpointing_and_accumulation_are_the_same_training(output, clips):
    """Weights are not compared: AdamW moves one whose gradient is all rounding either way."""
    model = world.make_model(**world.SMALL_UNET)
    _, plain, _ = train(model, clips, batch_size=2, gradient_checkpointing=False)
    _, other, _ = train(model, clips, batch_size=1, accumulation=2, gradient_checkpointing=True)
    assert other["loss"] == pytest.approx(plain["loss"], rel=1e-5)


def test_comfyui_can_make_the_trained_one_again(output, clips):
    trained, *_ = train(world.make_model(**world.SMALL_UNET), clips)
    make, arguments = trained.cached_patcher_init
    assert same(make(*arguments, disable_dynamic=True), trained)


def test_a_trained_ones_weights_are_in_memory_once(output, clips):
    trained, *_ = train(world.make_model(**world.SMALL_UNET), clips)
    weight = trained.model.state_dict()["down_blocks.0.motion_modules.0.temporal_transformer.proj_out.weight"]
    alike = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.shape == weight.shape]
    assert len({tensor.data_ptr() for tensor in alike if torch.equal(tensor, weight)}) == 1


def test_mergers_and_loras_are_trained_on(output, clips, tmp_path):
    pair = [load_motion_model(world.motion_file(tmp_path, seed=seed, **world.SMALL_MOTION)) for seed in (1, 2)]
    merged = merge_motion_models(*pair, 0.25)
    name = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
    add_lora(merged, {name: LowRank(torch.randn(4, 32), torch.randn(32, 4))}, 0.5)
    trained, *_ = train(world.make_model(**world.SMALL_UNET), clips, steps=1, learning_rate=0.0, motion_model=merged)
    start, expected = trained.model.state_dict(), world.saved_weights(merged)
    assert all(torch.equal(start[key], expected[key]) for key in expected)


def test_wrong_inputs_are_named(output, clips):
    model = world.make_model(**world.SMALL_UNET)
    with pytest.raises(InvalidSettings, match="checkpoint_name is '../mine'"):
        train(model, clips, checkpoint_name="../mine")
    animated = world.animate(model, train(model, clips)[0])
    with pytest.raises(InvalidInput, match="already animated"):
        train(animated, clips)


# --- saving -------------------------------------------------------------------------------------------------------------


def save(patcher, prefix="animatediff_models/loom", dtype="fp32", layout="AnimateDiff", hidden=None):
    node = type("Save", (SaveMotionModelNode,), {"hidden": hidden or Hidden(None, None)})
    node.execute(patcher, prefix, dtype, layout)


class Hidden:
    def __init__(self, prompt, extra_pnginfo):
        self.prompt, self.extra_pnginfo = prompt, extra_pnginfo


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_a_saved_one_is_found_and_loads(output, clips, dtype):
    register_folders()
    model = world.make_model(**world.SMALL_UNET)
    trained, *_ = train(model, clips)
    save(trained, dtype=dtype)
    save(trained, dtype=dtype)
    files = sorted((output / "animatediff_models").iterdir())
    assert [file.name for file in files] == ["loom_00001_.safetensors", "loom_00002_.safetensors"]
    assert "loom_00001_.safetensors" in MOTION_MODEL_FILES.names()
    loaded = load_motion_model(MOTION_MODEL_FILES.path("loom_00001_.safetensors"))
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    assert loaded.model.config == trained.model.config
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name].float(), tensor.to(kind).float())


def test_the_file_says_what_it_is(output, clips):
    trained, *_ = train(world.make_model(**world.SMALL_UNET), clips, seed=5)
    save(trained, hidden=Hidden({"1": {}}, {"workflow": {"nodes": []}}))
    with safe_open(output / "animatediff_models" / "loom_00001_.safetensors", framework="pt") as file:
        metadata = file.metadata()
    recipe = json.loads(metadata["loom_recipe"])
    assert (recipe["seed"], recipe["steps"], recipe["beta_schedule"]) == (5, 3, "linear (AnimateDiff)")
    assert metadata["loom_clips_sha256"] == clips.data_hash
    assert metadata["loom_steps"] == "3"
    assert metadata["loom_started_from"] == "scratch"
    assert json.loads(metadata["prompt"]) == {"1": {}}
    assert json.loads(metadata["workflow"]) == {"nodes": []}


def test_a_loaded_one_is_saved_as_it_was(output, tmp_path):
    path = world.motion_file(tmp_path, Family.V2, **world.SMALL_MOTION)
    save(load_motion_model(path))
    original, saved = load_file(path), load_file(output / "animatediff_models" / "loom_00001_.safetensors")
    assert original.keys() == saved.keys()
    assert all(torch.equal(saved[name], original[name]) for name in original)


def test_patches_are_saved_in_the_weights(output, tmp_path):
    patcher = load_motion_model(world.motion_file(tmp_path, **world.SMALL_MOTION)).clone()
    key = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
    before = patcher.model.state_dict()[key].clone()
    patcher.add_patches({key: (torch.ones_like(before),)}, 0.5)
    save(patcher)
    saved = load_file(output / "animatediff_models" / "loom_00001_.safetensors")
    torch.testing.assert_close(saved[key], before + 0.5)


def test_weights_too_large_for_the_dtype_are_not_saved(output, tmp_path):
    patcher = load_motion_model(world.motion_file(tmp_path, **world.SMALL_MOTION))
    next(patcher.model.parameters()).fill_(1e6)
    with pytest.raises(MotionModelError, match="NaN or infinity"):
        save(patcher, dtype="fp16")
    assert list((output / "animatediff_models").iterdir()) == []


def test_a_full_disk_is_named_and_leaves_no_half_file(output, tmp_path):
    """The system lets this process write no file beyond some bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    patcher = load_motion_model(world.motion_file(tmp_path, **world.SMALL_MOTION))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(MotionModelError, match=r"loom_00001_.safetensors' cannot be written \(.*\). Make room on the disk"):
            save(patcher)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((output / "animatediff_models").iterdir()) == []


# --- the picture --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", [[0.5], [0.5] * 7, [1 / (1 + i) for i in range(5000)]])
def test_the_loss_is_drawn_at_every_length(losses):
    picture = draw_losses(losses, 6000)
    assert picture.size == (512, 256)
    assert len(set(picture.get_flattened_data() if hasattr(picture, "get_flattened_data") else picture.getdata())) > 3


def test_the_running_mean_starts_among_the_values():
    assert running_mean([1.0, 3.0, 5.0]) == pytest.approx([1, 2, 3])
    assert running_mean([2.0] * 50) == [2.0] * 50
    assert running_mean([0.0] * 50 + [1.0])[-1] == pytest.approx(0.1)


