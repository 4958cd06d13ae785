"""The models of a render, and what is done with them to one chunk of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.samplers
import comfy.sd
import comfy.utils
import numpy as np
import torch
from torch import Tensor

from .errors import LoomError
from .pack import pack_module
from .render_config import RenderJob

_AT_ONCE = 16  # frames that the VAE is given, at most: it holds each as floats, and several times


class Renderer:
    """A job's models, loaded, with its prompts.

    Args:
        job: what to render.
        total_frames: of the whole clip.

    Raises:
        LoomError: a file is not what the job says it is.
    """

    def __init__(self, job: RenderJob, total_frames: int):
        self.job, self.total_frames = job, total_frames
        model, self.clip, self.vae = _load(job)
        motion_model = pack_module("nodes.host.files.loading").load_motion_model(str(job.model.motion_model))
        config = motion_model.model.config
        steered = pack_module("nodes.host.motion.steered")
        settings = steered.MotionSettings(steered.Steered(job.model.motion_scale))
        self.model = pack_module("nodes.host.runs.applying").apply_motion_model(model, motion_model, settings)
        pack_module("nodes.host.motion.model_sampling").choose_beta_schedule(self.model, config, "auto")
        length, overlap = window_of(job, config)
        pack_module("nodes.host.motion.context_windows").set_windows(
            self.model, pack_module("animation.windowing").Windowing(length, overlap)
        )
        self.context_length = length
        self._chunks = pack_module("nodes.host.runs.chunk_sampling")
        freenoise = pack_module("animation.noise_shuffle").FreeNoise(length, overlap) if job.chunks.freenoise else None
        cutoff = job.chunks.shared_noise
        shared = None if cutoff is None else pack_module("animation.shared_noise").SharedNoise(cutoff)
        self.noise = self._chunks.ChunkNoise.of(job.sampling.seed, total_frames, freenoise, shared)
        self._prompts = self._encode_prompts()

    def encode(self, frames: Iterable[Tensor]) -> Tensor:
        """Latents ``(f, c, h, w)`` of frames ``(3, h, w)`` from 0 to 1."""
        latents, waiting = [], []
        for frame in frames:
            waiting.append(frame)
            if len(waiting) == _AT_ONCE:
                latents.append(self.vae.encode(torch.stack(waiting).movedim(1, -1)))
                waiting = []
        if waiting:
            latents.append(self.vae.encode(torch.stack(waiting).movedim(1, -1)))
        return torch.cat(latents)

    def empty(self, frames: int) -> Tensor:
        """Latents ``(f, c, h, w)`` that are nothing but the noise they will be given."""
        channels = self.model.get_model_object("latent_format").latent_channels
        return torch.zeros(frames, channels, self.job.output.height // 8, self.job.output.width // 8)

    def sample(self, latents: Tensor, chunk: Any, carried: dict[str, Tensor], callback: Callable) -> tuple[Tensor, dict[str, Tensor]]:
        """Sample a chunk's latents; returns them and what the next chunk is to be given as ``carried``, empty for the first."""
        sampling = self.job.sampling
        settings = pack_module("nodes.host.runs.clip_sampling").SamplerSettings(
            sampling.seed, sampling.steps, sampling.cfg, sampling.sampler, sampling.scheduler, self.job.denoise
        )
        before = self._chunks.Carried(carried["denoised"]) if carried else None
        sampled, left = self._chunks.sample_chunk(
            self.model, *self._prompts(chunk), latents, chunk, self.noise, settings, before, callback
        )
        return sampled, {"denoised": left.denoised, "latents": latents[chunk.finished :].clone()}

    def decode(self, latents: Tensor) -> Iterator[np.ndarray]:
        """Frames ``(h, w, 3)`` uint8 of latents."""
        for part in latents.split(_AT_ONCE):
            for image in self.vae.decode(part):
                yield (image.float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def _encode_prompts(self) -> Callable[[Any], tuple[list, list]]:
        sampling, prompts = self.job.sampling, pack_module("nodes.host.runs.prompt_conds")
        if not sampling.prompt_schedule:
            encoded = tuple(
                self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)) for text in (sampling.prompt, sampling.negative)
            )
            return lambda chunk: encoded
        schedule = prompts.read_prompts(sampling.prompt_schedule).over(self.total_frames)
        known: dict[str, list] = {}

        def encode(chunk: Any) -> tuple[list, list]:
            nonlocal known  # no more than a chunk's: formulas make a text for each frame
            part = slice(chunk.start, chunk.end)
            positive, negative, known = prompts.schedule_conds(self.clip, schedule, {}, prompts.Blending(), part, known)
            return positive, negative

        return encode


def window_of(job: RenderJob, config: Any) -> tuple[int, int]:
    """Length and overlap of the context windows: the job's, or the motion model's trained frames and a quarter of them."""
    length = job.chunks.context_length or min(config.trained_frames, config.max_frames)
    return length, length // 4 if job.chunks.context_overlap is None else job.chunks.context_overlap


def check_samplers(job: RenderJob) -> None:
    """Refuse samplers and schedulers that ComfyUI does not have, or that chunks can't be sampled with."""
    for name, known in (("sampler", comfy.samplers.KSampler.SAMPLERS), ("scheduler", comfy.samplers.KSampler.SCHEDULERS)):
        value = getattr(job.sampling, name)
        if value not in known:
            raise LoomError(f"sampling.{name} is '{value}'. Expected one of: {', '.join(known)}.")
    if job.sampling.sampler == "dpm_adaptive":
        raise LoomError("sampling.sampler is 'dpm_adaptive', which takes other steps for each chunk. Choose another one.")


def _load(job: RenderJob) -> tuple[Any, Any, Any]:
    """The MODEL with its LoRAs, the text encoder and the VAE."""
    section = job.model
    with _readable(section.checkpoint) as checkpoint:
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(checkpoint, output_vae=section.vae is None, output_clip=True)
    if model is None or clip is None:
        raise LoomError(f"model.checkpoint: '{checkpoint}' is no checkpoint of a whole model with its text encoder.")
    for lora in section.loras:
        with _readable(lora.file) as file:
            weights = comfy.utils.load_torch_file(file, safe_load=True)
            model, clip = comfy.sd.load_lora_for_models(model, clip, weights, lora.strength, lora.strength)
    if section.vae is not None:
        with _readable(section.vae) as file:
            vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(file, safe_load=True))
    if getattr(vae, "first_stage_model", None) is None:
        raise LoomError("The checkpoint has no VAE. Name one as model.vae.")
    return model, clip, vae


@contextmanager
def _readable(path: Path) -> Iterator[str]:
    """Make one sentence of whatever ComfyUI's loaders run into with a file."""
    with pack_module("nodes.host.files.reading").open_weights(str(path), shapes_only=True):
        yield str(path)
