"""Motion LoRAs on a motion model, as patches of its weights: merging, low VRAM and DynamicVRAM are ComfyUI's business."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter

from ...motion_models.config import MotionModelConfig
from ...motion_models.lora_layouts import LowRank
from ...motion_models.motion_lora import MotionLora, convert_motion_lora
from .loading import naming, read_weights_file
from .types import logger


def read_motion_lora(path: str, config: MotionModelConfig) -> MotionLora:
    """Read a motion-LoRA file, fit it to a motion model, and say what of it is left out.

    Raises:
        MotionModelError: the file cannot be read, is no motion LoRA, or does not fit; the message names the file.
    """
    name = Path(path).name
    with naming(path):
        lora = convert_motion_lora(read_weights_file(path), config, name)
    logger.info("Loaded motion LoRA '%s' for %d weights.", name, len(lora.layers))
    for notice in lora.notices:
        logger.warning("'%s': %s", name, notice)
    return lora


def load_motion_lora(motion_model: ModelPatcher, path: str, strength: float) -> ModelPatcher:
    """Return a clone of a motion model to which a motion LoRA is added; several add up.

    Raises:
        MotionModelError: see ``read_motion_lora``.
    """
    lora = read_motion_lora(path, motion_model.model.config)
    motion_model = motion_model.clone()
    add_low_rank(motion_model, lora.layers, strength)
    return motion_model


def add_low_rank(model: ModelPatcher, layers: Mapping[str, LowRank], strength: float) -> None:
    """Patch the weights of ``model``, the caller's own clone, as ComfyUI does for a LoRA."""
    if strength != 0.0:
        adapters = {
            weight: LoRAAdapter(set(), (layer.up, layer.down, layer.alpha, None, None, None))
            for weight, layer in layers.items()
        }
        model.add_patches(adapters, strength)
