"""Giving a MODEL the noise schedule that a motion model was trained with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import comfy.model_sampling
import torch
from comfy.model_base import model_sampling
from comfy.model_patcher import ModelPatcher

from ....motion_models.beta_schedules import BETA_SCHEDULES, LINEAR, SCALED_LINEAR
from ....motion_models.config import Family, MotionModelConfig
from ....motion_models.errors import InvalidInput

AUTO = "auto"
KEEP = "keep model's"
LCM, LCM_I2V = "lcm, linear (AnimateLCM)", "lcm, linear 0.014 (AnimateLCM-I2V)"
MEAN = "mean of linear and scaled_linear"
PREDICTIONS = [AS_CONNECTED, AS_CHECKPOINT] = ["as connected", "as the checkpoint does"]
_CHOSEN_KEY = "animatediff_loom_model_sampling"


class _Choice(NamedTuple):
    schedule: str  # a key into _SCHEDULES
    lcm_timesteps: int | None = None  # of a latent consistency model, out of 1000; None: the model predicts as before


_OF_COMFYUI = {f"{name} (ComfyUI)": name for name in ("sqrt", "cosine")}
_SCHEDULES = {name: (name,) for name in (*BETA_SCHEDULES, *_OF_COMFYUI)} | {MEAN: (LINEAR, SCALED_LINEAR)}
"""Noise schedules, and those whose sigmas are averaged for each."""
_CHOICES = {
    **{name: _Choice(name) for name in BETA_SCHEDULES},
    LCM: _Choice(Family.LCM.beta_schedule, Family.LCM.distilled_timesteps),
    LCM_I2V: _Choice(Family.LCM_I2V.beta_schedule, Family.LCM_I2V.distilled_timesteps),
    **{f"lcm 50, {name}": _Choice(name, 50) for name in (SCALED_LINEAR, LINEAR, MEAN)},
    f"lcm 100, {SCALED_LINEAR}": _Choice(SCALED_LINEAR, 100),
    **{name: _Choice(name) for name in (MEAN, *_OF_COMFYUI)},
}
BETA_CHOICES = [AUTO, KEEP, *_CHOICES]  # what a node offers; frozen, as part of saved workflows


def choose_beta_schedule(model: ModelPatcher, config: MotionModelConfig, choice: str) -> None:
    """Set the betas a node was asked for on ``model``, the caller's own clone; ``InvalidInput`` if they don't suit it."""
    if choice == AUTO:
        of_family = _Choice(config.family.beta_schedule, config.family.distilled_timesteps)
        choice = next(name for name, known in _CHOICES.items() if known == of_family)
    _set_choice(model, choice)


def _set_choice(model: ModelPatcher, choice: str) -> None:
    if choice == KEEP:
        return
    schedule, lcm_timesteps = _CHOICES[choice]
    if lcm_timesteps is None:
        set_beta_schedule(model, schedule)
    else:
        _set_lcm_sampling(model, choice)
    model.set_attachments(_CHOSEN_KEY, model.get_model_object("model_sampling"))


def with_noise_schedule(model: ModelPatcher, choice: str, prediction: str) -> ModelPatcher:
    """A clone of MODEL with other betas, and with the checkpoint's own way to predict if ``prediction`` asks for it."""
    model = model.clone()
    if prediction == AS_CHECKPOINT:
        model.add_object_patch("model_sampling", model_sampling(model.model.model_config, model.model.model_type))
    _set_choice(model, choice)
    return model


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
    model.add_object_patch("model_sampling", _sampling(type(current), name, current.zsnr))


def beta_schedule_of(model_sampling: object) -> str | None:
    """Name of the noise schedule that a model's sigmas are, or of which they are some if distilled; None if unknown."""
    if not isinstance(model_sampling, comfy.model_sampling.ModelSamplingDiscrete):
        return None
    sigmas = model_sampling.sigmas.cpu()
    for name in _SCHEDULES:
        known = _sampling(comfy.model_sampling.ModelSamplingDiscrete, name, model_sampling.zsnr).sigmas
        nearest = (known - sigmas[:, None]).abs().amin(dim=1)
        if (nearest <= 1e-4 * sigmas).all():
            return name
    return None


def _sampling(kind: type, name: str, zsnr: bool) -> comfy.model_sampling.ModelSamplingDiscrete:
    each = [kind(SimpleNamespace(sampling_settings=_settings(schedule)), zsnr=zsnr) for schedule in _SCHEDULES[name]]
    if len(each) > 1:
        each[0].set_sigmas(torch.stack([sampling.sigmas for sampling in each]).mean(dim=0))
    return each[0]


def _settings(schedule: str) -> dict[str, str | float]:
    """What ComfyUI's model sampling wants to know of a schedule."""
    if schedule in _OF_COMFYUI:
        return {"beta_schedule": _OF_COMFYUI[schedule]}
    betas = BETA_SCHEDULES[schedule]
    # ComfyUI's "linear" is what papers call scaled linear, and its "sqrt_linear" what they call linear.
    kind = "linear" if betas.scaled else "sqrt_linear"
    return {"beta_schedule": kind, "linear_start": betas.start, "linear_end": betas.end}


def _set_lcm_sampling(model: ModelPatcher, choice: str) -> None:
    """Sample a latent consistency model.

    AnimateLCM was distilled on 100 timesteps of AnimateDiff's linear schedule: with the scheduler ``simple`` the steps are
    those of the official pipeline. AnimateLCM-I2V was on 200 of a schedule of its own. Source: Wang et al. 2024,
    arXiv:2402.00769, its ``LCMScheduler`` and ``inference-i2v.yaml``. Core's ModelSamplingDiscrete node has LCM on 50
    timesteps of Stable Diffusion's schedule.
    """
    current = model.get_model_object("model_sampling")
    is_eps = isinstance(current, comfy.model_sampling.EPS) and not isinstance(current, comfy.model_sampling.V_PREDICTION)
    if not isinstance(current, comfy.model_sampling.ModelSamplingDiscrete) or not is_eps:
        raise InvalidInput(
            f"beta_schedule '{choice}' needs a model that predicts noise; the connected one samples as "
            f"{type(current).__name__}. Connect an ordinary SD1.5 model, or set beta_schedule to \"keep model's\"."
        )
    # Only here, because core's nodes bring all of ComfyUI along.
    from comfy_extras import nodes_model_advanced as core

    class LcmSampling(core.ModelSamplingDiscreteDistilled, core.LCM):
        original_timesteps = _CHOICES[choice].lcm_timesteps

    model.add_object_patch("model_sampling", _sampling(LcmSampling, _CHOICES[choice].schedule, current.zsnr))
