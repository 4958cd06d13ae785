"""What is put around a whole sampling run, in the order in which it has to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....motion_models.errors import InvalidInput
from ..types import CLIPS_KEY

DRAWN_NOISE_KEY = "animatediff_loom_drawn_noise"
FREENOISE_KEY = "animatediff_loom_freenoise"
SHARED_NOISE_KEY = "animatediff_loom_shared_noise"
TRAJECTORIES_KEY = "animatediff_loom_travelling_noise"
FREEINIT_KEY = "animatediff_loom_freeinit"
NOISE_KEYS = (FREENOISE_KEY, SHARED_NOISE_KEY, TRAJECTORIES_KEY)
"""Of what changes the noise that there is, in this order."""


def wrap_run(model: ModelPatcher, key: str, wrapper: Callable) -> None:
    """Put an ``OUTER_SAMPLE`` wrapper around ``model``, the caller's own clone, in place of an earlier one of this key.

    ComfyUI calls wrappers in the order of the nodes in a workflow. But drawing, FreeNoise and shared noise give a run its noise,
    FreeInit repeats all of a run from there, and everything else belongs to one repeat of it.
    """
    wrappers = {**model.wrappers.get(WrappersMP.OUTER_SAMPLE, {}), key: [wrapper]}
    first = {key: wrappers.pop(key) for key in (DRAWN_NOISE_KEY, *NOISE_KEYS, FREEINIT_KEY) if key in wrappers}
    model.wrappers[WrappersMP.OUTER_SAMPLE] = first | wrappers


def setting_of(model: ModelPatcher, key: str) -> Any:
    """The ``setting`` of the wrapper with this key; None if there is none."""
    wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, key)
    return wrappers[0].setting if wrappers else None


def clips_of(guider) -> int:
    """Number of clips that a run's batch holds."""
    return guider.model_options["transformer_options"].get(CLIPS_KEY, 1)


def check_is_batch_of_frames(latent: Tensor, name: str) -> None:
    """Refuse latents, or noise, of video models, in which frames are a dimension of their own, with ``InvalidInput``."""
    if latent.is_nested or latent.ndim != 4:
        raise InvalidInput(
            f"{name} needs a latent whose batch holds the frames, as in AnimateDiff, but this one is a video model's. Remove "
            f"{name}."
        )
