"""From files to LoRAs on a model, merged by ComfyUI where their strength is one number, else see ``lora_branches``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from comfy.model_management import cast_to_device
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoHaAdapter, LoKrAdapter, LoRAAdapter, WeightAdapterBase
from torch import Tensor

from ....motion_models.companions.low_rank import LoraNetwork, LowRank
from ....motion_models.errors import InvalidInput, shorten
from ....motion_models.lora_layouts import Addition
from ....motion_models.motion_lora import convert_motion_lora
from ..motion.lora_branches import add_steered_lora
from ..motion.steered import Steered
from ..types import KEY, logger
from .loading import patcher_of
from .reading import open_weights

_APPLIED_KEY = f"{KEY}_motion_loras"


class AppliedLora(NamedTuple):
    """What is said of a motion LoRA that was added to a motion model."""

    file_name: str
    strength: Steered
    notices: tuple[str, ...]


def load_motion_lora(motion_model: ModelPatcher, path: str, strength: Steered) -> ModelPatcher:
    """Return a clone of a motion model to which a motion LoRA is added; several add up.

    With one strength for everything it is merged into the weights, else its branches run along with them. Raises
    ``MotionModelError``, which names the file, where it cannot be read, is no motion LoRA, or does not fit, and
    ``InvalidInput`` where the strength varies, but LoRAs of the file's kind can only be merged.
    """
    name = Path(path).name
    with open_weights(path) as (tensors, metadata):
        lora = convert_motion_lora(tensors, motion_model.model.config, name, metadata)
    logger.info("Loaded motion LoRA '%s' for %d weights.", shorten(name), len(lora.layers))
    for notice in lora.notices:
        logger.warning("'%s': %s", shorten(name), notice)
    if lora.merged_kind and not strength.is_constant:
        raise InvalidInput(
            f"'{shorten(name)}' is a {lora.merged_kind}, which can only be merged, at one strength. "
            "Disconnect strength_values and strength_steps, or use one that was trained as a plain LoRA."
        )
    motion_model = motion_model.clone()
    if strength.is_constant:
        add_lora(motion_model, lora.layers, strength.number)
    else:
        add_steered_lora(motion_model, lora_patcher(lora.layers), strength)
    applied = AppliedLora(name, strength, lora.notices)
    motion_model.set_attachments(_APPLIED_KEY, (*applied_loras(motion_model), applied))
    return motion_model


def applied_loras(motion_model: ModelPatcher) -> tuple[AppliedLora, ...]:
    """The motion LoRAs that were added to a motion model, in their order."""
    return motion_model.get_attachment(_APPLIED_KEY) or ()


def add_lora(model: ModelPatcher, layers: Mapping[str, Addition], strength: float) -> None:
    """Patch the weights of ``model``, the caller's own clone, as ComfyUI does for a LoRA."""
    if strength != 0.0:
        model.add_patches({weight: _adapter(layer) for weight, layer in layers.items()}, strength)


def _adapter(layer: Addition) -> WeightAdapterBase:
    if isinstance(layer, LowRank):
        return LoRAAdapter(set(), (layer.up, layer.down, layer.alpha, None, None, None))
    if layer.kind == "LoRA":
        ((up, down),) = layer.products
        adapter = LoRAAdapter(set(), (up, down, layer.alpha, None, None, None))
    elif layer.kind == "LoHa":
        one, other = layer.products
        adapter = LoHaAdapter(set(), (*one, layer.alpha, *other, None, None, None))
    else:
        wholes = [product[0] if len(product) == 1 else None for product in layer.products]
        halves = [half for product in layer.products for half in (product if len(product) == 2 else (None, None))]
        adapter = LoKrAdapter(set(), (*wholes, layer.alpha, *halves, None, None))
    return adapter if layer.magnitude is None else DoRAAdapter(set(), (adapter, layer.magnitude))


class DoRAAdapter(WeightAdapterBase):
    """DoRA: rows or columns of the changed weight get lengths that were learned. Source: arXiv:2402.09353, equation 5.

    Core's own divides rows by the lengths that they had before the change.
    """

    name = "dora"

    def __init__(self, loaded_keys: set[str], weights: tuple[WeightAdapterBase, Tensor]):
        self.loaded_keys, self.weights = loaded_keys, weights

    def calculate_weight(
        self, weight, key, strength, strength_model, offset, function,
        intermediate_dtype=torch.float32, original_weight=None,
    ):  # fmt: skip
        change, magnitude = self.weights
        original = weight.to(intermediate_dtype, copy=True)
        changed = change.calculate_weight(original, key, 1.0, 1.0, None, lambda delta: delta, intermediate_dtype)
        magnitude = cast_to_device(magnitude, weight.device, intermediate_dtype)
        changed *= magnitude / torch.linalg.vector_norm(changed, dim=1 if magnitude.shape[0] > 1 else 0, keepdim=True)
        weight += function((strength * (changed - weight)).type(weight.dtype))
        return weight


def lora_patcher(layers: Mapping[str, LowRank], disable_dynamic: bool = False) -> ModelPatcher:
    """Put a LoRA's matrices into ComfyUI's care, as a network of their own."""
    patcher = patcher_of(partial(LoraNetwork, layers), LoraNetwork.weights(layers), disable_dynamic)
    patcher.cached_patcher_init = (lora_patcher, (layers,))
    return patcher
