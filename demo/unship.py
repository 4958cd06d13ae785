"""Put the shipped base and VAE into a training folder, to train what stands on them: ``... demo.unship --work FOLDER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file

from .assemble import SHIPPED_UNET, SHIPPED_VAE, UNET, VAE, WEIGHTS
from .models import time_embedding_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the training's results")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name, shipped, prefix in (("base", SHIPPED_UNET, UNET), ("vae", SHIPPED_VAE, VAE)):
        path = args.work / f"{name}.safetensors"
        if path.exists():
            raise SystemExit(f"'{path}' is there already; remove it or choose another folder.")
        weights = {key.removeprefix(prefix): tensor.float() for key, tensor in load_file(WEIGHTS / shipped).items()}
        if name == "base":
            weights |= {f"time_embed.{key}": tensor for key, tensor in time_embedding_weights().items()}
        save_file(weights, path)
        print(f"Wrote '{path}'.")
