"""SparseCtrl's network: ComfyUI's ControlNet, with motion modules behind the layers that motion modules follow in the UNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.utils
import torch
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from torch import Tensor, nn

from ....motion_models.attention_inputs import AttentionInputs
from ....motion_models.layers import sinusoidal_positions
from ....motion_models.motion_model import MotionBlock, MotionModule, Place
from ....motion_models.sparse_control_layout import SCRIBBLE_WIDTHS, SparseControlConfig
from ....motion_models.views import Views


class SparseControlNetwork(ControlNet):
    """What SparseCtrl adds to the UNet's features, from images of a few frames and a mask that says which.

    Equals ``SparseControlNetModel`` of guoyww/AnimateDiff with ``set_noisy_sample_input_to_zero``, as both releases have it.
    """

    def __init__(self, config: SparseControlConfig, *, operations: Any, attention: Any, dtype=None, device=None):
        options = {"operations": operations, "dtype": dtype, "device": device}
        super().__init__(hint_channels=config.hint_channels, **_unet_config(config), **options)
        self.config = config
        width = config.block_channels[0]
        if config.takes_latents:
            # In the place of the layers for a drawing.
            embedding = operations.conv_nd(2, config.hint_channels, width, 3, padding=1, dtype=dtype, device=device)
            self.input_hint_block = type(self.input_hint_block)(embedding)
        levels = enumerate(config.block_channels)
        temporal = {"attention": attention, "num_attentions": 1, **options}
        # As they are called in files.
        self.down_blocks = nn.ModuleList(
            MotionBlock(Place("down", level), (channels,) * config.layers_per_block, config.num_heads, **temporal)
            for level, channels in levels
        )

    def forward(
        self, hint: Tensor, timesteps: Tensor, context: Tensor, num_frames: int, views: Views | None = None
    ) -> dict[str, list[Tensor]]:
        """Map a hint ``(b f) c h w``, an image or its latent and the mask, to what is added to the UNet's outputs.

        ``timesteps`` are ``(b f,)``, ``context`` ``(b f) n c``; frames see one another as ``views`` say, or all.
        """
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(hint.dtype))
        guided = self.input_hint_block(hint, emb, context)
        # The noisy latent is not looked at: it is all zeros.
        h = self.input_blocks[0](guided.new_zeros(len(guided), self.in_channels, *guided.shape[-2:]), emb, context) + guided
        outputs, motion_modules = [self.zero_convs[0](h, emb, context)], self._motion_modules()
        for block, zero_conv in zip(self.input_blocks[1:], self.zero_convs[1:], strict=True):
            h = block(h, emb, context)
            if not isinstance(block[0], Downsample):
                motion_module = next(motion_modules)
                h = motion_module(h, _inputs(num_frames, motion_module.channels, h, views))
            outputs.append(zero_conv(h, emb, context))
        h = self.middle_block(h, emb, context)
        return {"middle": [self.middle_block_out(h, emb, context)], "output": outputs}

    def _motion_modules(self) -> Iterator[MotionModule]:
        return (module for module in self.down_blocks.modules() if isinstance(module, MotionModule))


def _inputs(num_frames: int, channels: int, like: Tensor, views: Views | None) -> AttentionInputs:
    seen = num_frames if views is None else len(views.windows[0].frames)
    encoding = sinusoidal_positions(torch.arange(seen, device=like.device), channels).to(like.dtype)
    return AttentionInputs(encoding, views=views)


def _unet_config(config: SparseControlConfig) -> dict[str, Any]:
    first, *_ = config.block_channels
    levels, layers = len(config.block_channels), config.layers_per_block
    depths = [1] * layers * (levels - 1) + [0] * layers  # the innermost level has no spatial transformers
    return {
        "image_size": 32, "in_channels": 4, "model_channels": first, "num_res_blocks": [layers] * levels,
        "channel_mult": [channels // first for channels in config.block_channels], "num_heads": config.num_heads,
        "use_spatial_transformer": True, "transformer_depth": depths, "transformer_depth_middle": 1,
        "context_dim": config.context_channels, "legacy": False,
    }  # fmt: skip


def spatial_names(config: SparseControlConfig) -> dict[str, str]:
    """Diffusers' names of a SparseCtrl's ControlNet, as files have them, and the network's."""
    unet = {**_unet_config(config), "transformer_depth_output": [0] * (config.layers_per_block + 1) * len(config.block_channels)}
    names = {theirs: ours for theirs, ours in comfy.utils.unet_to_diffusers(unet).items() if not ours.startswith(("output_blocks.", "out."))}
    layers = {"controlnet_mid_block": "middle_block_out.0", "controlnet_cond_embedding": "input_hint_block.0"}
    outputs = len(config.block_channels) * (config.layers_per_block + 1)  # with the downsamplers' and the first one
    layers |= {f"controlnet_down_blocks.{number}": f"zero_convs.{number}.0" for number in range(outputs)}
    if not config.takes_latents:
        convolutions = ["conv_in", *(f"blocks.{number}" for number in range(2 * len(SCRIBBLE_WIDTHS) - 2)), "conv_out"]
        del layers["controlnet_cond_embedding"]
        # Every second layer there is a SiLU.
        layers |= {f"controlnet_cond_embedding.{name}": f"input_hint_block.{2 * number}" for number, name in enumerate(convolutions)}
    names |= {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in layers.items() for kind in ("weight", "bias")}
    return names
