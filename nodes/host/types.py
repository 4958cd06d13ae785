"""Sockets between Loom's nodes, and the keys under which Loom stands in ComfyUI's shared dicts."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ...motion_models.errors import InvalidInput as InvalidInput
from ...motion_models.errors import one_line

CATEGORY = "AnimateDiff Loom"

MotionModelSocket = io.Custom("LOOM_MOTION_MODEL")  # a ComfyUI ModelPatcher around a MotionModel
FrameValuesSocket = io.Custom("LOOM_FRAME_VALUES")  # a number for each frame, or a mask for each
BlockValuesSocket = io.Custom("LOOM_BLOCK_VALUES")  # BlockValues
CameraControlSocket = io.Custom("LOOM_CAMERA_CONTROL")  # a ComfyUI ModelPatcher around a CameraControl
CameraPathSocket = io.Custom("LOOM_CAMERA_PATH")  # CameraPath
TrainingClipsSocket = io.Custom("LOOM_TRAINING_CLIPS")  # LatentClips, as the VAE gave them: not scaled for a model yet
FloatsSocket = io.Custom("FLOATS")  # core's own for a list of numbers, as Create Hook Keyframes From Floats takes it

FRAME_INPUTS = [FrameValuesSocket, io.Mask, io.Float, io.Curve]
"""What an input for values over frames takes."""

KEY = "animatediff_loom"
"""Loom's key for wrappers, attachments, additional models and ``transformer_options``."""

# Further keys in transformer_options.
CLIPS_KEY = "animatediff_loom_clips"  # how many clips of equal length the latent's batch holds, one after the other
FRAMES_KEY = "animatediff_loom_frames"  # how many frames a clip of this run has
IMAGES_KEY = "animatediff_loom_images"  # the EncodedImages that motion models of this run animate
REFERENCES_KEY = "animatediff_loom_references"  # the EncodedReferences that image encoders of this run see
SHARE_KEY = "animatediff_loom_share"  # number of the run's first clip, and how many clips all runs for its latent have together
CAMERAS_KEY = "animatediff_loom_cameras"  # the KeptCameras of this run
PICTURE_KEY = "animatediff_loom_picture"  # the Picture that prompts and tiles are parts of
BOXES_KEY = "animatediff_loom_boxes"  # the BoxesInCall of a call whose subjects go along paths; the Trajectories of a MODEL
WITHOUT_KEY = "animatediff_loom_without"  # parts of the UNet whose motion modules this call leaves out
COMPILED_KEY = "animatediff_loom_compiled"  # the CompiledTokens of a run whose motion modules are compiled
REUSE_KEY = "animatediff_loom_reuse"  # the KeptFeatures of a run that reuses some
WARNED_KEY = "animatediff_loom_warned"  # whether the warnings of this run, or of one that it goes on from, were logged


def curve_input(name: str) -> io.MultiType.Input:
    """An optional input for a curve from another node; without forceInput the editor puts a curve of its own there."""
    return io.MultiType.Input(name, types=[io.Curve], optional=True, extra_dict={"forceInput": True})


NOTE = {"is_note": True}
"""``extra`` of a log record that is no warning, but that whoever queued the prompt should see, too: see ``notices.py``."""


def _make_writable(record: logging.LogRecord) -> bool:
    record.msg, record.args = one_line(record.getMessage()), ()
    return True


logger = logging.getLogger("comfyui-animatediff-loom")
# ComfyUI's log fails, and its queue ends, at a file name that is no UTF-8.
logger.addFilter(_make_writable)
