"""AnimateDiff's domain adapter: a LoRA for the checkpoint's attention, which v3's motion model was trained with."""

from __future__ import annotations

from pathlib import Path

import comfy.lora
from comfy.model_patcher import ModelPatcher

from ....motion_models.errors import IncompatibleMotionModel, quote, shorten
from ....motion_models.identify import is_lora, is_motion_lora
from ....motion_models.inspect_file import not_a
from ....motion_models.lora_layouts import alpha_of_metadata, layer_path, read_layers, refuse_unsupported
from ..motion.unet import base_model_name
from ..types import logger
from .lora_files import add_lora
from .reading import open_weights


def load_domain_adapter(model: ModelPatcher, path: str, strength: float) -> ModelPatcher:
    """Return a clone of MODEL to which a domain adapter, or another LoRA for linear layers, is added.

    Raises ``MotionModelError``, which names the file, where it cannot be read, is no such LoRA, or does not fit.
    """
    shapes = {key: weight.shape for key, weight in model.model.state_dict().items() if weight.ndim == 2}
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    weights = {layer_path(lora_name): weight for lora_name, weight in names.items() if weight in shapes}
    name = shorten(Path(path).name)
    with open_weights(path) as (tensors, metadata):
        layers, others = read_layers(tensors, weights, shapes, alpha_of_metadata(metadata))
        refuse_unsupported(others, layers)
        if not layers and (not is_lora(tensors) or is_motion_lora(tensors)):
            raise not_a("domain adapter", tensors, name)
        if not layers:
            raise IncompatibleMotionModel(
                f"none of its {len(tensors):,} keys is for the attention of the connected model, which is "
                f"{base_model_name(model)}: {quote(others)}. Connect a checkpoint of the base model it was made for; "
                "AnimateDiff's domain adapter is for SD1.5."
            )
    logger.info("Loaded domain adapter '%s' for %d weights.", name, len(layers))
    if others:
        unused = "'%s': %d of its keys match no linear layer of the UNet and are left out: %s."
        logger.warning(unused, name, len(others), quote(others))
    model = model.clone()
    add_lora(model, layers, strength)
    return model
