"""Draw the pictures in ``demo/images``: the world, what VAE, base and LoRA make of it, and the loss curves.

What the motion model makes of it is in the pictures of ``demo.claims``.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import fmean

from .studio import Shot, Studio  # first: it sets ComfyUI up for the CPU  # isort: skip

import torch
from PIL import Image
from safetensors.torch import load_file

from .clips import Look, held_back_prompts, random_scene, render
from .models import new_vae
from .sheet import contact_sheet, loss_curve

_IMAGES = Path(__file__).parent / "images"
_SEED = 5


def world() -> Image.Image:
    generator = torch.Generator().manual_seed(_SEED)
    scenes = [random_scene(generator, look) for look in [Look.FILLED] * 5 + [Look.OUTLINED] * 2]
    return contact_sheet([render(scene, 64)[::2] for scene in scenes], [scene.caption for scene in scenes])


def vae(work: Path) -> Image.Image:
    model = new_vae(seed=0)
    model.load_state_dict(load_file(work / "vae.safetensors"), strict=False)
    generator = torch.Generator().manual_seed(_SEED)
    scenes = [random_scene(generator, look) for look in [Look.FILLED] * 7 + [Look.OUTLINED] * 3]
    images = torch.stack([render(scene, 64, torch.rand(1, generator=generator))[0] for scene in scenes])
    with torch.no_grad():
        decoded = model.taesd_decoder(model.taesd_encoder(images))
    return contact_sheet([images, decoded], ["drawn", "encoded and decoded"])


def stills(studio: Studio, lora: bool) -> Image.Image:
    shot = Shot(motion=False, frames=10, lora=lora)
    prompts = held_back_prompts()[::3]
    return contact_sheet([studio.render(prompt, [_SEED], shot)[0] for prompt in prompts], prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with the training's results")
    parser.add_argument("--models", type=Path, required=True, help="folder that demo.assemble wrote")
    parser.add_argument("--bf16", action="store_true", help="render in bfloat16: several times quicker where the CPU knows it")
    parser.add_argument("--out", type=Path, default=_IMAGES)
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    studio = Studio(args.models, dtype=torch.bfloat16 if args.bf16 else None)
    pictures = {"world": world(), "vae": vae(args.work), "base": stills(studio, lora=False)}
    if studio.lora is not None:
        pictures["outlined"] = stills(studio, lora=True)
    for name, picture in pictures.items():
        picture.quantize(128).save(args.out / f"{name}.png", optimize=True)
    for path in sorted(args.work.glob("*losses.csv")):
        name = path.name.removesuffix("losses.csv").rstrip("._")
        loss_curve(_read_losses(path), f"{name}: training loss", args.out / f"loss_{name}.png")


def _read_losses(path: Path) -> list[tuple[int, float]]:
    """Steps and losses; of a loss that was written at every step, means over 25 steps."""
    with open(path, newline="", encoding="utf-8") as file:
        losses = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    if len(losses) < 2 or losses[1][0] - losses[0][0] > 1:
        return losses
    parts = [losses[start : start + 25] for start in range(0, len(losses), 25)]
    return [(part[-1][0], fmean(loss for _, loss in part)) for part in parts]
