"""Motion LoRAs on a motion model: merged into its weights by ComfyUI, or beside them where their strength varies.

Merged, a LoRA is a patch of the motion model's patcher. Beside it, its matrices are an additional model of that patcher, with
the strength as an attachment: loaded, cast, counted and freed with it, and looked up at every call of the UNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from torch import nn

from ....motion_models.config import MotionModelConfig
from ....motion_models.low_rank import LowRank, SideNetwork
from ....motion_models.motion_lora import MotionLora, convert_motion_lora
from ..motion.steered import Steered
from ..motion.unet_call import UNetCall
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

    With one strength for everything it is merged into the weights, else it runs beside them.

    Raises:
        MotionModelError: see ``read_motion_lora``.
    """
    lora = read_motion_lora(path, motion_model.model.config)
    motion_model = motion_model.clone()
    if strength.is_constant:
        add_low_rank(motion_model, lora.layers, strength.number)
    else:
        side = side_patcher(lora.layers)
        side.set_attachments(KEY, strength)
        motion_model.set_additional_models(KEY, [*motion_model.get_additional_models_with_key(KEY), side])
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


def side_patcher(layers: Mapping[str, LowRank], disable_dynamic: bool = False) -> ModelPatcher:
    """Put a LoRA's matrices into ComfyUI's care, as a network of their own; see ``motion_model_patcher``."""

    def make(**made: Any) -> SideNetwork:
        return SideNetwork(layers, **made)

    patcher = patcher_of(make, SideNetwork.weights(layers), disable_dynamic)
    patcher.cached_patcher_init = (side_patcher, (layers,))
    return patcher


def steered_loras(motion_model: ModelPatcher) -> list[tuple[ModelPatcher, Steered]]:
    """The motion LoRAs that run beside a motion model's weights, and how strong each is."""
    return [(side, side.get_attachment(KEY)) for side in motion_model.get_additional_models_with_key(KEY)]


def check_frame_count(motion_model: ModelPatcher, total_frames: int) -> None:
    """Check the values over frames of all motion LoRAs, see ``Steered.check_frame_count``."""
    for _, strength in steered_loras(motion_model):
        strength.check_frame_count(total_frames, "Load Motion LoRA's strength")


def side_branches(motion_model: ModelPatcher, call: UNetCall) -> list[tuple[dict[nn.Module, nn.Module], Steered]]:
    """What runs beside the motion model's linear layers in one call of the UNet, and how strong it is."""
    found = []
    for side, strength in steered_loras(motion_model):
        strength = strength.in_call(call)
        if strength.number != 0.0:
            found.append((side.model.beside(motion_model.model), strength))
    return found
