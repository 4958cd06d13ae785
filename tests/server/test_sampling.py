"""Loom's sampler beside core's, interrupts, and a checkpoint that stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors
import torch
from launcher.errors import PromptInterruptedError

from .world import animation, base_only, changed, core_sampler, loom_sampler, node, rerun


def test_the_motion_model_does_something(client, good_latents):
    still = rerun(client, base_only()).latents()
    assert still.shape == good_latents.shape
    assert not torch.equal(still, good_latents)


@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_one_clip_is_what_core_gives(client, sampler_name):
    settings = {"sampler_name": sampler_name, "scheduler": "karras", "steps": 3, "cfg": 3.0}
    core = rerun(client, changed({**animation(), "sampled": core_sampler("animated")}, "sampled", **settings))
    loom = rerun(client, changed({**animation(), "sampled": loom_sampler("animated")}, "sampled", **settings))
    assert torch.isfinite(core.latents()).all()
    assert torch.equal(loom.latents(), core.latents())


def test_clips_are_each_what_they_are_alone(client):
    together = rerun(client, changed({**animation(), "sampled": loom_sampler("animated", clips=2)}, "frames", frames=6))
    for clip in range(2):
        alone = rerun(client, changed(changed(animation(), "frames", frames=3), "sampled", seed=5 + clip))
        part = together.latents()[3 * clip : 3 * clip + 3]
        # The sizes of a batch decide in which order sums are made; the latents go up to about 20.
        torch.testing.assert_close(part, alone.latents(), atol=1e-3, rtol=1e-4)
        other_seed = rerun(client, changed(changed(animation(), "frames", frames=3), "sampled", seed=7)).latents()
        assert (part - other_seed).abs().mean() > 0.1


def test_the_checkpoint_alone_is_as_before_an_animation(client):
    before = rerun(client, base_only()).latents()
    rerun(client, animation())
    assert torch.equal(rerun(client, base_only()).latents(), before)


def test_after_an_interrupt_a_rerun_is_as_before(client):
    prompt = changed(animation(), "sampled", steps=6, seed=31)
    before = rerun(client, prompt).latents()
    steps = []

    def interrupt_at_the_first_step(nodes):
        if nodes.get("sampled", {}).get("value", 0) >= 1:
            if not steps:
                client.interrupt()
            steps.append(nodes["sampled"]["value"])

    with pytest.raises(PromptInterruptedError):
        rerun(client, prompt, on_progress=interrupt_at_the_first_step)
    assert 1 <= max(steps) < 6
    assert torch.equal(rerun(client, prompt).latents(), before)


def saved_unet(path: Path) -> dict[str, torch.Tensor]:
    with safetensors.safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if key.startswith("model.diffusion_model.")}


def test_a_checkpoint_saved_from_the_animated_model_is_the_plain_one(client, server, models):
    prompt = animation()
    for name, model in (("plain", "checkpoint"), ("moving", "animated")):
        parts = {"model": [model, 0], "clip": ["checkpoint", 1], "vae": ["checkpoint", 2]}
        prompt[f"{name} saved"] = node("CheckpointSave", filename_prefix=name, **parts)
    rerun(client, prompt)
    plain, moving = (server.base_directory / "output" / f"{name}_00001_.safetensors" for name in ("plain", "moving"))
    with safetensors.safe_open(plain, "pt") as one, safetensors.safe_open(moving, "pt") as other:
        assert set(other.keys()) == set(one.keys())
    expected, found = saved_unet(plain), saved_unet(moving)
    assert expected.keys() == saved_unet(models.checkpoint).keys()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
