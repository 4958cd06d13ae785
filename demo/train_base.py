"""Train the tiny text-to-image base: stills of the world's clips at three sizes, captions and all.

Captions name the motion, but a still can't show it: of a moving shape this model learns the look only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..motion_models.beta_schedules import SCALED_LINEAR
from ..motion_models.training.losses import NoiseSchedule, draw_timestep, squared_error
from ..motion_models.training.settings import EPS
from .clips import Look, random_scene, render
from .models import TextEncoder, new_unet, new_vae, predict
from .stage import Stage, argument_parser

# Pixels: how many stills, and how many of them in a batch; each batch costs about the same.
SIZES = {64: (8192, 32), 96: (3072, 14), 128: (1536, 8)}
_SHARES = torch.tensor([0.6, 0.25, 0.15])
_TEXT_DROPOUT = 0.1
_TIMESTEP_SHIFT = 3
_SCHEDULE = NoiseSchedule(SCALED_LINEAR)


class Stills:
    """Latents of single frames, each at a random moment of a random scene, with their captions."""

    def __init__(self, path: Path, vae_path: Path, look: Look, counts: dict[int, int], seed: int):
        if not path.is_file():
            _write_stills(path, vae_path, look, counts, seed)
        tensors = load_file(path)
        self.latents = {size: tensors[f"latents.{size}"] for size in counts}
        self.captions = {size: tensors[f"captions.{size}"] for size in counts}
        self.contexts = tensors["contexts"]  # the first is that of no text

    def batch(self, size: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        latents = self.latents[size]
        chosen = torch.randint(len(latents), (count,), generator=generator)
        captions = self.captions[size][chosen]
        captions = captions.masked_fill(torch.rand(count, generator=generator) < _TEXT_DROPOUT, 0)
        return latents[chosen].float(), self.contexts[captions].float()


def _write_stills(path: Path, vae_path: Path, look: Look, counts: dict[int, int], seed: int) -> None:
    vae = new_vae(seed=0).to(memory_format=torch.channels_last)
    vae.load_state_dict(load_file(vae_path), strict=False)
    encode = TextEncoder()
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[str, int] = {"": 0}
    tensors = {}
    for size, count in counts.items():
        latents, captions = [], []
        while len(captions) < count:
            images = []
            for _ in range(min(64, count - len(captions))):
                scene = random_scene(generator, look)
                captions.append(numbers.setdefault(scene.caption, len(numbers)))
                images.append(render(scene, size, _moment(generator))[0])
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                latents.append(vae.taesd_encoder(torch.stack(images).contiguous(memory_format=torch.channels_last)).half())
            print(f"{len(captions)} of {count} stills of {size} pixels", end="\r", flush=True)
        tensors[f"latents.{size}"], tensors[f"captions.{size}"] = torch.cat(latents).contiguous(), torch.tensor(captions)
    tensors["contexts"] = torch.stack([encode(caption) for caption in numbers]).half()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def _moment(generator: torch.Generator) -> Tensor:
    """A point in time, sooner early in the clip than late.

    So where a shape is has to do with where it goes, and words of motion mean something to the base.
    """
    return torch.rand(1, generator=generator) ** 6


def add_noise(latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noise each latent at a timestep of its own, noisy ones more often: it is there that the words are needed.

    Returns:
        The noisy latents, the timesteps ``(b,)`` and the noise.
    """
    timesteps = torch.tensor([draw_timestep(_TIMESTEP_SHIFT, generator) for _ in latents])
    noise = torch.randn(latents.shape, generator=generator)
    return _SCHEDULE.add_noise(latents, noise, timesteps), timesteps, noise


def velocity_error(predicted: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Mean squared error of the velocity that follows from a prediction of the noise, see ``TrainingSettings.loss_on``."""
    return squared_error(predicted, noise, _SCHEDULE.velocity_weight(EPS, timesteps))


def main() -> None:
    parser = argument_parser(__doc__, steps=4400)
    parser.add_argument("--start-from", type=Path, help="weights of an earlier base to go on from, instead of random ones")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    counts = {size: count for size, (count, _) in SIZES.items()}
    stills = Stills(args.work / "base_stills.safetensors", args.work / "vae.safetensors", Look.FILLED, counts, seed=1)
    unet = new_unet(seed=0)
    if args.start_from is not None:
        unet.load_state_dict(load_file(args.start_from))
    stage = Stage("base", unet, args.work, args.steps, learning_rate=5e-4)

    def loss_at(generator: torch.Generator) -> Tensor:
        size = list(SIZES)[int(torch.multinomial(_SHARES, 1, generator=generator))]
        latents, context = stills.batch(size, SIZES[size][1], generator)
        noisy, timesteps, noise = add_noise(latents, generator)
        return velocity_error(predict(unet, noisy, timesteps, context), noise, timesteps)

    for _ in stage.run(loss_at):
        pass
    stage.use_average()
    save_file({name: tensor.contiguous() for name, tensor in unet.state_dict().items()}, args.work / "base.safetensors")
