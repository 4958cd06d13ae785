"""Loom's nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    animatelcm_i2v,
    animation_metrics,
    apply,
    camera,
    guidance,
    image_to_animation,
    inspecting,
    latents,
    loaders,
    merging,
    noise,
    pia,
    planning,
    prompts,
    reuse_motion,
    sampler,
    sparsectrl,
    steering,
    text2video_zero,
    training,
    training_clips,
    trajectory,
    windows,
)
from .host.files.folders import register_folders
from .host.notices import pass_on_notices
from .host.routes import add_routes

register_folders()
add_routes()
pass_on_notices()


class LoomExtension(ComfyExtension):
    """AnimateDiff Loom, as ComfyUI sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return every node of the pack; the one list of them."""
        subjects = (
            loaders, merging, inspecting, apply, windows, reuse_motion, noise, prompts, steering, guidance, trajectory, sparsectrl, pia,
            animatelcm_i2v, camera, planning, latents, image_to_animation, sampler, animation_metrics, text2video_zero, training_clips,
            training,
        )  # fmt: skip
        return [node for subject in subjects for node in subject.NODES]
