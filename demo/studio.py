"""Renders the demo world's prompts through ComfyUI and Loom's nodes, without a server: what the claims are measured with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .assemble import BASE, LORA, MOTION  # first: it sets ComfyUI up for the CPU  # isort: skip

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..animation.retime import Retime
from ..animation.windowing import Windowing
from ..nodes.host.files.loading import load_motion_model
from ..nodes.host.motion.context_windows import set_windows
from ..nodes.host.motion.model_sampling import AUTO, choose_beta_schedule
from ..nodes.host.motion.retiming import retime_motion
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model
from ..nodes.host.runs.clip_sampling import SamplerSettings, sample_clips
from ..nodes.host.runs.clip_seeds import clip_seed
from ..nodes.host.runs.starting_noise import set_freenoise, set_shared_noise
from ..nodes.text2video_zero import Text2VideoZeroNode


@dataclass(frozen=True)
class Shot:
    """How to render.

    Attributes:
        size: width and height in pixels.
        motion: whether the motion model is applied.
        lora: whether the outlined look's LoRA is.
        text2video_zero: whether Text2Video-Zero is.
        retime: where frames lie in time.
        windows: context windows, for more frames; with FreeNoise.
        shared_noise: Shared Noise's cut-off, where it is applied.
    """

    size: int = 64
    frames: int = 16
    motion: bool = True
    lora: bool = False
    text2video_zero: bool = False
    steps: int = 10
    cfg: float = 2.5
    sampler: str = "dpmpp_2m"
    scheduler: str = "normal"
    denoise: float = 1.0
    retime: Retime = field(default_factory=Retime)
    windows: Windowing | None = None
    shared_noise: float | None = None


class Studio:
    """The demo's models, loaded.

    Args:
        folder: with ``checkpoints``, ``animatediff_models`` and ``loras``, as ``assemble`` writes it.
        motion_model: another motion model's file to use.
        dtype: the arithmetic of UNet and motion model; None is ComfyUI's choice. ``torch.bfloat16`` is several times
            quicker on a CPU that has instructions for it, and is what the models were trained in.
    """

    def __init__(self, folder: Path, motion_model: Path | None = None, dtype: torch.dtype | None = None):
        self.model, self.clip, self.vae, _ = comfy.sd.load_checkpoint_guess_config(
            str(folder / "checkpoints" / BASE), output_vae=True, output_clip=True
        )
        if dtype is not None:
            self.model.set_model_compute_dtype(dtype)
        motion_path = motion_model or folder / "animatediff_models" / MOTION
        self.motion_model = load_motion_model(str(motion_path)) if motion_path.is_file() else None
        lora = folder / "loras" / LORA
        self.lora = comfy.utils.load_torch_file(str(lora), safe_load=True) if lora.is_file() else None
        self.first_hash = self.base_hash()

    def base_hash(self) -> str:
        """Tells every byte of the base's weights from any other; LoRAs are taken out first."""
        comfy.model_management.unload_model_and_clones(self.model)
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def encode(self, text: str) -> list:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def prepared(self, shot: Shot) -> ModelPatcher:
        """The MODEL for a shot, as a workflow's nodes make it."""
        model = self.model
        if shot.lora:
            model, _ = comfy.sd.load_lora_for_models(model, None, self.lora, 1.0, 0.0)
        if shot.motion:
            model = apply_motion_model(model, retime_motion(self.motion_model, shot.retime), MotionSettings())
            choose_beta_schedule(model, self.motion_model.model.config, AUTO)
        if shot.text2video_zero:
            (model,) = Text2VideoZeroNode.execute(model).result
        if shot.windows is not None:
            model = model.clone()
            set_windows(model, shot.windows)
            set_freenoise(model, shot.windows.length, shot.windows.overlap, shot.windows.wraps)
        if shot.shared_noise is not None:
            model = model.clone()
            set_shared_noise(model, shot.shared_noise)
        return model

    def render(
        self, prompt: str | list, seeds: Sequence[int], shot: Shot, model: ModelPatcher | None = None, video: Tensor | None = None,
        latent: dict | None = None,
    ) -> Tensor:  # fmt: skip
        """Render a prompt once for each of some consecutive seeds.

        Args:
            prompt: a text, or a conditioning; the negative prompt is empty.
            seeds: one for each animation.
            shot: how.
            model: a MODEL to take instead of the shot's.
            video: frames ``(f, 3, h, w)`` to begin with, which counts where the shot denoises by less than 1.
            latent: of one animation, to begin with instead.

        Returns:
            ``(n, f, 3, h, w)`` RGB from 0 to 1.
        """
        settings = SamplerSettings(seeds[0], shot.steps, shot.cfg, shot.sampler, shot.scheduler, shot.denoise)
        if list(seeds) != [clip_seed(seeds[0], i) for i in range(len(seeds))]:
            raise ValueError(f"{list(seeds)} are not consecutive.")
        latent = latent or {"samples": torch.zeros(len(seeds) * shot.frames, 4, shot.size // 8, shot.size // 8)}
        with torch.inference_mode():
            if video is not None:
                latent = {"samples": self.vae.encode(video.movedim(1, -1)).repeat(len(seeds), 1, 1, 1)}
            positive = self.encode(prompt) if isinstance(prompt, str) else prompt
            sampled = sample_clips(model or self.prepared(shot), positive, self.encode(""), latent, len(seeds), settings)
            images = self.vae.decode(sampled["samples"])  # (n f) h w 3
        return images.movedim(-1, 1).reshape(len(seeds), shot.frames, 3, shot.size, shot.size).float().clone()
