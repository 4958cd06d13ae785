"""Turn trained weights into the files that are shipped: ``python3 loom.py run demo.ship --work FOLDER``.

Matrices become eight-bit floats (e4m3), which ComfyUI and Loom load as they are; norms and biases half precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .assemble import LORA, MOTION, SHIPPED_UNET, SHIPPED_VAE, TIME, UNET, VAE, WEIGHTS

_LARGEST = torch.finfo(torch.float8_e4m3fn).max


def to_eight_bits(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store what has two dimensions or more in eight bits."""
    small = {}
    for name, tensor in weights.items():
        is_table = name.endswith("pos_encoder.pe")
        dtype = torch.float8_e4m3fn if tensor.ndim > 1 and not is_table else torch.float16
        small[name] = tensor.float().clamp(-_LARGEST, _LARGEST).to(dtype).contiguous()
    return small


def base(work: Path) -> dict[str, Tensor]:
    """UNet and VAE under a checkpoint's names, without what ``assemble`` makes."""
    weights = {f"{UNET}{name}": tensor for name, tensor in load_file(work / "base.safetensors").items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(TIME)}
    return weights | {f"{VAE}{name}": tensor for name, tensor in load_file(work / "vae.safetensors").items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with the training's results")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    trained = to_eight_bits(base(args.work))
    for name, prefix in ((SHIPPED_UNET, UNET), (SHIPPED_VAE, VAE)):
        part = {key: tensor for key, tensor in trained.items() if key.startswith(prefix)}
        save_file(part, args.out / name)
    for name, trained in ((MOTION, "motion.safetensors"), (LORA, "lora.safetensors")):
        if (args.work / trained).is_file():
            save_file(to_eight_bits(load_file(args.work / trained)), args.out / name, metadata={"format": "pt"})
    for path in sorted(args.out.glob("*.safetensors")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
