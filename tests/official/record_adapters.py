"""Record what adapters' official code gives, for tests/host/test_sparse_control.py, test_pia.py and test_animatelcm_i2v.py.

Run aside, once for each adapter, with a checkout of its repository on the path; nothing of these is part of this repository:

    PYTHONPATH=CHECKOUT:FOLDER_OF_DIFFUSERS_0_11_1 python tests/official/record_adapters.py sparse_control
                                                                         # guoyww/AnimateDiff, main, e92bd5671ba6
    PYTHONPATH=CHECKOUT:FOLDER_OF_DIFFUSERS_0_21_4 python tests/official/record_adapters.py pia
                                                                         # open-mmlab/PIA, main, 73f06d741532
    PYTHONPATH=CHECKOUT/animatelcm_sd15:FOLDER_OF_DIFFUSERS_0_11_1 python tests/official/record_adapters.py animatelcm_i2v
                                                                         # G-U-N/AnimateLCM, master, f873122358c1

The last two with huggingface_hub 0.16.4. Each writes a file of its own, the third also the keys and shapes of its file, into
``tests/data``.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

HERE = Path(__file__).parent
for name in ("transformers", "flax", "jax"):  # diffusers 0.11.1 imports whatever of these it finds, and needs none of them here
    sys.modules[name] = None

import torch
from safetensors.torch import save_file
from seeded import (
    BLOCK_CHANNELS,
    CONTEXT_DIM,
    I2V_DRIFT,
    I2V_SIZE,
    SPARSE,
    SPATIAL_HEADS,
    TIMESTEP,
    i2v_images,
    inputs,
    is_norm_weight,
    pia_image,
    pia_weights,
    seeded,
    sparse_inputs,
)  # fmt: skip


def seed(network: torch.nn.Module) -> torch.nn.Module:
    for name, parameter in network.named_parameters():
        parameter.data = seeded(name, tuple(parameter.shape), is_norm_weight(name))
    return network.eval()


def sparse_control() -> dict[str, torch.Tensor]:
    """What ``SparseControlNetModel`` adds to each of the UNet's outputs, with the settings of ``configs/inference/sparsectrl``."""
    from animatediff.models.sparse_controlnet import SparseControlNetModel

    outputs = {}
    for kind in SPARSE:
        network = seed(SparseControlNetModel(
            down_block_types=("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
            block_out_channels=BLOCK_CHANNELS,
            cross_attention_dim=CONTEXT_DIM,
            attention_head_dim=SPATIAL_HEADS,
            set_noisy_sample_input_to_zero=True,
            use_simplified_condition_embedding=kind == "rgb",
            conditioning_channels=4 if kind == "rgb" else 3,
            use_motion_module=True,
            motion_module_resolutions=(1, 2, 4, 8),
            motion_module_mid_block=False,
            motion_module_type="Vanilla",
            motion_module_kwargs={
                "num_attention_heads": 8,
                "num_transformer_block": 1,
                "attention_block_types": ["Temporal_Self"],
                "temporal_position_encoding": True,
                "temporal_position_encoding_max_len": 32,
                "temporal_attention_dim_div": 1,
            },
        ))  # fmt: skip
        latents, images, mask, context, timestep = sparse_inputs(kind)
        with torch.inference_mode():
            down, mid = network(
                latents.transpose(1, 2), timestep, context, images.transpose(1, 2), mask.transpose(1, 2), return_dict=False
            )
        outputs |= {f"{kind}.{i}": each[0].transpose(0, 1).contiguous() for i, each in enumerate((*down, mid))}
    return outputs


def pia() -> dict[str, torch.Tensor]:
    """The UNet with an image at one frame, with the settings of ``example/config/base.yaml`` and a preset."""
    from animatediff.models.unet import UNet3DConditionModel

    for name in ("cv2", "imageio", "moviepy", "moviepy.editor", "torchvision"):  # for reading and writing videos
        sys.modules.setdefault(name, types.ModuleType(name))
    from animatediff.utils.util import prepare_mask_coef_by_statistics

    network = seed(UNet3DConditionModel(
        in_channels=9,
        block_out_channels=BLOCK_CHANNELS,
        cross_attention_dim=CONTEXT_DIM,
        attention_head_dim=SPATIAL_HEADS,
        use_motion_module=True,
        motion_module_resolutions=(1, 2, 4, 8),
        motion_module_type="Vanilla",
        unet_use_cross_frame_attention=False,
        unet_use_temporal_attention=False,
        motion_module_kwargs={
            "num_attention_heads": 8,
            "num_transformer_block": 1,
            "attention_block_types": ["Temporal_Self", "Temporal_Self"],
            "temporal_position_encoding": True,
            "temporal_position_encoding_max_len": 32,
            "temporal_attention_dim_div": 1,
            "zero_initialize": True,
        },
    ))  # fmt: skip
    # As its pipeline does it: the first planes and the bias are those of the model, the others the file's.
    own = seeded("conv_in.weight", (BLOCK_CHANNELS[0], 4, 3, 3))
    network.conv_in.weight.data = torch.cat([own, pia_weights()["conv_in.weight"][:, 4:]], dim=1)
    latents, context = inputs()
    image, frame, preset = pia_image()
    frames = latents.shape[1]
    coefficients = torch.tensor(prepare_mask_coef_by_statistics(frames, frame, preset)).view(1, 1, -1, 1, 1)
    mask = coefficients.expand(len(latents), 1, frames, *latents.shape[-2:])
    images = image[:, :, None].expand(len(latents), -1, frames, -1, -1)
    with torch.inference_mode():
        out = network(latents.transpose(1, 2), mask, images, TIMESTEP, context)["sample"]
    return {"pia": out.transpose(1, 2).contiguous()}


def animatelcm_i2v() -> dict[str, torch.Tensor]:
    """The UNet with an image for each clip, with the settings of ``configs/inference-i2v.yaml``; features of an odd size, too."""
    from animatelcm.models.adapter import Adapter
    from animatelcm.models.unet import UNet3DConditionModel

    settings = {
        "use_inflated_groupnorm": True,
        "unet_use_cross_frame_attention": False,
        "unet_use_temporal_attention": False,
        "use_motion_module": True,
        "motion_module_resolutions": (1, 2, 4, 8),
        "motion_module_mid_block": True,
        "motion_module_type": "Vanilla",
        "motion_module_kwargs": {
            "num_attention_heads": 8,
            "num_transformer_block": 1,
            "attention_block_types": ["Temporal_Self", "Temporal_Self"],
            "temporal_position_encoding": True,
            "temporal_attention_dim_div": 1,
        },
    }
    with torch.device("meta"):
        whole = UNet3DConditionModel(cross_attention_dim=768, use_img_encoder=True, **settings).state_dict()
    keys = [(key, shape.shape) for key, shape in whole.items() if "motion_modules" in key or key.startswith("img_encoder.")]
    lines = [f"{key} {'x'.join(map(str, shape))}" for key, shape in keys if not key.endswith("pos_encoding")]
    lines.insert(0, f"# Key and shape of every tensor of AnimateLCM-I2V (AnimateLCM_sd15_i2v.ckpt): {len(lines)} tensors.")
    (HERE.parent / "data" / "AnimateLCM_sd15_i2v.txt").write_text("\n".join(lines) + "\n")

    network = UNet3DConditionModel(
        block_out_channels=BLOCK_CHANNELS, cross_attention_dim=CONTEXT_DIM, attention_head_dim=SPATIAL_HEADS, **settings
    )
    # Its widths are written into the UNet.
    network.img_encoder = Adapter(cin=4, channels=list(BLOCK_CHANNELS), nums_rb=2, ksize=1, sk=True, use_conv=False)
    seed(network)
    network.img_encoder.motion_scale = I2V_DRIFT
    latents, context = inputs()
    with torch.inference_mode():
        out = network(latents.transpose(1, 2), TIMESTEP, context, img_latent=i2v_images()).sample
        odd = i2v_images(I2V_SIZE)[:1, :, None].expand(-1, -1, latents.shape[1], -1, -1)
        features = network.img_encoder(odd)
    return {"unet": out.transpose(1, 2).contiguous()} | {f"level.{i}": each.contiguous() for i, each in enumerate(features)}


if __name__ == "__main__":
    save_file(globals()[sys.argv[1]](), HERE / f"{sys.argv[1]}_outputs.safetensors")
