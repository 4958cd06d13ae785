"""Giving a MODEL the noise schedule that a motion model was trained with."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_sampling
from comfy.model_patcher import ModelPatcher

from ...motion_models.beta_schedules import BETA_SCHEDULES
from ...motion_models.config import MotionModelConfig
from ...motion_models.errors import IncompatibleMotionModel

AUTO = "auto"
KEEP = "keep model's"
BETA_CHOICES = [AUTO, KEEP, *BETA_SCHEDULES]
"""What a node offers; frozen, as part of saved workflows."""


def choose_beta_schedule(model: ModelPatcher, config: MotionModelConfig, choice: str) -> None:
    """Set the betas a node was asked for on ``model``, the caller's own clone.

    Raises:
        IncompatibleMotionModel: see ``set_beta_schedule``; or an unknown choice.
    """
    if choice == KEEP:
        return
    if choice != AUTO and choice not in BETA_SCHEDULES:
        raise IncompatibleMotionModel(f"beta_schedule '{choice}' is unknown. Choose one of: {', '.join(BETA_CHOICES)}.")
    set_beta_schedule(model, config.family.beta_schedule if choice == AUTO else choice)


def set_beta_schedule(model: ModelPatcher, name: str) -> None:
    """Change a MODEL's betas and nothing else: how it predicts (EPS, V, LCM) and zero terminal SNR stay.

    Args:
        model: a clone of the caller's; changed in place.
        name: key into ``BETA_SCHEDULES``.

    Raises:
        IncompatibleMotionModel: the model has no betas, because it samples over continuous time.
    """
    current = model.get_model_object("model_sampling")
    if not isinstance(current, comfy.model_sampling.ModelSamplingDiscrete):
        raise IncompatibleMotionModel(
            f"beta_schedule is '{name}', but the connected model samples over continuous time "
            f"({type(current).__name__}) and has no betas. Set beta_schedule to \"keep model's\", or remove the node "
            "before this one that changes the model's sampling."
        )
    schedule = BETA_SCHEDULES[name]
    settings = {
        # ComfyUI's "linear" is what papers call scaled linear, and its "sqrt_linear" what they call linear.
        "beta_schedule": "linear" if schedule.scaled else "sqrt_linear",
        "linear_start": schedule.start,
        "linear_end": schedule.end,
    }
    # The class of the object in force carries the kind of prediction and the choice of timesteps.
    model_sampling = type(current)(SimpleNamespace(sampling_settings=settings), zsnr=current.zsnr)
    model.add_object_patch("model_sampling", model_sampling)
