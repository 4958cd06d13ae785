"""Draw the clips that the motion model is trained on, and keep them as latents with text embeddings.

Puts all that ``loom.py train`` needs into the folder: ``clips``, ``models`` and ``motion.toml``.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..motion_models.training.clips import FramesClip
from ..motion_models.training.latent_clips import write_latent_clips
from .assemble import BASE, checkpoint
from .clips import random_scene, render
from .models import TextEncoder, new_vae
from .ship import base, to_eight_bits
from .stage import argument_parser

SIZE = 64  # pixels; the motion model never sees another size


def random_clips(count: int, seed: int) -> Iterator[FramesClip]:
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        scene = random_scene(generator)
        yield FramesClip(f"{number:05}", scene.caption, render(scene, SIZE))


def main() -> None:
    parser = argument_parser(__doc__, steps=0)
    parser.add_argument("--count", type=int, default=1600, help="clips (1600)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = args.work / "vae.safetensors"
    vae = new_vae(seed=0).to(memory_format=torch.channels_last)
    vae.load_state_dict(load_file(path), strict=False)

    def encode(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return vae.encode(images.contiguous(memory_format=torch.channels_last) * 2 - 1).float()

    with torch.no_grad():
        clips = write_latent_clips(
            args.work / "clips",
            random_clips(args.count, seed=3),
            encode,
            TextEncoder(),
            vae_id=hashlib.sha256(path.read_bytes()).hexdigest(),
            progress=lambda done: print(f"{done} clips", end="\r", flush=True),
        )
    (args.work / "models" / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_file(checkpoint(to_eight_bits(base(args.work))), args.work / "models" / "checkpoints" / BASE)
    shutil.copyfile(Path(__file__).with_name("motion.toml"), args.work / "motion.toml")
    print(f"{len(clips)} clips, {len(set(clips.captions))} captions, {clips.folder}")
