"""From a motion model in ComfyUI's care to a file in ComfyUI's output folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args
from comfy.lora import calculate_weight
from comfy.model_patcher import ModelPatcher

from ....motion_models import checkpoint
from ....motion_models.companions import COMPANIONS
from ....motion_models.config import Family
from ....motion_models.errors import IncompatibleMotionModel, InvalidInput, shorten
from ....motion_models.layouts import Layout
from ..motion.companions import companions_of
from ..motion.lora_branches import steered_loras
from ..provenance import file_metadata, file_name
from ..types import logger

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
LAYOUTS = {"AnimateDiff": Layout.ANIMATEDIFF, "Diffusers": Layout.DIFFUSERS, "HotshotXL": Layout.HOTSHOT}
"""What nodes offer; frozen, as part of saved workflows."""


def save_motion_model(
    motion_model: ModelPatcher, filename_prefix: str, dtype: str,
    layout: str = "AnimateDiff", prompt: Any = None, extra_pnginfo: Any = None,
) -> Path:  # fmt: skip
    """Write a motion model as safetensors, with whatever is merged into its weights, and return where.

    ``dtype`` and ``layout`` are keys of ``DTYPES`` and ``LAYOUTS``; the other arguments are those of ComfyUI's own
    nodes that save. Where the user has switched metadata off, the workflow is left out.

    Raises:
        IncompatibleMotionModel: it has a motion LoRA whose strength varies.
        InvalidInput: the layout would make another family of it, or the prefix cannot be a file's name.
        MotionModelError: the dtype cannot hold the weights, or the file cannot be written.
    """
    family = motion_model.model.config.family
    if LAYOUTS[layout] is Layout.HOTSHOT and family is not Family.HOTSHOT:
        raise InvalidInput(
            f"the layout HotshotXL is only for HotshotXL, but this motion model is {family.title}. "
            "Choose AnimateDiff or Diffusers."
        )
    given = f"filename_prefix is '{shorten(filename_prefix)}'"
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in filename_prefix):
        raise InvalidInput(f"{given}. Expected characters that file names can have.")
    output = os.path.abspath(folder_paths.get_output_directory())
    if not Path(os.path.abspath(os.path.join(output, filename_prefix))).is_relative_to(output):
        raise InvalidInput(f"{given}, which leads out of ComfyUI's output folder.")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, output)
    weights = merged_weights(motion_model, DTYPES[dtype])
    brought = ((kind, companion) for kind in COMPANIONS for companion in companions_of(motion_model, kind))
    companions = {kind: merged_weights(companion, DTYPES[dtype]) for kind, companion in brought}
    metadata = file_metadata(motion_model)
    if not args.disable_metadata:
        metadata |= {"prompt": json.dumps(prompt)} if prompt is not None else {}
        metadata |= {name: json.dumps(value) for name, value in (extra_pnginfo or {}).items()}
    path = Path(folder, f"{name}_{counter:05}_.safetensors")
    checkpoint.save(path, motion_model.model.config, weights, metadata, LAYOUTS[layout], companions)
    logger.info("Saved '%s'.", path)
    return path


def merged_weights(motion_model: ModelPatcher, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A motion model's weights with its LoRAs and mergers in them, worked out in float32 on the CPU and rounded once.

    Raises ``IncompatibleMotionModel`` where the strength of a motion LoRA varies.
    """
    if steered_loras(motion_model):
        raise IncompatibleMotionModel(
            f"'{file_name(motion_model)}' has a motion LoRA whose strength varies over frames or steps, "
            "which cannot be part of its weights. "
            "Disconnect strength_values and strength_steps of Load Motion LoRA, then save or train it."
        )
    # Core's model_state_dict_for_saving adds patches to a small layer twice once DynamicVRAM has loaded it.
    return {
        name: calculate_weight(patches, weight.to("cpu", torch.float32, copy=True), name).to(dtype)
        for name, ((weight, _), *patches) in motion_model.get_key_patches().items()
    }
