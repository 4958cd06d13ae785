"""Train the tiny VAE: TAESD's layout, 8 x 8 pixels to one latent of 4 channels with about zero mean and unit variance."""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .clips import COLOURS, Look, Scene, random_scene, render
from .models import new_vae
from .stage import Stage, argument_parser

_WINDOW, _BATCH = 48, 16


def random_window(generator: torch.Generator) -> Tensor:
    """A part of a scene at some size, ``(3, 48, 48)``; half of them in colours that have no name."""

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    scene = random_scene(generator, Look.OUTLINED if below(4) == 0 else Look.FILLED)
    if below(2):
        colours = torch.rand(2, 3, generator=generator).tolist()
        scene = Scene(**{**vars(scene), "paint": tuple(colours[0]), "ground": tuple(colours[1])})
    size = (48, 64, 64, 96, 128)[below(5)]
    # Multiples of 8, as latents lie; anything else would teach positions that never occur.
    left, top = (8 * below((size - _WINDOW) // 8 + 1) for _ in range(2))
    return render(scene, size, torch.rand(1, generator=generator), (left, top, _WINDOW))[0]


def main() -> None:
    parser = argument_parser(__doc__, steps=1400)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    vae = new_vae(seed=0).to(memory_format=torch.channels_last)
    encoder, decoder = vae.taesd_encoder, vae.taesd_decoder
    stage = Stage("vae", nn.ModuleList([encoder, decoder]), args.work, args.steps, learning_rate=1e-3)

    def loss_at(generator: torch.Generator) -> Tensor:
        images = torch.stack([random_window(generator) for _ in range(_BATCH)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = encoder(images)
            noisy = latents + 0.08 * torch.randn(latents.shape, generator=generator)
            decoded = decoder(noisy).float()
        latents = latents.float()
        pixels = latents.movedim(1, -1).flatten(0, -2)  # (b h w) c
        # Uncorrelated channels, so that none repeats what another says already.
        spread = pixels.mean(0).square().sum() + (pixels.T.cov() - torch.eye(pixels.shape[-1])).square().sum()
        difference = decoded - images
        return difference.abs().mean() + 2 * difference.square().mean() + 0.01 * spread

    for _ in stage.run(loss_at):
        pass
    stage.use_average()
    weights = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in vae.state_dict().items() if name.startswith("taesd")}
    save_file(weights, args.work / "vae.safetensors")
    print(f"{len(COLOURS)} colours; saved {args.work / 'vae.safetensors'}")
