"""Model folders. Their ids are the ones other packs use, so that users' files and extra_model_paths.yaml serve as they are."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ....motion_models.errors import UnreadableFile, shorten

MOTION_MODELS = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"
DOMAIN_ADAPTERS = ("loras", MOTION_LORAS)
"""A domain adapter is a LoRA, but users of other packs keep it beside their motion LoRAs too."""


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


def motion_lora_names() -> list[str]:
    """File names to offer, relative to the motion-LoRA folders."""
    return folder_paths.get_filename_list(MOTION_LORAS)


def domain_adapter_names() -> list[str]:
    """File names to offer, relative to the LoRA folders, then those that only the motion-LoRA folders have."""
    return list(dict.fromkeys(name for folder in DOMAIN_ADAPTERS for name in folder_paths.get_filename_list(folder)))


def motion_model_path(name: str) -> str:
    """Full path of an offered file name; see ``_full_path``."""
    return _full_path(name, "Motion model", MOTION_MODELS)


def motion_lora_path(name: str) -> str:
    """Full path of an offered file name; see ``_full_path``."""
    return _full_path(name, "Motion LoRA", MOTION_LORAS)


def domain_adapter_path(name: str) -> str:
    """Full path of an offered file name; see ``_full_path``."""
    return _full_path(name, "Domain adapter", *DOMAIN_ADAPTERS)


def _full_path(name: str, kind: str, *folders: str) -> str:
    """Full path of a file name, in the first of the folders that has it.

    Raises:
        UnreadableFile: the file is gone, or was never in the folders.
    """
    paths = (folder_paths.get_full_path(folder, name) for folder in folders)
    found = next((path for path in paths if path is not None), None)
    if found is None:
        places = " or ".join(f"models/{folder}" for folder in folders)
        raise UnreadableFile(
            f"{kind} '{shorten(name)}' was not found in {places}. Put the file there, or choose another one "
            "(press R in the editor to refresh the list)."
        )
    return found
