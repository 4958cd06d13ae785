"""What server tests share: tiny models, a prompt, how to run it, and what came out."""

from __future__ import annotations

import copy
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from launcher.client import ComfyClient, Prompt
from launcher.comfyui import find_comfyui
from launcher.demo_models import demo_models
from launcher.server import ComfyServer, link_file
from torch import Tensor

CHECKPOINT, MOTION_MODEL = "tiny_sd15.safetensors", "tiny_v3.safetensors"
SIZE = 32  # pixels; the UNet sees 4 x 4
TIMEOUT = 120.0
ATTENTION = "--use-pytorch-cross-attention"
"""As on graphics cards. What ComfyUI takes on a CPU by itself is slower, and under test in the training program and the demo."""


@dataclass(frozen=True)
class Models:
    """Files and folders that ComfyUI is given."""

    checkpoint: Path
    motion_model: Path
    motion_folder: Path
    lora_folder: Path
    unet_folder: Path


def write_models(comfyui: Path, folder: Path) -> Models:
    """Take the demo's tiny checkpoint and motion model; make empty folders for what tests add."""
    tiny = demo_models(find_comfyui(str(comfyui)), Path(sys.executable))
    for kind in ("checkpoints", "motion", "diffusion_models", "added", "loras"):
        (folder / kind).mkdir()
    made = Models(
        checkpoint=folder / "checkpoints" / CHECKPOINT,
        motion_model=folder / "motion" / MOTION_MODEL,
        motion_folder=folder / "added",
        lora_folder=folder / "loras",
        unet_folder=folder / "diffusion_models",
    )
    link_file(made.checkpoint, tiny.checkpoint)
    link_file(made.motion_model, tiny.motion_model)
    return made


def start_server(comfyui: Path, models: Models, python: Path | None = None) -> ComfyServer:
    """A server, to be entered with ``with``, that offers the models and shows previews."""
    folders = {
        "checkpoints": [models.checkpoint.parent],
        "animatediff_models": [models.motion_model.parent, models.motion_folder],
        "animatediff_motion_lora": [models.lora_folder],
        "diffusion_models": [models.unet_folder],
    }
    arguments = ["--cpu", "--preview-method", "latent2rgb", ATTENTION]
    return ComfyServer(comfyui, python, model_folders=folders, extra_args=arguments)


# --- prompts ---------------------------------------------------------------------------------------------------------


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def still() -> Prompt:
    """Checkpoint, two prompts, an empty latent of four pictures: all but the sampler."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text="a boat on the sea"),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text="blurry"),
        "frames": node("LoomEmptyAnimationLatent", width=SIZE, height=SIZE, frames=4),
    }


def base_only() -> Prompt:
    """Core's KSampler on the plain checkpoint."""
    return {**still(), "sampled": core_sampler("checkpoint"), "saved": save_latents()}


def animation(motion_model: str = MOTION_MODEL) -> Prompt:
    """Loom's sampler on the checkpoint with a motion model."""
    return {
        **still(),
        "motion_model": node("LoomLoadMotionModel", motion_model_name=motion_model),
        "animated": node(
            "LoomApplyMotionModel", model=["checkpoint", 0], motion_model=["motion_model", 0], beta_schedule="auto",
            motion_scale=1.0, strength=1.0, start_percent=0.0, end_percent=1.0,
        ),
        "sampled": loom_sampler("animated"),
        "saved": save_latents(),
    }


def core_sampler(model: str) -> dict[str, Any]:
    return node("KSampler", **_sampling(model))


def loom_sampler(model: str, clips: int = 1) -> dict[str, Any]:
    return node("LoomSampler", clips=clips, **_sampling(model))


def _sampling(model: str) -> dict[str, Any]:
    return {
        "model": [model, 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["frames", 0],
        "seed": 5, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
    }


def save_latents() -> dict[str, Any]:
    return node("SaveLatent", samples=["sampled", 0], filename_prefix="latents")


def changed(prompt: Prompt, node_id: str, **inputs: Any) -> Prompt:
    """A copy of a prompt with other inputs of one node."""
    prompt = copy.deepcopy(prompt)
    prompt[node_id]["inputs"] |= inputs
    return prompt


# --- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A prompt that ran to its end."""

    client: ComfyClient
    prompt: Prompt
    entry: dict[str, Any]

    def cached(self) -> set[str]:
        """Nodes whose results ComfyUI still had."""
        messages = self.entry["status"]["messages"]
        return {node_id for event, data in messages if event == "execution_cached" for node_id in data["nodes"]}

    def executed(self) -> set[str]:
        return self.prompt.keys() - self.cached()

    def file(self, node_id: str, kind: str = "images") -> bytes:
        """What a node saved."""
        (saved,) = self.entry["outputs"][node_id][kind]
        return self.client.view(saved["filename"], saved["subfolder"], saved["type"])

    def latents(self) -> Tensor:
        """The tensor that the node ``saved`` wrote."""
        return safetensors.torch.load(self.file("saved", "latents"))["latent_tensor"]


def run(client: ComfyClient, prompt: Prompt, **callbacks: Callable) -> Run:
    """Run a prompt; nodes whose inputs did not change come from ComfyUI's cache."""
    return Run(client, prompt, client.wait(client.queue(prompt), timeout=TIMEOUT, **callbacks))


def rerun(client: ComfyClient, prompt: Prompt, node_id: str = "sampled", **callbacks: Callable) -> Run:
    """Run a prompt with one node, and all behind it, computed anew."""
    # ComfyUI ignores an input that a node does not have, but its cache takes the node for another one.
    return run(client, changed(prompt, node_id, not_cached=uuid.uuid4().hex), **callbacks)
