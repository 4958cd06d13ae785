"""A training run in ComfyUI, from MODEL and clips to a motion model: what the node and ``loom.py train`` share."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher

from ....motion_models.config import Family, MotionModelConfig
from ....motion_models.errors import IncompatibleMotionModel
from ....motion_models.training.engine import Engine, OneDevice
from ....motion_models.training.errors import InvalidSettings, TrainingDataError
from ....motion_models.training.initialise import motion_model_to_continue, new_motion_model
from ....motion_models.training.latent_clips import LatentClips
from ....motion_models.training.settings import TrainingSettings
from ....motion_models.training.trainer import Trainer
from ..charts.loss_plot import draw_losses
from ..files.loading import motion_model_patcher, temporal_attention
from ..files.saving import merged_weights
from ..motion.cameras import camera_of
from ..motion.unet import misfit_of_pooled
from ..provenance import file_name
from ..types import logger
from .frozen_base import FrozenBase, check_start, config_for, prediction_of

_PREVIEW_SECONDS = 2


@dataclass(frozen=True)
class StartingPoint:
    """A motion model to continue training; ``name`` is its file's, for the trained file's metadata."""

    name: str
    config: MotionModelConfig
    weights: dict[str, torch.Tensor]


def make_trainer(
    model: ModelPatcher, clips: LatentClips, start: Family | StartingPoint, settings: TrainingSettings, *,
    folder: Path | None = None, engine: Engine | None = None,
) -> Trainer:  # fmt: skip
    """Get everything ready to train on latents as the VAE gave them; call this and the trainer outside inference mode.

    It starts from a new motion model of a family, or continues one. How the model predicts, and the family's noise
    schedule, replace what the settings say of these.

    Raises:
        IncompatibleMotionModel: model, motion model and number of frames don't go together.
        TrainingError: the clips are another model's, or see ``Trainer``.
    """
    check_start(model, start if isinstance(start, Family) else start.config)
    prediction, zero_terminal_snr = prediction_of(model)
    if isinstance(start, Family):
        config = config_for(model, start, clips.frames)
    else:
        config = replace(start.config, trained_frames=clips.frames)
    if clips.frames > config.max_frames:
        raise IncompatibleMotionModel(
            f"Clips of {clips.frames} frames are too long for the motion model, which has positions for "
            f"{config.max_frames}. Load clips of that many frames or fewer."
        )
    _check_clips(model, clips)
    settings = replace(
        settings, prediction=prediction, zero_terminal_snr=zero_terminal_snr, beta_schedule=config.family.beta_schedule
    )
    if isinstance(start, Family):
        motion_model = new_motion_model(config, temporal_attention(), settings.seed)
    else:
        motion_model = motion_model_to_continue(config, start.weights, temporal_attention())
    base = FrozenBase(model, motion_model, clips.frames, settings.dtype, settings.gradient_checkpointing)
    clips = clips.map_latents(model.model.process_latent_in)
    return Trainer(motion_model, base, clips, settings, folder, engine or OneDevice(base.device), base.hash)


def _check_clips(model: ModelPatcher, clips: LatentClips) -> None:
    unet: UNetModel = model.get_model_object("diffusion_model")
    channels = clips.latent_size[0]
    if channels != unet.in_channels:
        raise TrainingDataError(
            f"The clips' latents have {channels} channels, but the model expects {unet.in_channels}. Load the clips with the VAE "
            "of this model."
        )
    sample = clips.sample(0, 0)
    width = sample.context.shape[-1]
    transformer = next((module for module in unet.modules() if isinstance(module, SpatialTransformer)), None)
    wanted = transformer.transformer_blocks[0].attn2.to_k.in_features if transformer is not None else width
    if width != wanted:
        raise TrainingDataError(
            f"The captions' embeddings are {width} wide, but the model expects {wanted}. Load the clips with the text encoder of "
            "this model."
        )
    misfit = misfit_of_pooled(unet, sample.pooled)
    if misfit:
        raise TrainingDataError(f"The captions' {misfit}. Load the clips again, with the text encoder of this model.")


def training_metadata(trainer: Trainer, start: Family | StartingPoint) -> dict[str, str]:
    """What a trained file says of its training: where it started, recipe, clips, steps done, mean of the last losses."""
    last = trainer.losses[-100:]
    return {
        "loom_started_from": "scratch" if isinstance(start, Family) else start.name,
        "loom_recipe": json.dumps(asdict(trainer.settings)),
        "loom_clips_sha256": trainer.clips.data_hash,
        "loom_steps": str(trainer.step),
        "loom_last_loss": f"{sum(last) / len(last):.6f}" if last else "",
    }


def train_in_graph(
    model: ModelPatcher, clips: LatentClips, start: Family | ModelPatcher, settings: TrainingSettings, checkpoint_name: str
) -> tuple[ModelPatcher, list[float], int]:
    """Train as a node does: with ComfyUI's progress bar, interrupt and memory.

    Gives the trained motion model, the loss of each step, and the number of steps. Without a ``checkpoint_name`` no
    checkpoints are kept. Raises what ``make_trainer`` and ``Trainer.run`` do.
    """
    folder = checkpoint_folder(checkpoint_name)
    # Nodes run in inference mode, whose tensors have no place in a gradient.
    with torch.inference_mode(False):
        is_new = isinstance(start, Family)
        if not is_new:
            check_has_no_camera(start)
        begin = start if is_new else StartingPoint(file_name(start), start.model.config, merged_weights(start))
        trainer = make_trainer(model, clips, begin, settings, folder=folder)
        if trainer.step:
            logger.info("Training continues from step %d, in '%s'.", trainer.step, folder)
        _run_with_progress(trainer)
        config, weights = trainer.motion_model.config, trainer.weights()
    name = checkpoint_name or "trained motion model"
    return motion_model_patcher(config, weights, name, training_metadata(trainer, begin)), trainer.losses, trainer.step


def check_has_no_camera(motion_model: ModelPatcher) -> None:
    """Raise ``IncompatibleMotionModel`` for a motion model whose camera goes along a path: training clips have none."""
    if camera_of(motion_model) is not None:
        raise IncompatibleMotionModel(
            f"'{file_name(motion_model)}' has a camera path, which training clips do not. Connect the motion model from before "
            "Apply CameraCtrl."
        )


def _run_with_progress(trainer: Trainer) -> None:
    bar = comfy.utils.ProgressBar(trainer.settings.steps)
    bar.update_absolute(trainer.step)
    shown = time.monotonic()
    with closing(trainer.run()) as results:
        for result in results:
            preview = None
            if time.monotonic() - shown > _PREVIEW_SECONDS:
                shown = time.monotonic()
                preview = ("JPEG", draw_losses(trainer.losses, trainer.settings.steps), None)
            bar.update_absolute(result.step, trainer.settings.steps, preview)


def checkpoint_folder(name: str) -> Path | None:
    """A run's folder under ComfyUI's output folder; None for no name, InvalidSettings for a bad one."""
    name = name.strip()
    if not name:
        return None
    if not re.fullmatch(r"[\w][\w .-]*", name):
        raise InvalidSettings(
            f"checkpoint_name is '{name}'. Expected letters, digits, spaces, dots, hyphens and underscores: it names a "
            "folder in output/loom_training/checkpoints."
        )
    return Path(folder_paths.get_output_directory(), "loom_training", "checkpoints", name)
