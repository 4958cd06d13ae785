"""A toy base with motion modules in it, and clips in memory: what the trainer's tests train."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import torch
from pack.motion_models.attention_inputs import AttentionInputs
from pack.motion_models.config import Family, MotionModelConfig
from pack.motion_models.layers import sinusoidal_positions
from pack.motion_models.motion_model import MotionModel
from pack.motion_models.training.initialise import new_motion_model
from pack.motion_models.training.settings import TrainingSettings
from pack.motion_models.training.trainer import Trainer
from torch import Tensor, nn

from .conftest import sdpa

FRAMES, CHANNELS, SIZE, TEXT = 4, 32, 4, 6
CONFIG = MotionModelConfig(Family.V3, block_channels=(CHANNELS,), layers_per_block=1)


class ToyBase:
    """Two frozen convolutions with all motion modules between them; time and text tint the features."""

    def __init__(self, motion_model: MotionModel):
        generator = torch.Generator().manual_seed(5)
        self.modules = [*motion_model.modules_by_part["down"], *motion_model.modules_by_part["up"]]
        self.encoding = sinusoidal_positions(torch.arange(FRAMES), CHANNELS)
        self.layers = nn.ModuleList([nn.Conv2d(4, CHANNELS, 3, padding=1), nn.Linear(TEXT, CHANNELS), nn.Conv2d(CHANNELS, 4, 1)])
        for parameter in self.layers.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)
        self.layers.requires_grad_(False)
        self.calls = 0

    def __call__(self, noisy: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.calls += 1
        conv_in, text, conv_out = self.layers
        x = conv_in(noisy) + text(context.mean(1))[:, :, None, None] + (timesteps / 1000)[:, None, None, None]
        for module in self.modules:
            x = module(x, AttentionInputs(self.encoding.to(x.dtype)))
        return conv_out(x)


@dataclass(frozen=True)
class ToyClip:
    latents: Tensor
    context: Tensor
    pooled: Tensor | None = None


class ToyClips:
    """Clips drawn from their number; remembers what it was asked for."""

    def __init__(self, count: int = 5, data_hash: str = "toy"):
        self.count, self.data_hash = count, data_hash
        self.asked: list[tuple[int, int, float]] = []

    def sample(self, position: int, seed: int, text_dropout: float = 0.0) -> ToyClip:
        self.asked.append((position, seed, text_dropout))
        generator = torch.Generator().manual_seed(position % self.count)
        return ToyClip(
            torch.randn(FRAMES, 4, SIZE, SIZE, generator=generator), torch.randn(3, TEXT, generator=generator)
        )


def toy_model(seed: int = 0) -> MotionModel:
    """A motion model whose every part already has an effect, so every part has a gradient."""
    motion_model = new_motion_model(CONFIG, sdpa, seed)
    generator = torch.Generator().manual_seed(9)
    for name, parameter in motion_model.named_parameters():
        if "proj_out" in name:
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return motion_model


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**{"steps": 6, "batch_size": 2, "learning_rate": 1e-2, "checkpoint_every": 100, "dtype": "fp32", **changes})


def make_trainer(folder=None, model_seed=0, base=ToyBase, clips=None, base_hash="", engine=None, **changes) -> Trainer:
    motion_model = toy_model(model_seed)
    return Trainer(
        motion_model, base(motion_model), clips or ToyClips(), settings(**changes), folder, engine, base_hash
    )


def train(trainer: Trainer, steps: int | None = None) -> Trainer:
    """Run to the end, or stop after some steps as a closed window would."""
    with closing(trainer.run()) as results:
        for result in results:
            if result.step == steps:
                break
    return trainer


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
