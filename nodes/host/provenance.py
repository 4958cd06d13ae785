"""Where a motion model comes from: what messages call it, and what a file of it is to say of itself."""

from __future__ import annotations

from collections.abc import Mapping

from comfy.model_patcher import ModelPatcher

from .types import KEY

_FILE_NAME_KEY = f"{KEY}_file_name"
_METADATA_KEY = f"{KEY}_metadata"


def set_provenance(motion_patcher: ModelPatcher, name: str, metadata: Mapping[str, str] | None) -> None:
    """Set ``motion_patcher``, the caller's own, to be called ``name`` and to say ``metadata`` of itself in a file."""
    motion_patcher.set_attachments(_FILE_NAME_KEY, name)
    motion_patcher.set_attachments(_METADATA_KEY, dict(metadata or {}))


def file_name(motion_patcher: ModelPatcher) -> str:
    return motion_patcher.get_attachment(_FILE_NAME_KEY) or "motion model"


def file_metadata(motion_patcher: ModelPatcher) -> dict[str, str]:
    return dict(motion_patcher.get_attachment(_METADATA_KEY) or {})
