"""Record what adapters' official code gives, for tests/host/test_sparse_control.py, test_pia.py, test_animatelcm_i2v.py and
test_camera_control.py.

Run aside, once for each adapter, with a checkout of its repository on the path; nothing of these is part of this repository:

    PYTHONPATH=CHECKOUT:FOLDER_OF_DIFFUSERS_0_11_1 python tests/official/record_adapters.py sparse_control
                                                                         # guoyww/AnimateDiff, main, e92bd5671ba6
    PYTHONPATH=CHECKOUT:FOLDER_OF_DIFFUSERS_0_21_4 python tests/official/record_adapters.py pia
                                                                         # open-mmlab/PIA, main, 73f06d741532
    PYTHONPATH=CHECKOUT/animatelcm_sd15:FOLDER_OF_DIFFUSERS_0_11_1 python tests/official/record_adapters.py animatelcm_i2v
                                                                         # G-U-N/AnimateLCM, master, f873122358c1
    PYTHONPATH=CHECKOUT:FOLDER_OF_DIFFUSERS_0_24_0 python tests/official/record_adapters.py camera_control
                                                                         # hehao13/CameraCtrl, main, af45a7a0dbee

The second and third with huggingface_hub 0.16.4, the last with 0.19.4. Each writes a file of its own, the third also the keys and
shapes of its file, into ``tests/data``.
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
    CAMERA_PICTURE,
    CONTEXT_DIM,
    FRAMES,
    I2V_DRIFT,
    I2V_SIZE,
    SIZE,
    SPARSE,
    SPATIAL_HEADS,
    TIMESTEP,
    camera_text,
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


def camera_control() -> dict[str, torch.Tensor]:
    """The UNet along a camera's path, with the settings of ``adv3_256_384_cameractrl_relora.yaml``; and rays, as its data set makes them."""
    from cameractrl.models.pose_adaptor import CameraPoseEncoder, PoseAdaptor
    from cameractrl.models.unet import UNet3DConditionModelPoseCond

    temporal = {"temporal_position_encoding": True}
    network = UNet3DConditionModelPoseCond(
        block_out_channels=BLOCK_CHANNELS,
        cross_attention_dim=CONTEXT_DIM,
        attention_head_dim=SPATIAL_HEADS,
        use_motion_module=True,
        motion_module_resolutions=(1, 2, 4, 8),
        motion_module_type="Vanilla",
        motion_module_kwargs={
            "num_attention_heads": 8,
            "num_transformer_block": 1,
            "attention_block_types": ["Temporal_Self", "Temporal_Self"],
            "temporal_position_encoding_max_len": 32,
            "temporal_attention_dim_div": 1,
            "zero_initialize": False,
            **temporal,
        },
    )
    network.set_all_attn_processor(
        add_spatial_lora=False,
        add_temporal=True,
        pose_feature_dimensions=list(BLOCK_CHANNELS),
        lora_kwargs={"lora_rank": 2},
        motion_lora_kwargs={"lora_rank": -1},
        query_condition=True,
        key_value_condition=True,
    )
    encoder = CameraPoseEncoder(
        downscale_factor=8,
        channels=list(BLOCK_CHANNELS),
        nums_rb=2,
        cin=384,
        ksize=1,
        sk=True,
        use_conv=False,
        temporal_position_encoding_max_len=16,
        **temporal,
    )
    adapted = PoseAdaptor(seed(network), seed(encoder))
    latents, context = inputs()
    rays = camera_rays(8 * SIZE, 8 * SIZE).transpose(0, 1).expand(len(latents), -1, -1, -1, -1)
    with torch.inference_mode():
        out = adapted(latents.transpose(1, 2), TIMESTEP, context, rays)
    return {"camera_control": out.transpose(1, 2).contiguous(), "rays": camera_rays(*CAMERA_PICTURE)}


def camera_rays(height: int, width: int) -> torch.Tensor:
    """Rays ``f 6 h w`` of the camera's path in a picture, corrected for its shape; the videos are 1280 x 720."""
    for name, holds in {"decord": ["VideoReader"], "torchvision": [], "torchvision.transforms": ["functional"]}.items():
        sys.modules[name] = module = types.ModuleType(name)
        for part in holds:
            setattr(module, part, None)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.modules["torchvision.transforms.functional"] = types.ModuleType("functional")
    from cameractrl.data.dataset import Camera, RealEstate10KPose

    class Poses(RealEstate10KPose):
        def __init__(self):
            self.sample_stride = self.minimum_sample_stride = 1
            self.sample_n_frames, self.sample_size, self.sample_wh_ratio = FRAMES, (height, width), width / height
            self.relative_pose = self.zero_t_first_frame = self.rescale_fxy = True
            self.shuffle_frames = self.use_flip = False

        def load_cameras(self, idx):
            return [Camera([float(number) for number in line.split(" ")]) for line in camera_text().split("\n")[1:]]

        def load_video_reader(self, idx):
            video = types.SimpleNamespace(get_batch=lambda _: types.SimpleNamespace(asnumpy=torch.zeros(1, 720, 1280, 3).numpy))
            return "", video, ""

    return Poses().get_batch(0)[2]


if __name__ == "__main__":
    save_file(globals()[sys.argv[1]](), HERE / f"{sys.argv[1]}_outputs.safetensors")
