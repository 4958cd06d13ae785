"""From a motion model in ComfyUI's care to a file in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher

from ...motion_models import checkpoint
from ...motion_models.errors import IncompatibleMotionModel
from .loading import file_metadata, file_name
from .motion_lora import steered_loras
from .types import logger

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def save_motion_model(
    motion_model: ModelPatcher, filename_prefix: str, dtype: str, prompt: Any = None, extra_pnginfo: Any = None
) -> Path:
    """Write a motion model as safetensors, in the layout that every AnimateDiff program reads.

    Args:
        motion_model: the patcher.
        filename_prefix: as in ComfyUI's own nodes that save: under the output folder, with a number behind it.
        dtype: a key of ``DTYPES``.
        prompt: the workflow as it runs, for the metadata; left out where the user has switched that off.
        extra_pnginfo: the workflow as the editor knows it, alike.

    Raises:
        IncompatibleMotionModel: it has a motion LoRA whose strength varies.
        MotionModelError: the dtype cannot hold the weights, or the file cannot be written.
    """
    if steered_loras(motion_model):
        raise IncompatibleMotionModel(
            f"'{file_name(motion_model)}' has a motion LoRA whose strength varies over frames or steps, which no file can hold. "
            "Disconnect strength_values and strength_steps of Load Motion LoRA, then save it."
        )
    # With whatever patches it has.
    comfy.model_management.load_models_gpu([motion_model], force_patch_weights=True)
    state = motion_model.model_state_dict_for_saving()
    weights = {name: tensor.to("cpu").to(DTYPES[dtype]) for name, tensor in state.items()}
    metadata = file_metadata(motion_model)
    if not args.disable_metadata:
        metadata |= {"prompt": json.dumps(prompt)} if prompt is not None else {}
        metadata |= {name: json.dumps(value) for name, value in (extra_pnginfo or {}).items()}
    folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
    path = Path(folder, f"{name}_{counter:05}_.safetensors")
    checkpoint.save(path, motion_model.model.config, weights, metadata)
    logger.info("Saved '%s'.", path)
    return path
