"""Runs whose subjects go along paths: what is checked when one begins, and the noise that travels with the boxes."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ....animation.trajectories import travelling_noise
from ..motion.box_attention import Trajectory, add_trajectory, trajectories_of
from ..motion.carrying import let_carry
from ..types import KEY, InvalidInput, logger
from .clip_seeds import MAX_SEED, clip_seed
from .run_wrappers import DRAWN_NOISE_KEY, TRAJECTORIES_KEY, check_is_batch_of_frames, clips_of, setting_of, wrap_run

_SEED_OF_PATCHES = 0x7AC5  # added to a clip's, so that a patch is no part of the clip's own noise


def set_trajectory(model: ModelPatcher, trajectory: Trajectory) -> None:
    """Let one more subject go along a path in runs of ``model``, the caller's own clone."""
    add_trajectory(model, trajectory)
    let_carry(model)
    wrap_run(model, TRAJECTORIES_KEY, _outer_sample)


def _outer_sample(
    executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None, **kwargs: Any
):
    check_is_batch_of_frames(noise, "Trajectory")
    guider = executor.class_obj
    model = guider.model_patcher
    if not model.get_additional_models_with_key(KEY):
        logger.warning("Trajectory moves nothing without a motion model: the frames would not belong together. Add Apply Motion Model.")
    drawn = setting_of(model, DRAWN_NOISE_KEY)
    seed_of_run = drawn.seed_of(seed or 0) if drawn else seed or 0
    each = [
        with_travelling_noise(clip, trajectories_of(model), clip_seed(seed_of_run, number))
        for number, clip in enumerate(noise.chunk(clips_of(guider)))
    ]
    if torch.count_nonzero(noise):  # a sampler that adds none keeps none
        noise = torch.cat(each)
    return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)


def with_travelling_noise(noise: Tensor, trajectories: tuple[Trajectory, ...], seed: int) -> Tensor:
    """One clip's noise ``(f, c, h, w)`` with a patch for each box; InvalidInput where a path does not fit its frames."""
    for number, trajectory in enumerate(trajectories):
        boxes = trajectory.boxes(len(noise))
        if trajectory.noise:
            noise = travelling_noise(noise, boxes, trajectory.noise, (seed + _SEED_OF_PATCHES + number) & MAX_SEED)
    return noise


def paths_of(model: ModelPatcher, frames: int, are_known: bool) -> list[Tensor] | ExecutionBlocker:
    """The boxes of all of a MODEL's trajectories; InvalidInput where a path does not fit so many frames.

    Where these are no clip's, ``are_known`` being false, that is said only where the output is used that the result stands for.
    """
    try:
        return [trajectory.boxes(frames) for trajectory in trajectories_of(model)]
    except InvalidInput as error:
        if are_known:
            raise
        return ExecutionBlocker(f"{error} The preview has {frames} frames: connect the clip's latent to latent.")
