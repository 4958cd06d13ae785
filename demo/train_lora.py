"""Train a LoRA for the tiny base: the same shapes as outlines on dark paper, a look the base has never seen.

It stands for the personalised checkpoints and LoRAs that people use. The motion model never sees it in training.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .clips import Look
from .models import new_unet, predict
from .stage import Stage, argument_parser
from .train_base import Stills, add_noise, velocity_error

_RANK = 4
_COUNTS = {64: 4096, 96: 1024}


class LowRank(nn.Module):
    """Adds ``up @ down`` to a frozen weight; ``up`` begins as zero, so nothing changes at first."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, *weight.shape[1:]) / weight[0].numel() ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down.flatten(1)).view_as(weight)


def add_lora(model: nn.Module, rank: int) -> dict[str, LowRank]:
    """Give every linear and convolution layer but those of the time embedding a low-rank part, by the layer's name."""
    parts = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not name.startswith(("time_embed", "input_blocks.0", "out.")):
            parts[name] = LowRank(module.weight, rank)
            parametrize.register_parametrization(module, "weight", parts[name])
    return parts


def to_lora_file(parts: dict[str, LowRank]) -> dict[str, Tensor]:
    """Name the parts as LoRA files of SD1.5 are named."""
    weights = {}
    for name, part in parts.items():
        prefix = f"lora_unet_{name.replace('.', '_')}"
        up = part.up.detach()
        weights[f"{prefix}.lora_down.weight"] = part.down.detach()
        weights[f"{prefix}.lora_up.weight"] = up[:, :, None, None] if part.down.ndim == 4 else up
        weights[f"{prefix}.alpha"] = torch.tensor(float(up.shape[1]))
    return {name: tensor.half().contiguous() for name, tensor in weights.items()}


def main() -> None:
    args = argument_parser(__doc__, steps=600).parse_args()
    torch.set_num_threads(args.threads)
    stills = Stills(args.work / "outlined_stills.safetensors", args.work / "vae.safetensors", Look.OUTLINED, _COUNTS, seed=2)
    unet = new_unet(seed=0)
    unet.load_state_dict(load_file(args.work / "base.safetensors"))
    unet.requires_grad_(False)
    torch.manual_seed(0)
    parts = add_lora(unet, _RANK)
    stage = Stage("lora", nn.ModuleList(parts.values()), args.work, args.steps, learning_rate=1e-3, weight_decay=0.0)

    def loss_at(generator: torch.Generator) -> Tensor:
        size, count = ((64, 32), (96, 14))[int(torch.rand((), generator=generator) < 0.25)]
        latents, context = stills.batch(size, count, generator)
        noisy, timesteps, noise = add_noise(latents, generator)
        with parametrize.cached():
            return velocity_error(predict(unet, noisy, timesteps, context), noise, timesteps)

    for _ in stage.run(loss_at):
        pass
    stage.use_average()
    save_file(to_lora_file(parts), args.work / "lora.safetensors")
