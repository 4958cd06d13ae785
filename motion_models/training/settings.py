"""The settings of a training run, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..beta_schedules import BETA_SCHEDULES, LINEAR
from .errors import InvalidSettings

EPS, V = "eps", "v"
PREDICTION, VELOCITY = "prediction", "velocity"
CONSTANT, COSINE = "constant", "cosine"


def _setting(default: Any, **limits: Any) -> Any:
    """A setting as the node and ``loom.py train`` offer it, unless it ``is_hidden``, because it follows from the base model."""
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is told. Defaults are AnimateDiff's recipe (its ``configs/training/v1/training.yaml``).

    The error of a predicted noise counts next to nothing at noisy timesteps, where the caption decides what goes where:
    ``loss_on`` and ``timestep_shift`` (Esser et al. 2024, arXiv:2403.03206, section 5.3.2) give these more weight.

    Raises:
        InvalidSettings: a setting is out of its range.
    """

    steps: int = _setting(1000, min=1, max=10_000_000)
    batch_size: int = _setting(1, min=1, max=1024)
    accumulation: int = _setting(1, min=1, max=1024)  # batches in a step
    learning_rate: float = _setting(1e-4, min=0.0, max=1.0, step=1e-6, round=1e-10)
    learning_rate_schedule: str = _setting(CONSTANT, options=(CONSTANT, COSINE))
    warmup_steps: int = _setting(0, min=0, max=1_000_000)
    weight_decay: float = _setting(1e-2, min=0.0, max=1.0, step=0.001, round=1e-6)
    gradient_clip: float = _setting(1.0, min=0.0, max=1000.0, step=0.1)  # largest norm; 0 is off
    ema_decay: float = _setting(0.0, min=0.0, max=0.99999, step=0.0001, round=1e-6)  # of the weights' running average; 0 is off
    loss_on: str = _setting(PREDICTION, options=(PREDICTION, VELOCITY))  # what the loss compares
    timestep_shift: float = _setting(1.0, min=0.1, max=10.0)  # above 1, noisy timesteps are drawn more often
    text_dropout: float = _setting(0.1, min=0.0, max=1.0, step=0.01)  # share of clips without their caption
    prediction: str = _setting(EPS, options=(EPS, V), is_hidden=True)
    beta_schedule: str = _setting(LINEAR, options=tuple(BETA_SCHEDULES), is_hidden=True)
    zero_terminal_snr: bool = _setting(False, is_hidden=True)
    dtype: str = _setting("bf16", options=("bf16", "fp16", "fp32"))  # of the computation; weights are kept in fp32
    seed: int = _setting(0, min=0, max=2**64 - 1)
    checkpoint_every: int = _setting(500, min=1, max=1_000_000)  # steps
    gradient_checkpointing: bool = _setting(False)

    def __post_init__(self):
        for part in fields(self):
            value, limits = getattr(self, part.name), part.metadata
            if "options" in limits and value not in limits["options"]:
                raise InvalidSettings(f"{part.name} is '{value}'. Expected one of: {', '.join(limits['options'])}.")
            if "min" in limits and not limits["min"] <= value <= limits["max"]:  # NaN is in no range
                raise InvalidSettings(f"{part.name} is {value}. Expected {limits['min']} to {limits['max']}.")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        factor = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.learning_rate_schedule == COSINE and step >= self.warmup_steps:
            progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            factor *= 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * factor
