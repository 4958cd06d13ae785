"""ComfyUI's UNet: which base it is, and which of its layers motion modules follow."""

from __future__ import annotations

from collections.abc import Iterable

import comfy.supported_models
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel
from comfy.model_patcher import ModelPatcher

from ....motion_models.config import MotionModelConfig
from ....motion_models.errors import IncompatibleMotionModel
from ....motion_models.motion_model import MotionModel, MotionModule

_BASES = (
    (comfy.supported_models.SD15, "SD1.5"),
    (comfy.supported_models.SD20, "SD2.x"),
    (comfy.supported_models.SDXLRefiner, "SDXL Refiner"),
    (comfy.supported_models.SDXL, "SDXL"),
)


def base_model_name(model: ModelPatcher) -> str:
    """A MODEL's base as users know it, or ComfyUI's class where it is no Stable Diffusion."""
    model_config = getattr(model.model, "model_config", None)
    return next((name for kind, name in _BASES if isinstance(model_config, kind)), type(model_config).__name__)


def followed_layers(unet: UNetModel) -> dict[str, list[torch.nn.Module]]:
    """The layers that motion modules follow: ``down``, ``mid`` and ``up``, in the order of the UNet's blocks.

    In each block that is the last spatial transformer, else the first residual block, else nothing; so a motion module runs
    before an upsampler, and input block 0 and downsamplers have none. Every released motion model assumes this.
    """
    blocks = {"down": unet.input_blocks, "mid": [unet.middle_block or []], "up": unet.output_blocks}
    return {part: [layer for block in each for layer in _followed_layer(block)] for part, each in blocks.items()}


def _followed_layer(block: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    layers = list(block)
    if any(isinstance(layer, Downsample) for layer in layers):
        return []
    transformers = [layer for layer in layers if isinstance(layer, SpatialTransformer)]
    return transformers[-1:] or [layer for layer in layers if isinstance(layer, ResBlock)][:1]


def _width(layer: torch.nn.Module) -> int:
    return layer.in_channels if isinstance(layer, SpatialTransformer) else layer.out_channels


def down_widths(unet: UNetModel) -> tuple[int, ...]:
    """Widths of the layers in the down blocks that motion modules follow."""
    return tuple(map(_width, followed_layers(unet)["down"]))


def modules_by_layer(unet: UNetModel, motion_model: MotionModel) -> dict[torch.nn.Module, MotionModule]:
    """The motion modules, by the layer of the UNet that each follows."""
    modules, pairs = motion_model.modules_by_part, {}
    for part, layers in followed_layers(unet).items():
        pairs.update(zip(layers, modules[part], strict=part != "mid"))  # many motion models have none there
    return pairs


def misfit_of_pooled(unet: UNetModel, pooled: torch.Tensor | None) -> str:
    """What is wrong for SDXL with a text's pooled embedding ``(..., p)``; "" for other UNets, which take none."""
    width = 0 if pooled is None else pooled.shape[-1]
    # Six sizes stand beside it, see SDXL.encode_adm in comfy/model_base.py.
    wanted = width if unet.num_classes is None else unet.label_emb[0][0].in_features - 6 * 256
    return "" if width == wanted else f"pooled embeddings are {width} wide, but SDXL expects {wanted}"


def check_compatible(model: ModelPatcher, config: MotionModelConfig, motion_model_name: str) -> None:
    """Raise ``IncompatibleMotionModel`` where a motion model was not made for a MODEL's UNet."""
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
    widths = {part: tuple(map(_width, layers)) for part, layers in followed_layers(unet).items()}
    wanted = {"down": config.down_channels, "mid": config.mid_channels or widths["mid"], "up": config.up_channels}
    for part, channels in wanted.items():
        if widths[part] != channels:
            raise IncompatibleMotionModel(
                f"'{motion_model_name}' does not fit the connected model's UNet: its {part} blocks are {channels} "
                f"wide, but the UNet's are {widths[part]}. Load the motion model that was made for this checkpoint."
            )
