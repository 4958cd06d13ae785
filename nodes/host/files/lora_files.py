"""From motion-LoRA files to LoRAs on a motion model: merged into its weights by ComfyUI where their strength is one number.

Otherwise see ``motion/lora_branches.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter

from ....motion_models.companions.low_rank import LoraNetwork, LowRank
from ....motion_models.config import MotionModelConfig
from ....motion_models.motion_lora import MotionLora, convert_motion_lora
from ..motion.lora_branches import add_steered_lora
from ..motion.steered import Steered
from ..types import KEY, logger
from .loading import naming, patcher_of, read_weights_file

_APPLIED_KEY = f"{KEY}_motion_loras"


class AppliedLora(NamedTuple):
    """A motion LoRA that was added to a motion model: for what is said of it; what it does stands elsewhere."""

    file_name: str
    strength: Steered
    notices: tuple[str, ...]


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


def load_motion_lora(motion_model: ModelPatcher, path: str, strength: Steered) -> ModelPatcher:
    """Return a clone of a motion model to which a motion LoRA is added; several add up.

    With one strength for everything it is merged into the weights, else its branches run along with them.

    Raises:
        MotionModelError: see ``read_motion_lora``.
    """
    lora = read_motion_lora(path, motion_model.model.config)
    motion_model = motion_model.clone()
    if strength.is_constant:
        add_low_rank(motion_model, lora.layers, strength.number)
    else:
        add_steered_lora(motion_model, lora_patcher(lora.layers), strength)
    applied = AppliedLora(Path(path).name, strength, lora.notices)
    motion_model.set_attachments(_APPLIED_KEY, (*applied_loras(motion_model), applied))
    return motion_model


def applied_loras(motion_model: ModelPatcher) -> tuple[AppliedLora, ...]:
    """The motion LoRAs that were added to a motion model, in their order."""
    return motion_model.get_attachment(_APPLIED_KEY) or ()


def add_low_rank(model: ModelPatcher, layers: Mapping[str, LowRank], strength: float) -> None:
    """Patch the weights of ``model``, the caller's own clone, as ComfyUI does for a LoRA."""
    if strength != 0.0:
        adapters = {
            weight: LoRAAdapter(set(), (layer.up, layer.down, layer.alpha, None, None, None))
            for weight, layer in layers.items()
        }
        model.add_patches(adapters, strength)


def lora_patcher(layers: Mapping[str, LowRank], disable_dynamic: bool = False) -> ModelPatcher:
    """Put a LoRA's matrices into ComfyUI's care, as a network of their own; see ``motion_model_patcher``."""

    def make(**options: Any) -> LoraNetwork:
        return LoraNetwork(layers, **options)

    patcher = patcher_of(make, LoraNetwork.weights(layers), disable_dynamic)
    patcher.cached_patcher_init = (lora_patcher, (layers,))
    return patcher
