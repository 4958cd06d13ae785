"""A tiny checkpoint and motion model with random weights: enough to show that all works.

ComfyUI's Python runs this with ComfyUI's folder and the two files to write as arguments. ComfyUI's
checkpoint loader takes the checkpoint for SD1.5, which it knows by the UNet's width of 320 and its
text width of 768; the depth is free, so two levels with one block each do. The VAE has the layout
of TAESD, and the text encoder that of CLIP-L, with layers that pass their input on. The motion
model has AnimateDiff v3's layout (no middle block, 32 positions) for these two levels.
"""

from __future__ import annotations

import math
import sys

import torch
from safetensors.torch import save_file

WIDTH = 320
POSITIONS = 32
LATENT_SCALE = 0.18215  # SD1.5's; TAESD works on scaled latents
TOKENS, TEXT_WIDTH, TEXT_LENGTH, TEXT_LAYERS = 49408, 768, 77, 12

Shapes = dict[str, torch.Size]
Weights = dict[str, torch.Tensor]


def unet_shapes() -> Shapes:
    """The keys of a two-level SD1.5 UNet, as ComfyUI itself builds it."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=WIDTH,
        channel_mult=[1, 1],
        num_res_blocks=[1, 1],
        transformer_depth=[1, 1],
        transformer_depth_output=[1, 1, 1, 1],
        transformer_depth_middle=-1,
        use_spatial_transformer=True,
        context_dim=TEXT_WIDTH,
        num_heads=8,
        legacy=False,
        device="meta",
        operations=comfy.ops.disable_weight_init,
    )
    return {key: tensor.shape for key, tensor in unet.state_dict().items()}


def vae_shapes() -> Shapes:
    from comfy.taesd.taesd import TAESD

    return {key: tensor.shape for key, tensor in TAESD().state_dict().items()}


def motion_shapes() -> Shapes:
    """AnimateDiff's public layout: one module after each down block, two in each up block."""
    seats = [f"down_blocks.{level}.motion_modules.0" for level in range(2)]
    seats += [f"up_blocks.{level}.motion_modules.{j}" for level in range(2) for j in range(2)]
    return {
        f"{seat}.temporal_transformer.{key}": torch.Size(shape)
        for seat in seats
        for key, shape in _motion_module_shapes(WIDTH).items()
    }


def _motion_module_shapes(width: int) -> dict[str, tuple[int, ...]]:
    square, vector = (width, width), (width,)
    block = "transformer_blocks.0"
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("norm", f"{block}.norms.0", f"{block}.norms.1", f"{block}.ff_norm"):
        shapes |= {f"{name}.weight": vector, f"{name}.bias": vector}
    for name in ("proj_in", "proj_out"):
        shapes |= {f"{name}.weight": square, f"{name}.bias": vector}
    for attention in (f"{block}.attention_blocks.0", f"{block}.attention_blocks.1"):
        shapes |= {f"{attention}.to_{part}.weight": square for part in "qkv"}
        shapes |= {f"{attention}.to_out.0.weight": square, f"{attention}.to_out.0.bias": vector}
        shapes[f"{attention}.pos_encoder.pe"] = (1, POSITIONS, width)
    shapes |= {
        f"{block}.ff.net.0.proj.weight": (8 * width, width),
        f"{block}.ff.net.0.proj.bias": (8 * width,),
        f"{block}.ff.net.2.weight": (width, 4 * width),
        f"{block}.ff.net.2.bias": vector,
    }
    return shapes


def text_encoder_weights(generator: torch.Generator) -> Weights:
    """CLIP-L with zero layers, whose residuals pass seeded embeddings on to the last norm."""
    width = TEXT_WIDTH
    weights = {
        "embeddings.token_embedding.weight": torch.randn(TOKENS, width, generator=generator),
        "embeddings.position_embedding.weight": torch.randn(TEXT_LENGTH, width, generator=generator)
        * 0.1,
        "final_layer_norm.weight": torch.ones(width),
        "final_layer_norm.bias": torch.zeros(width),
    }
    for layer in range(TEXT_LAYERS):
        prefix = f"encoder.layers.{layer}."
        for norm in ("layer_norm1", "layer_norm2"):
            weights[f"{prefix}{norm}.weight"] = torch.ones(width)
            weights[f"{prefix}{norm}.bias"] = torch.zeros(width)
        linear = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for name, (rows, columns) in linear.items():
            weights[f"{prefix}{name}.weight"] = torch.zeros(rows, columns)
            weights[f"{prefix}{name}.bias"] = torch.zeros(rows)
    return {f"cond_stage_model.transformer.text_model.{k}": v for k, v in weights.items()}


def random_weights(shapes: Shapes, generator: torch.Generator) -> Weights:
    """Weights that keep the size of what passes through them, so that nothing overflows."""
    weights: Weights = {}
    for key, shape in sorted(shapes.items()):
        if key.endswith("pos_encoder.pe"):
            weights[key] = sinusoidal_positions(*shape[1:])[None]
        elif len(shape) < 2:  # a norm's weight is 1, every bias 0
            weights[key] = torch.full(shape, float(key.endswith("weight")))
        else:
            fan_in = math.prod(shape[1:])
            weights[key] = torch.randn(shape, generator=generator) / math.sqrt(fan_in)
    return weights


def sinusoidal_positions(positions: int, width: int) -> torch.Tensor:
    angle = torch.arange(positions)[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # position width


def checkpoint_weights(seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    unet = random_weights(unet_shapes(), generator)
    vae = random_weights(vae_shapes(), generator)
    # Images are 0 to 1. What ReLUs let through is positive, and would tint the whole image, were it
    # not that the last layer passes on differences of neighbours only.
    last = vae["taesd_decoder.19.weight"]
    last -= last.mean(dim=(2, 3), keepdim=True)
    vae["taesd_decoder.19.bias"] += 0.5
    vae |= {"vae_scale": torch.tensor(LATENT_SCALE), "vae_shift": torch.tensor(0.0)}
    weights = {f"model.diffusion_model.{key}": tensor for key, tensor in unet.items()}
    weights |= {f"first_stage_model.{key}": tensor for key, tensor in vae.items()}
    return weights | text_encoder_weights(generator)


def motion_weights(seed: int = 1) -> Weights:
    return random_weights(motion_shapes(), torch.Generator().manual_seed(seed))


def save(weights: Weights, path: str) -> None:
    half = {key: tensor.half().contiguous() for key, tensor in weights.items()}
    save_file(half, path)


def main(comfyui: str, checkpoint: str, motion_model: str) -> None:
    sys.path[0] = comfyui  # instead of this file's folder, whose names are not for others
    import comfy.cli_args

    # Without this ComfyUI looks for a graphics card, which isn't needed here.
    comfy.cli_args.args.cpu = True
    save(checkpoint_weights(), checkpoint)
    save(motion_weights(), motion_model)


if __name__ == "__main__":
    main(*sys.argv[1:])
