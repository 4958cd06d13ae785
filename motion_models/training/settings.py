"""The settings of a training run, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..beta_schedules import BETA_SCHEDULES, LINEAR
from .errors import InvalidSettings

EPS, V = "eps", "v"
PREDICTIONS = (EPS, V)
PREDICTION, VELOCITY = "prediction", "velocity"
LOSSES = (PREDICTION, VELOCITY)
CONSTANT, COSINE = "constant", "cosine"
LEARNING_RATE_SCHEDULES = (CONSTANT, COSINE)
DTYPES = ("fp32", "bf16", "fp16")
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is told. Defaults are AnimateDiff's recipe (its ``configs/training/v1/training.yaml``).

    Attributes:
        steps: optimizer steps in all.
        batch_size: clips in each call of the UNet, on each device.
        accumulation: calls of the UNet before each optimizer step; 4 of batch 2 give what 1 of batch 8 gives.
        learning_rate: of AdamW.
        learning_rate_schedule: ``constant``, or ``cosine`` down to 0 at the last step.
        warmup_steps: steps over which the learning rate grows to its full value.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient; 0 is off.
        ema_decay: share that the running average of weights keeps at each step, growing to this; 0 is off.
        loss_on: whose error is squared: that of what the model predicts (``prediction``, as AnimateDiff did), or always the
            velocity's (``velocity``). The error of a predicted noise counts next to nothing at noisy timesteps.
        timestep_shift: 1 draws all timesteps equally often, as AnimateDiff did; more draws noisy ones more often, at which
            the caption decides where things go. The shift of Esser et al. 2024, arXiv:2403.03206, section 5.3.2.
        text_dropout: share of clips whose caption is replaced by none, so that guidance works.
        prediction: what the UNet was trained to predict: noise (``eps``) or velocity (``v``).
        beta_schedule: key into ``BETA_SCHEDULES``.
        zero_terminal_snr: whether the last step is noise alone, for models that are made so.
        dtype: the arithmetic of the forward pass, ``fp32``, ``bf16`` or ``fp16``; weights are kept in float32.
        seed: of first weights, order of clips, noise and dropout.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 1000
    batch_size: int = 1
    accumulation: int = 1
    learning_rate: float = 1e-4
    learning_rate_schedule: str = CONSTANT
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    loss_on: str = PREDICTION
    timestep_shift: float = 1.0
    text_dropout: float = 0.1
    prediction: str = EPS
    beta_schedule: str = LINEAR
    zero_terminal_snr: bool = False
    dtype: str = "fp32"
    seed: int = 0
    checkpoint_every: int = 500

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every"):
            self._check_range(name, 1, math.inf)
        self._check_range("seed", 0, MAX_SEED)
        for name in ("learning_rate", "weight_decay", "gradient_clip", "warmup_steps"):
            self._check_range(name, 0, math.inf)
        for name in ("ema_decay", "text_dropout"):
            self._check_range(name, 0, 1)
        self._check_choice("learning_rate_schedule", LEARNING_RATE_SCHEDULES)
        self._check_choice("prediction", PREDICTIONS)
        self._check_choice("loss_on", LOSSES)
        self._check_choice("beta_schedule", tuple(BETA_SCHEDULES))
        self._check_choice("dtype", DTYPES)
        self._check_range("timestep_shift", 0.1, 10)
        if self.ema_decay == 1:
            raise InvalidSettings("ema_decay is 1, which would keep the initial weights forever. Expected less than 1; 0 is off.")

    def _check_range(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        # NaN is in no range.
        if not (least <= value <= most and math.isfinite(value)):
            limits = f"{least} or more" if most == math.inf else f"{least} to {most}"
            raise InvalidSettings(f"{name} is {value}. Expected {limits}.")

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise InvalidSettings(f"{name} is '{value}'. Expected one of: {', '.join(choices)}.")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        factor = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.learning_rate_schedule == COSINE and step >= self.warmup_steps:
            progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            factor *= 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * factor
