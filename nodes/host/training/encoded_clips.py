"""Clips from ComfyUI's input folder, as latents in its output folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import astuple
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
from torch import Tensor

from ....motion_models.errors import one_line, quote, shorten
from ....motion_models.training.clips import ClipSettings, FolderClips, find_clips
from ....motion_models.training.errors import ClipSkipped, TrainingDataError
from ....motion_models.training.latent_clips import LatentClips, write_latent_clips
from ..types import logger
from . import encoders


def clip_folders() -> list[str]:
    """The folders under ComfyUI's input folder."""
    return folder_paths.get_input_subfolders()


def folder_state(name: str) -> str:
    """A text that differs when something in a folder of clips has changed."""
    digest = hashlib.sha256()
    for place, subfolders, files in os.walk(_folder(name)):
        subfolders.sort()
        for file in sorted(files):
            with contextlib.suppress(OSError):  # a link that leads nowhere is skipped when clips are read
                state = os.stat(os.path.join(place, file))
                digest.update(repr((place, file, state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()


def load_training_clips(
    name: str, vae: comfy.sd.VAE, clip: comfy.sd.CLIP, settings: ClipSettings, flip: bool, default_caption: str
) -> tuple[LatentClips, str, Tensor]:
    """Find the clips in one of ``clip_folders()`` and encode those that aren't yet.

    Gives the clips, their latents not scaled for a model yet; a report to read; and the first clip's first frames
    ``(f, h, w, 3)``. Raises TrainingDataError if nothing there can be trained on, or it cannot be kept.
    """
    # Not core's nodes for folders of videos: they know no GIF, WebP, frame folders or csv files, and what makes images of
    # their videos decodes each as a whole. Core's training data sets hold single images.
    encode_frames, encode_text = encoders.frame_encoder(vae), encoders.text_encoder(clip)
    _check_size(settings, vae)
    found = find_clips(_folder(name), settings, default_caption.strip())
    ids = encoders.vae_id(vae), encoders.text_encoder_id(clip)
    bar = comfy.utils.ProgressBar(len(found.clips))

    def progress(done: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done)

    clips = write_latent_clips(
        _cache_folder(name, settings, flip, ids), found.clips, encode_frames, encode_text,
        frames=settings.frames, flip=flip, vae_id=ids[0], text_encoder_id=ids[1], progress=progress,
    )  # fmt: skip
    report = _report(clips, found, settings, encoders.too_long(clip, dict.fromkeys(clips.captions)))
    (logger.warning if clips.skipped else logger.info)("Load Training Clips: %s", report)
    return clips, report, _preview(found, clips)


def _folder(name: str) -> Path:
    if name not in clip_folders():
        raise TrainingDataError(
            f"'{shorten(name)}' is not a folder in ComfyUI's input folder. Put the clips into a folder there and choose it "
            "(press R in the editor to refresh the list)."
        )
    return Path(folder_paths.get_input_directory(), name)


def _check_size(settings: ClipSettings, vae: comfy.sd.VAE) -> None:
    unit = vae.spacial_compression_encode()
    if settings.width % unit or settings.height % unit:
        raise TrainingDataError(
            f"width {settings.width} and height {settings.height} must be multiples of {unit} for this VAE."
        )


def _cache_folder(name: str, settings: ClipSettings, flip: bool, ids: tuple[str, str]) -> Path:
    # A folder for each way of reading the same clips, so that each can be deleted by itself.
    key = hashlib.sha256(repr((name, astuple(settings), flip, ids)).encode()).hexdigest()[:8]
    title = f"{name.replace('/', '-')}-{settings.width}x{settings.height}-{key}"
    return Path(folder_paths.get_output_directory(), "loom_training", "clips", title)


def _report(clips: LatentClips, found: FolderClips, settings: ClipSettings, cut: list[str]) -> str:
    size = sum(file.stat().st_size for file in clips.folder.rglob("*.safetensors"))
    lines = [
        f"{len(clips)} clips, {clips.starts} samples of {clips.frames} frames at a stride of {settings.stride}, "
        f"{settings.width} x {settings.height} pixels; {clips.mirrored} of the clips are also mirrored.",
        f"Their latents are in '{clips.folder}' ({size / 1e6:,.1f} MB). Delete that folder when you no longer need them.",
        *found.notes,
    ]
    if cut:
        lines.append(f"Captions that are too long for the text encoder and get cut off: {quote(cut)}.")
    if clips.skipped:
        lines.append("Skipped:")
        lines += [f"  '{clip.name}' {clip.reason}" for clip in clips.skipped]
    return "\n".join(one_line(line) for line in lines)


def _preview(found: FolderClips, clips: LatentClips) -> Tensor:
    """Frames of the first clip that is used."""
    first = next(clip for clip in found.clips if clip.name == clips.names[0])
    try:
        return next(first.read()).movedim(1, -1)
    except (ClipSkipped, StopIteration) as error:
        raise TrainingDataError(f"'{first.name}' changed while it was being read. Run the node again.") from error
