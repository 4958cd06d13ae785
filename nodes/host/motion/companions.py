"""Companions of a motion model: additional models of its patcher, which ComfyUI loads, counts and frees with it."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from ....motion_models.companions import Companion
from ..types import KEY


def add_companion(motion_patcher: ModelPatcher, kind: Companion, companion: ModelPatcher) -> None:
    """Add a companion to ``motion_patcher``, the caller's own."""
    motion_patcher.set_additional_models(f"{KEY}_{kind.name}", [*companions_of(motion_patcher, kind), companion])


def set_companion(motion_patcher: ModelPatcher, kind: Companion, companion: ModelPatcher) -> None:
    """Let a companion be the only one of its kind of ``motion_patcher``, the caller's own."""
    motion_patcher.set_additional_models(f"{KEY}_{kind.name}", [companion])


def companions_of(motion_patcher: ModelPatcher, kind: Companion) -> list[ModelPatcher]:
    return motion_patcher.get_additional_models_with_key(f"{KEY}_{kind.name}")
