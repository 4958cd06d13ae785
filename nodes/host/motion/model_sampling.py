"""Giving a MODEL the noise schedule that a motion model was trained with."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_sampling
from comfy.model_patcher import ModelPatcher

from ....motion_models.beta_schedules import BETA_SCHEDULES
from ....motion_models.config import Family, MotionModelConfig
from ....motion_models.errors import InvalidInput

AUTO = "auto"
KEEP = "keep model's"
LCM = "lcm, linear (AnimateLCM)"
_CHOSEN_KEY = "animatediff_loom_model_sampling"
BETA_CHOICES = [AUTO, KEEP, *BETA_SCHEDULES, LCM]  # what a node offers; frozen, as part of saved workflows


def choose_beta_schedule(model: ModelPatcher, config: MotionModelConfig, choice: str) -> None:
    """Set the betas a node was asked for on ``model``, the caller's own clone; ``InvalidInput`` if they don't suit it."""
    if choice == KEEP:
        return
    if choice == LCM or (choice == AUTO and config.family.distilled_timesteps):
        _set_lcm_sampling(model)
    else:
        set_beta_schedule(model, config.family.beta_schedule if choice == AUTO else choice)
    model.set_attachments(_CHOSEN_KEY, model.get_model_object("model_sampling"))


def was_changed_after(model: ModelPatcher) -> bool:
    """Whether a node that came later replaced the model sampling that ``choose_beta_schedule`` set."""
    return model.get_attachment(_CHOSEN_KEY) not in (None, model.get_model_object("model_sampling"))


def set_beta_schedule(model: ModelPatcher, name: str) -> None:
    """Change the betas of ``model``, the caller's own clone: how it predicts (EPS, V, LCM) and zero terminal SNR stay.

    One that samples over continuous time, and so has none, is refused with ``InvalidInput``.
    """
    current = model.get_model_object("model_sampling")
    if not isinstance(current, comfy.model_sampling.ModelSamplingDiscrete):
        raise InvalidInput(
            f"beta_schedule is '{name}', but the connected model samples over continuous time "
            f"({type(current).__name__}) and has no betas. Set beta_schedule to \"keep model's\", or remove the node "
            "before this one that changes the model's sampling."
        )
    # The class of the object in force carries the kind of prediction and the choice of timesteps.
    model.add_object_patch("model_sampling", type(current)(_model_config(name), zsnr=current.zsnr))


def beta_schedule_of(model_sampling: object) -> str | None:
    """Name of the betas whose sigmas, or some of them if distilled, a model has; None if not in ``BETA_SCHEDULES``."""
    if not isinstance(model_sampling, comfy.model_sampling.ModelSamplingDiscrete):
        return None
    sigmas = model_sampling.sigmas.cpu()
    for name in BETA_SCHEDULES:
        known = comfy.model_sampling.ModelSamplingDiscrete(_model_config(name), zsnr=model_sampling.zsnr).sigmas
        nearest = (known - sigmas[:, None]).abs().amin(dim=1)
        if (nearest <= 1e-4 * sigmas).all():
            return name
    return None


def _model_config(name: str) -> SimpleNamespace:
    """What ComfyUI's model sampling wants to know of a schedule."""
    schedule = BETA_SCHEDULES[name]
    # ComfyUI's "linear" is what papers call scaled linear, and its "sqrt_linear" what they call linear.
    kind = "linear" if schedule.scaled else "sqrt_linear"
    settings = {"beta_schedule": kind, "linear_start": schedule.start, "linear_end": schedule.end}
    return SimpleNamespace(sampling_settings=settings)


def _set_lcm_sampling(model: ModelPatcher) -> None:
    """Sample as AnimateLCM was distilled: on 100 timesteps of AnimateDiff's linear schedule.

    Core's ModelSamplingDiscrete node has LCM on 50 timesteps of Stable Diffusion's schedule. With the scheduler ``simple``
    the steps are those of the official pipeline. Source: Wang et al. 2024, arXiv:2402.00769, and its ``LCMScheduler``.
    """
    current = model.get_model_object("model_sampling")
    is_eps = isinstance(current, comfy.model_sampling.EPS) and not isinstance(current, comfy.model_sampling.V_PREDICTION)
    if not isinstance(current, comfy.model_sampling.ModelSamplingDiscrete) or not is_eps:
        raise InvalidInput(
            f"beta_schedule '{LCM}' needs a model that predicts noise; the connected one samples as "
            f"{type(current).__name__}. Connect an ordinary SD1.5 model, or set beta_schedule to \"keep model's\"."
        )
    # Only here, because core's nodes bring all of ComfyUI along.
    from comfy_extras import nodes_model_advanced as core

    class AnimateLCMSampling(core.ModelSamplingDiscreteDistilled, core.LCM):
        original_timesteps = Family.LCM.distilled_timesteps

    model.add_object_patch("model_sampling", AnimateLCMSampling(_model_config(Family.LCM.beta_schedule), zsnr=current.zsnr))
