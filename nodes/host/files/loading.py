"""From a file to a motion model in ComfyUI's care: it loads, moves, casts, counts and frees it as any other model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....motion_models import checkpoint
from ....motion_models.companions import Companion
from ....motion_models.config import MotionModelConfig
from ....motion_models.errors import shorten
from ....motion_models.motion_model import MotionModel
from ..motion.companions import add_companion
from ..provenance import set_provenance
from ..types import logger
from .reading import open_weights


def load_motion_model(path: str, disable_dynamic: bool = False) -> ModelPatcher:
    """Load a motion-model file: a patcher whose ``model`` is a ``MotionModel``, on the offload device.

    ComfyUI asks for ``disable_dynamic`` where it needs a patcher without DynamicVRAM. Raises ``MotionModelError``,
    which names the file, where it cannot be read or is no motion model that Loom knows.
    """
    config, weights, companions = read_motion_model(path)
    name = Path(path).name
    patcher = motion_model_patcher(config, weights, name, disable_dynamic=disable_dynamic)
    for kind, of_companion in companions.items():
        add_companion(patcher, kind, companion_patcher(kind, of_companion, disable_dynamic))
    patcher.cached_patcher_init = (load_motion_model, (path,))
    logger.info("Loaded '%s': %s, positions for %d frames.", shorten(name), config.family.title, config.max_frames)
    return patcher


def motion_model_patcher(
    config: MotionModelConfig, weights: dict[str, Tensor], name: str,
    metadata: Mapping[str, str] | None = None, disable_dynamic: bool = False,
) -> ModelPatcher:  # fmt: skip
    """Put a motion model into ComfyUI's care; messages call it ``name``, and saved files get its ``metadata``."""
    make = functools.partial(MotionModel, config, attention=temporal_attention())
    patcher = patcher_of(make, weights, disable_dynamic)
    patcher.cached_patcher_init = (_made_again, (patcher.model, patcher.backup, name, metadata))
    set_provenance(patcher, name, metadata)
    return patcher


def _made_again(model: MotionModel, backup: dict, *of_file: Any, disable_dynamic: bool = False) -> ModelPatcher:
    # From the weights in use: to keep them apart would take as much memory again.
    weights = {key: backup[key].weight if key in backup else weight for key, weight in model.state_dict().items()}
    return motion_model_patcher(model.config, weights, *of_file, disable_dynamic=disable_dynamic)


def companion_patcher(kind: Companion, weights: dict[str, Tensor], disable_dynamic: bool = False) -> ModelPatcher:
    """Put a companion that a file brings into ComfyUI's care."""
    patcher = patcher_of(functools.partial(kind.network, weights), weights, disable_dynamic)
    patcher.cached_patcher_init = (companion_patcher, (kind, weights))
    return patcher


def patcher_of(make: Callable[..., nn.Module], weights: dict[str, Tensor], disable_dynamic: bool) -> ModelPatcher:
    """Make a network of ComfyUI's layers with ``make(operations=, dtype=, device=)``, and its patcher."""
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    # manual_cast follows the dtype of the features it is given, so the UNet's compute dtype need not be known.
    model = make(operations=comfy.ops.manual_cast, dtype=storage_dtype(weights, load_device), device=offload_device)
    comfy.model_management.archive_model_dtypes(model)
    # Looked up at each call: ComfyUI binds it anew when DynamicVRAM is switched on.
    patcher_class = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    model.load_state_dict(weights, assign=patcher.is_dynamic())
    model.eval().requires_grad_(False)
    return patcher


def read_motion_model(path: str) -> checkpoint.Converted:
    """Read a motion-model file, with its weights as they are in the file; raises what ``load_motion_model`` does."""
    name = Path(path).name
    with open_weights(path) as (tensors, metadata):
        read = checkpoint.convert(tensors, name)
        config, notices = read.config.with_metadata(metadata)
    for notice in notices:
        logger.warning("'%s': %s", shorten(name), notice)
    return read._replace(config=config)


def temporal_attention() -> Callable[..., Tensor]:
    """The attention that suits many short sequences, one of at most a few dozen frames for each pixel.

    That is PyTorch's own, in core's wrapping, which splits batches that CUDA could not launch (over 65,535) and obeys a
    user's override. What ComfyUI picks for a UNet, say SageAttention, is made for spatial attention's long sequences.
    """
    return comfy.ldm.modules.attention.get_attention_function("pytorch")


def storage_dtype(weights: dict[str, Tensor], device: torch.device) -> torch.dtype:
    """The dtype ComfyUI would keep a UNet of this size and file dtype in, with the user's --fp16-unet and the like."""
    return comfy.model_management.unet_dtype(
        device=device,
        model_params=sum(tensor.nelement() for tensor in weights.values()),
        supported_dtypes=[torch.float16, torch.bfloat16, torch.float32],
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
