"""What ComfyUI computes again, and what it does not."""

from __future__ import annotations

import shutil

import pytest
import torch
from launcher.client import ComfyClient, Prompt

from . import bad_files
from .world import animation, changed, node, rerun, run


@pytest.fixture
def prompt(models, motion_folder) -> Prompt:
    """An animation with a file of its own, so that no other test's results are cached for it."""
    shutil.copy(models.motion_model, motion_folder / "own.safetensors")
    return animation("own.safetensors")


def free(client: ComfyClient) -> None:
    client.free(unload_models=True, free_memory=True)
    # ComfyUI frees between two prompts, at the latest behind this one.
    small = node("EmptyLatentImage", width=16, height=16, batch_size=1)
    run(client, {"latent": small, "shown": node("PreviewAny", source=["latent", 0])})


def loads(server, file_name: str) -> int:
    return server.log_text().count(f"Loaded '{file_name}'")


def test_an_identical_prompt_computes_nothing(client, server, prompt):
    first = run(client, prompt)
    loaded = loads(server, "own.safetensors")
    second = run(client, prompt)
    assert second.cached() == prompt.keys()
    assert second.entry["outputs"] == first.entry["outputs"]
    assert loads(server, "own.safetensors") == loaded > 0


def test_another_seed_does_not_load_the_motion_model_again(client, server, prompt):
    first = run(client, prompt)
    loaded = loads(server, "own.safetensors")
    other = run(client, changed(prompt, "sampled", seed=6))
    assert other.executed() == {"sampled", "saved"}
    assert loads(server, "own.safetensors") == loaded > 0
    assert not torch.equal(other.latents(), first.latents())


def test_other_settings_do_not_load_the_motion_model_again(client, server, prompt):
    first = run(client, prompt)
    loaded = loads(server, "own.safetensors")
    other = run(client, changed(prompt, "animated", motion_scale=1.3))
    assert other.executed() == {"animated", "sampled", "saved"}
    assert loads(server, "own.safetensors") == loaded > 0
    assert not torch.equal(other.latents(), first.latents())


def test_a_file_that_was_replaced_is_loaded_again(client, server, prompt, models, motion_folder):
    first = run(client, prompt)
    loaded = loads(server, "own.safetensors")
    weights = bad_files.motion_weights(models)
    bad_files.save({key: tensor * 0.5 if "to_v" in key else tensor for key, tensor in weights.items()}, motion_folder / "new")
    (motion_folder / "new").replace(motion_folder / "own.safetensors")
    second = run(client, prompt)
    assert second.executed() == {"motion_model", "animated", "sampled", "saved"}
    assert loads(server, "own.safetensors") == loaded + 1
    assert not torch.equal(second.latents(), first.latents())


def test_freed_memory_changes_nothing(client, server, prompt):
    first = run(client, prompt)
    loaded = loads(server, "own.safetensors")
    free(client)
    second = run(client, prompt)
    assert second.executed() == prompt.keys()
    assert loads(server, "own.safetensors") == loaded + 1
    assert torch.equal(second.latents(), first.latents())


def test_unloaded_models_change_nothing(client, server, prompt):
    """Unloaded but not forgotten: ComfyUI loads the motion model again without asking the node."""
    first = run(client, prompt)
    loaded = loads(server, "own.safetensors")
    client.free(unload_models=True, free_memory=False)
    for _ in range(2):  # one before and one after the models are unloaded, or both after
        again = rerun(client, prompt)
        assert again.executed() == {"sampled", "saved"}
        assert torch.equal(again.latents(), first.latents())
    assert loads(server, "own.safetensors") == loaded > 0
