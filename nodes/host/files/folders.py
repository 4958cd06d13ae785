"""Model folders, with the ids of other packs, so that users' files and extra_model_paths.yaml serve as they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import folder_paths

from ....motion_models.errors import UnreadableFile, shorten

MOTION_MODELS = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"


def register_folders() -> None:
    """Add Loom's model folders to ComfyUI's, after whatever the user's configuration names for the same ids."""
    for folder in (MOTION_MODELS, MOTION_LORAS):
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.models_dir) / folder))
        paths, extensions = folder_paths.folder_names_and_paths[folder]
        # Where Save Motion Model puts its files, as ComfyUI finds those of its own nodes that save.
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.get_output_directory()) / folder))
        # A folder that ComfyUI does not know starts without extensions, which it takes for "every file".
        folder_paths.folder_names_and_paths[folder] = (paths, set(extensions) | folder_paths.supported_pt_extensions)


class OfferedFiles(NamedTuple):
    """Files of one kind, as nodes offer them: by names relative to their folders, those of the first folder first."""

    kind: str  # as messages begin
    folders: tuple[str, ...]

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for folder in self.folders for name in folder_paths.get_filename_list(folder)))

    def path(self, name: str) -> str:
        """Full path of a file; raises ``UnreadableFile`` where it is gone, or was never there."""
        paths = (folder_paths.get_full_path(folder, name) for folder in self.folders)
        found = next((path for path in paths if path is not None), None)
        if found is None:
            places = " or ".join(f"models/{folder}" for folder in self.folders)
            raise UnreadableFile(
                f"{self.kind} '{shorten(name)}' was not found in {places}. Put the file there, or choose another one "
                "(press R in the editor to refresh the list)."
            )
        return found


def fingerprint(name: str | None, path_of: Callable[[str], str]) -> tuple:
    """What changes when an offered file does; nothing where the name is not known yet."""
    if name is None:
        return ()
    status = os.stat(path_of(name))
    return name, status.st_mtime_ns, status.st_size


MOTION_MODEL_FILES = OfferedFiles("Motion model", (MOTION_MODELS,))
MOTION_LORA_FILES = OfferedFiles("Motion LoRA", (MOTION_LORAS,))
DOMAIN_ADAPTER_FILES = OfferedFiles("Domain adapter", ("loras", MOTION_LORAS))
"""A domain adapter is a LoRA, but users of other packs keep it with their motion LoRAs."""
SPARSE_CONTROL_FILES = OfferedFiles("SparseCtrl", ("controlnet",))
CAMERA_CONTROL_FILES = OfferedFiles("CameraCtrl", (MOTION_MODELS,))
"""Other packs look for it there."""
