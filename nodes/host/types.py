"""Sockets between Loom's nodes, and the keys under which Loom stands in ComfyUI's shared dicts."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ...motion_models.errors import InvalidInput as InvalidInput
from ...motion_models.errors import one_line

MotionModelSocket = io.Custom("LOOM_MOTION_MODEL")
"""A ComfyUI ``ModelPatcher`` around a ``MotionModel``."""

FrameValuesSocket = io.Custom("LOOM_FRAME_VALUES")
"""One value for each frame, or a mask for each frame."""

FloatsSocket = io.Custom("FLOATS")
"""ComfyUI's own for a list of numbers, as Create Hook Keyframes From Floats takes it."""

FRAME_INPUTS = [FrameValuesSocket, io.Mask, io.Float, io.Curve]
"""What an input for values over frames takes."""


def curve_input(name: str) -> io.MultiType.Input:
    """An optional input for a curve from another node; without forceInput the editor puts a curve of its own there."""
    return io.MultiType.Input(name, types=[io.Curve], optional=True, extra_dict={"forceInput": True})


BlockValuesSocket = io.Custom("LOOM_BLOCK_VALUES")
"""A factor for each block of the UNet."""

TrainingClipsSocket = io.Custom("LOOM_TRAINING_CLIPS")
"""``LatentClips``, with latents as the VAE gave them: not scaled for a model yet."""

CATEGORY = "AnimateDiff Loom"

KEY = "animatediff_loom"
"""Loom's key for wrappers, attachments, additional models and ``transformer_options``."""

CLIPS_KEY = "animatediff_loom_clips"
"""In ``transformer_options``: how many clips of equal length the latent's batch holds, one after the other."""

FRAMES_KEY = "animatediff_loom_frames"
"""In ``transformer_options``: how many frames a clip of this run has."""

PICTURE_KEY = "animatediff_loom_picture"
"""In ``transformer_options``: the ``Picture`` that prompts and tiles are parts of."""

WARNED_KEY = "animatediff_loom_warned"
"""In ``transformer_options``: whether it was said already what is likely to go wrong in this run, or in one that it goes on from."""


def _make_writable(record: logging.LogRecord) -> bool:
    record.msg, record.args = one_line(record.getMessage()), ()
    return True


logger = logging.getLogger("comfyui-animatediff-loom")
# ComfyUI's log fails, and its queue ends, at a file name that is no UTF-8.
logger.addFilter(_make_writable)
