"""Model folders. Their ids are the ones other packs use, so that users' files and extra_model_paths.yaml serve as they are."""

from __future__ import annotations

from pathlib import Path

import folder_paths

MOTION_MODELS = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"


def register_folders() -> None:
    """Add Loom's model folders to ComfyUI's, beside whatever the user's configuration names for the same ids."""
    for folder in (MOTION_MODELS, MOTION_LORAS):
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.models_dir) / folder))
        paths, extensions = folder_paths.folder_names_and_paths[folder]
        # Where Save Motion Model puts its files, as ComfyUI finds those of its own nodes that save.
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.get_output_directory()) / folder))
        # A folder that ComfyUI does not know starts without extensions, which it takes for "every file".
        folder_paths.folder_names_and_paths[folder] = (paths, set(extensions) | folder_paths.supported_pt_extensions)


def motion_model_names() -> list[str]:
    """File names to offer, relative to the motion-model folders."""
    return folder_paths.get_filename_list(MOTION_MODELS)


def motion_model_path(name: str) -> str:
    """Full path of an offered file name.

    Raises:
        FileNotFoundError: the file is gone, or was never in the motion-model folders.
    """
    path = folder_paths.get_full_path(MOTION_MODELS, name)
    if path is None:
        folders = ", ".join(f"'{path}'" for path in folder_paths.get_folder_paths(MOTION_MODELS))
        raise FileNotFoundError(
            f"Motion model '{name}' was not found in {folders}. Put the file there, or choose another one "
            "(press R in the editor to refresh the list)."
        )
    return path
