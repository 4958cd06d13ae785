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


def _setting(default: Any, help_text: str = "", **limits: Any) -> Any:
    """A setting as the node and ``loom.py train`` offer it; without a text, it follows from the base model."""
    return field(default=default, metadata={"help": help_text, **limits})


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is told. Defaults are AnimateDiff's recipe (its ``configs/training/v1/training.yaml``).

    The error of a predicted noise counts next to nothing at noisy timesteps, where the caption decides what goes where:
    ``loss_on`` and ``timestep_shift`` (Esser et al. 2024, arXiv:2403.03206, section 5.3.2) give these more weight.

    Raises:
        InvalidSettings: a setting is out of its range.
    """

    steps: int = _setting(1000, "Total number of training steps. Thousands to tens of thousands are usual.", min=1, max=10_000_000)
    batch_size: int = _setting(
        1, "Clips per batch. Larger batches learn more steadily, but need more memory.", min=1, max=1024
    )
    accumulation: int = _setting(
        1, "Batches accumulated into one step: 4 with a batch_size of 2 learn like a batch_size of 8, in the memory of 2.",
        min=1, max=1024,
    )  # fmt: skip
    learning_rate: float = _setting(
        1e-4, "Size of the training steps. AnimateDiff used 0.0001; use less, such as 0.00001, to continue training a good "
        "motion model.",
        min=0.0, max=1.0, step=1e-6, round=1e-10,
    )  # fmt: skip
    learning_rate_schedule: str = _setting(
        CONSTANT, "constant, as in AnimateDiff; cosine falls to 0 by the last step.", options=(CONSTANT, COSINE)
    )
    warmup_steps: int = _setting(0, "Steps over which the learning rate rises to its full value.", min=0, max=1_000_000)
    weight_decay: float = _setting(
        1e-2, "How strongly the optimizer (AdamW) pulls weights towards 0.", min=0.0, max=1.0, step=0.001, round=1e-6
    )
    gradient_clip: float = _setting(
        1.0, "Maximum norm of the gradient, as a guard against steps that go astray. 0 is off.", min=0.0, max=1000.0, step=0.1
    )
    ema_decay: float = _setting(
        0.0, "Returns a running average of the weights instead of the last ones; 0.999 averages over about the last 1000 steps. "
        "0 is off.",
        min=0.0, max=0.99999, step=0.0001, round=1e-6,
    )  # fmt: skip
    loss_on: str = _setting(
        PREDICTION, "What the loss compares: what the model predicts, as in AnimateDiff, or always the velocity.",
        options=(PREDICTION, VELOCITY),
    )  # fmt: skip
    timestep_shift: float = _setting(
        1.0, "1 draws all timesteps equally often, as in AnimateDiff; more draws noisy ones more often.", min=0.1, max=10.0
    )
    text_dropout: float = _setting(
        0.1, "Share of the clips that are trained on without their caption, so that cfg works.", min=0.0, max=1.0, step=0.01
    )
    prediction: str = _setting(EPS, options=(EPS, V))
    beta_schedule: str = _setting(LINEAR, options=tuple(BETA_SCHEDULES))
    zero_terminal_snr: bool = _setting(False)
    dtype: str = _setting(
        "bf16", "Precision of the computation. bf16 is fast and safe on GPUs that support it (NVIDIA RTX 30 series and newer), "
        "fp16 suits older GPUs, fp32 needs twice the memory. Weights are always kept in fp32.",
        options=("bf16", "fp16", "fp32"),
    )  # fmt: skip
    seed: int = _setting(
        0, "Seed for the initial weights, the order of the clips and the noise. The same seed gives the same training.",
        min=0, max=2**64 - 1,
    )  # fmt: skip
    checkpoint_every: int = _setting(
        500, "Steps between two checkpoints. Stopping the training saves one, too.", min=1, max=1_000_000
    )
    gradient_checkpointing: bool = _setting(
        False, "Needs much less memory, but about a third more time. Does not change the result."
    )

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
