"""Motion LoRAs whose strength varies: not merged, their branches run along with a motion model's layers.

A LoRA's matrices are a companion of the motion model, with the strength as an attachment, looked up at every call of the UNet.
"""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from torch import nn

from ....motion_models.companions import LORA
from ..types import KEY
from .companions import add_companion, companions_of
from .steered import Steered, SteeredInCall
from .unet_call import UNetCall


def add_steered_lora(motion_model: ModelPatcher, lora: ModelPatcher, strength: Steered) -> None:
    """Add a ``LoraNetwork``'s patcher to ``motion_model``, the caller's own clone."""
    lora.set_attachments(KEY, strength)
    add_companion(motion_model, LORA, lora)


def steered_loras(motion_model: ModelPatcher) -> list[tuple[ModelPatcher, Steered]]:
    """The patchers that ``add_steered_lora`` added, and how strong each is."""
    return [(lora, lora.get_attachment(KEY)) for lora in companions_of(motion_model, LORA)]


def branches_in_call(motion_model: ModelPatcher, call: UNetCall) -> list[tuple[dict[nn.Module, nn.Module], SteeredInCall]]:
    """The branches by layer of each LoRA at work in one call of the UNet, and how strong it is."""
    strengths = [(lora.model, steered.in_call(call)) for lora, steered in steered_loras(motion_model)]
    return [(lora.by_layer(motion_model.model), strength) for lora, strength in strengths if strength.number != 0.0]
