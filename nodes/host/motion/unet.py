"""Finding one's way in ComfyUI's UNet: which base it is, and where motion modules sit."""

from __future__ import annotations

import comfy.supported_models
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel
from comfy.model_patcher import ModelPatcher

from ....motion_models.config import MotionModelConfig
from ....motion_models.errors import IncompatibleMotionModel
from ....motion_models.motion_model import MotionModel, MotionModule

Seats = dict[str, list[torch.nn.Module]]
"""The layers behind which motion modules run, as ``down``, ``mid`` and ``up``, in the order of the UNet's blocks."""

_BASES = (
    (comfy.supported_models.SD15, "SD1.5"),
    (comfy.supported_models.SD20, "SD2.x"),
    (comfy.supported_models.SDXLRefiner, "SDXL Refiner"),
    (comfy.supported_models.SDXL, "SDXL"),
)


def base_model_name(model: ModelPatcher) -> str:
    """Name a MODEL's base as users know it, or by ComfyUI's class where it is no Stable Diffusion."""
    model_config = getattr(model.model, "model_config", None)
    return next((name for kind, name in _BASES if isinstance(model_config, kind)), type(model_config).__name__)


def find_seats(unet: UNetModel) -> Seats:
    """Find the layers behind which motion modules run.

    In each block that is the last spatial transformer, else the first residual block, else nothing; that puts it
    before an upsampler, and input block 0 and downsamplers have none. Every released motion model assumes this.
    """
    return {
        "down": [seat for block in unet.input_blocks if (seat := _seat(block)) is not None],
        "mid": [seat for block in (unet.middle_block,) if block is not None and (seat := _seat(block)) is not None],
        "up": [seat for block in unet.output_blocks if (seat := _seat(block)) is not None],
    }


def _seat(block: torch.nn.Module) -> torch.nn.Module | None:
    layers = list(block)
    if any(isinstance(layer, Downsample) for layer in layers):
        return None
    transformers = [layer for layer in layers if isinstance(layer, SpatialTransformer)]
    if transformers:
        return transformers[-1]
    return next((layer for layer in layers if isinstance(layer, ResBlock)), None)


def _seat_width(layer: torch.nn.Module) -> int:
    return layer.in_channels if isinstance(layer, SpatialTransformer) else layer.out_channels


def take_seats(unet: UNetModel, motion_model: MotionModel) -> dict[torch.nn.Module, MotionModule]:
    """Pair each layer of the UNet that has a motion module behind it with that module."""
    seats = find_seats(unet)
    pairs = list(zip(seats["down"], motion_model.down_modules, strict=True))
    pairs += zip(seats["mid"], motion_model.mid_modules, strict=False)  # many motion models have none there
    pairs += zip(seats["up"], motion_model.up_modules, strict=True)
    return dict(pairs)


def check_compatible(model: ModelPatcher, config: MotionModelConfig, motion_model_name: str) -> None:
    """Check that a motion model was made for a MODEL's UNet.

    Raises:
        IncompatibleMotionModel: it was made for another base, or the model has no UNet of Stable Diffusion's kind.
    """
    base = base_model_name(model)
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel):
        raise IncompatibleMotionModel(
            f"The connected model is {base}, which has no Stable Diffusion UNet; '{motion_model_name}' is for "
            f"{config.base_model}. Load a {config.base_model} checkpoint: no motion models exist for {base}."
        )
    if base != config.base_model:
        raise IncompatibleMotionModel(
            f"'{motion_model_name}' is for {config.base_model}, but the connected model is {base}. "
            f"Load a {config.base_model} checkpoint, or a motion model made for {base}."
        )
    widths = {part: tuple(map(_seat_width, layers)) for part, layers in find_seats(unet).items()}
    wanted = {"down": config.down_channels, "mid": config.mid_channels or widths["mid"], "up": config.up_channels}
    for part, channels in wanted.items():
        if widths[part] != channels:
            raise IncompatibleMotionModel(
                f"'{motion_model_name}' does not fit the connected model's UNet: its {part} blocks are {channels} "
                f"wide, the UNet's {widths[part]}. Load the motion model that was made for this checkpoint."
            )
