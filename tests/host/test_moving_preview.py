"""What the editor is sent to play while a sampler runs."""

from __future__ import annotations

import base64
import io
import sys
from types import SimpleNamespace

import comfy.latent_formats
import latent_preview
import numpy as np
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy_execution.utils import CurrentNodeContext
from execution import PromptQueue
from pack.motion_models.config import Family
from pack.nodes.host.editor import PREVIEW_CLIENTS
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.host.runs import moving_preview
from pack.nodes.host.runs.moving_preview import frames_to_show
from PIL import Image

from .world import BOTH, SMALL_MOTION, SMALL_UNET, animate, make_model, motion_file, sample


@pytest.fixture
def sent(monkeypatch) -> list[tuple]:
    """The previews that a running server sends to the editor that queued the prompt, which asked for them."""
    messages: list[tuple] = []

    def send_sync(*message):
        if message[0] == moving_preview.EVENT:  # notices go the same way
            messages.append(message)

    server = SimpleNamespace(client_id="editor", app={PREVIEW_CLIENTS: {"editor"}}, send_sync=send_sync)
    server.prompt_queue = PromptQueue(server)
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=server)))
    monkeypatch.setattr(moving_preview, "SECONDS_BETWEEN", 0.0)
    return messages


@BOTH
def test_each_step_sends_the_frames_of_the_clip(sent, patchers, tmp_path, monkeypatch):
    motion = load_motion_model(motion_file(tmp_path, Family.V3, **SMALL_MOTION))
    model = animate(make_model(**SMALL_UNET), motion)
    with CurrentNodeContext("the prompt", "5:7"):
        silent = sample(model, frames=5, steps=3)
        assert len(sent) == 3
        event, message, client = sent[-1]
        assert (event, client) == ("loom.preview", "editor")
        assert {key: message[key] for key in ("node", "prompt_id", "total", "frames")} == {
            "node": "5:7", "prompt_id": "the prompt", "total": 5, "frames": 5
        }  # fmt: skip
        film = Image.open(io.BytesIO(base64.b64decode(message["film"])))
        assert film.size == (8, 5 * 8)
        # Not to those who did not ask, nor beside ComfyUI's own previews; and no picture changes a frame.
        for change in ({"client_id": "somebody"}, {"client_id": None}, {}):
            for name, value in change.items():
                setattr(sys.modules["server"].PromptServer.instance, name, value)
            if not change:
                monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
            assert torch.equal(sample(model, frames=5, steps=3), silent)
        assert len(sent) == 3


def test_colours_are_those_of_comfyui():
    latents = torch.randn(3, 4, 8, 12)
    latent_format = comfy.latent_formats.SDXL()
    core = latent_preview.Latent2RGBPreviewer(latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias)
    expected = np.stack([np.asarray(core.decode_latent_to_preview(latents[i : i + 1])) for i in range(3)])
    ours = frames_to_show(latents.half(), latent_format, clips=1).numpy()
    assert ours.shape == (3, 8, 12, 3)
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 1  # halves


def test_long_large_and_many_clips_are_cut_down():
    frame_numbers = torch.arange(100.0)
    latents = torch.cat([frame_numbers + 1000 * clip for clip in range(6)])[:, None, None, None].expand(600, 4, 200, 300)
    latent_format = SimpleNamespace(latent_rgb_factors=[[1 / 50, 0, 0]] + [[0, 0, 0]] * 3, latent_rgb_factors_bias=[-1, 0, 0])
    shown = frames_to_show(latents, latent_format, clips=6)
    assert shown.shape == (32, 64, 4 * 96, 3)
    reds = shown[:, 0, 0, 0].float()
    assert (reds - torch.tensor([i * 100 // 32 for i in range(32)]) / 50 * 127.5).abs().max() <= 1
    assert (shown[:, :, 96:, 0] == 255).all()  # the other clips beside the first
