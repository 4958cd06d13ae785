"""Record what AnimateDiff's official code gives, for tests/host/test_official.py.

Run aside, with a checkout of guoyww/AnimateDiff (main, commit e92bd5671ba62c0d774a32951453e328018b7c5b) and
diffusers 0.11.1 with huggingface_hub 0.13.4 on the path; nothing of either is part of this repository:

    PYTHONPATH=CHECKOUT:FOLDER_OF_DIFFUSERS_0_11_1 python tests/official/record.py
"""

from __future__ import annotations

import sys
from pathlib import Path

# diffusers 0.11.1 imports whatever of these it finds, and needs none of them here.
for name in ("transformers", "flax", "jax"):
    sys.modules[name] = None

import torch
from animatediff.models.unet import UNet3DConditionModel
from safetensors.torch import save_file
from seeded import BLOCK_CHANNELS, CONTEXT_DIM, FAMILIES, SPATIAL_HEADS, TIMESTEP, inputs, is_norm_weight, seeded


def record(inflated: bool, mid_block: bool, max_frames: int) -> torch.Tensor:
    unet = UNet3DConditionModel(
        block_out_channels=BLOCK_CHANNELS,
        cross_attention_dim=CONTEXT_DIM,
        attention_head_dim=SPATIAL_HEADS,
        use_inflated_groupnorm=inflated,
        use_motion_module=True,
        motion_module_resolutions=(1, 2, 4, 8),
        motion_module_mid_block=mid_block,
        motion_module_type="Vanilla",
        motion_module_kwargs={
            "num_attention_heads": 8,
            "num_transformer_block": 1,
            "attention_block_types": ["Temporal_Self", "Temporal_Self"],
            "temporal_position_encoding": True,
            "temporal_position_encoding_max_len": max_frames,
            "temporal_attention_dim_div": 1,
        },
    ).eval()
    for name, parameter in unet.named_parameters():
        parameter.data = seeded(name, tuple(parameter.shape), is_norm_weight(name))
    latents, context = inputs()
    with torch.inference_mode():
        out = unet(latents.transpose(1, 2), TIMESTEP, context).sample
    return out.transpose(1, 2).contiguous()  # b f c h w


if __name__ == "__main__":
    outputs = {family: record(*settings) for family, settings in FAMILIES.items()}
    save_file(outputs, Path(__file__).with_name("unet_outputs.safetensors"))
