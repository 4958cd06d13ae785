"""Make the demo's model files from the shipped weights: ``python3 loom.py run demo.assemble FOLDER``.

Trained weights are shipped as eight-bit floats; what any seed gives as well, text encoder and time embedding, is made here.
The checkpoint is one that ComfyUI's own loader takes for SD1.5, the motion model one in AnimateDiff's public layout.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from .models import LATENT_SCALE, text_encoder_weights, time_embedding_weights

WEIGHTS = Path(__file__).parent / "weights"
SHIPPED_UNET, SHIPPED_VAE = "loom_demo_unet.safetensors", "loom_demo_vae.safetensors"
BASE, MOTION, LORA = "loom_demo.safetensors", "loom_demo_motion.safetensors", "loom_demo_outlined_lora.safetensors"
FOLDERS = {BASE: "checkpoints", MOTION: "animatediff_models", LORA: "loras"}

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
TIME = f"{UNET}time_embed."


def checkpoint(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """Complete a checkpoint.

    Args:
        trained: weights of UNet and VAE by their names in a checkpoint, in any floating-point dtype.

    Returns:
        All of the checkpoint's weights, in half precision.
    """
    weights = dict(trained)
    weights |= {f"{TIME}{name}": tensor for name, tensor in time_embedding_weights().items()}
    weights |= {f"{TEXT}{name}": tensor for name, tensor in text_encoder_weights().items()}
    weights |= {f"{VAE}vae_scale": torch.tensor(LATENT_SCALE), f"{VAE}vae_shift": torch.tensor(0.0)}
    return {name: tensor.to(torch.float16).contiguous() for name, tensor in weights.items()}


def assemble(folder: Path, weights: Path = WEIGHTS) -> None:
    """Write each file into its folder of models in ``folder``."""
    for name, kind in FOLDERS.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        if name == BASE:
            trained = load_file(weights / SHIPPED_UNET) | load_file(weights / SHIPPED_VAE)
            # Not save_file, whose files only their owner may read: this one goes into a cache that others may share.
            (folder / kind / name).write_bytes(save(checkpoint(trained)))
        elif (weights / name).is_file():
            shutil.copyfile(weights / name, folder / kind / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the models")
    assemble(parser.parse_args().folder)
