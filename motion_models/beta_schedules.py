"""Noise schedules that motion models were trained with.

The naming trap: what papers and diffusers call "linear" is ComfyUI's ``sqrt_linear``, and ComfyUI's ``linear`` is
diffusers' "scaled_linear". Names here follow the papers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BetaSchedule:
    """Betas from ``start`` (least noisy) to ``end``, evenly spaced; if ``scaled``, their square roots are."""

    scaled: bool
    start: float = 0.00085
    end: float = 0.012

    def betas(self, num_timesteps: int = 1000) -> torch.Tensor:
        """``(num_timesteps,)`` betas in float64."""
        if self.scaled:
            return torch.linspace(self.start**0.5, self.end**0.5, num_timesteps, dtype=torch.float64) ** 2
        return torch.linspace(self.start, self.end, num_timesteps, dtype=torch.float64)


LINEAR = "linear (AnimateDiff)"
SCALED_LINEAR = "scaled_linear (Stable Diffusion)"
SCALED_LINEAR_XL = "scaled_linear 0.020 (AnimateDiff-SDXL)"
LINEAR_I2V = "linear 0.014 (AnimateLCM-I2V)"

BETA_SCHEDULES: dict[str, BetaSchedule] = {
    LINEAR: BetaSchedule(scaled=False),
    SCALED_LINEAR: BetaSchedule(scaled=True),
    SCALED_LINEAR_XL: BetaSchedule(scaled=True, end=0.020),
    LINEAR_I2V: BetaSchedule(scaled=False, end=0.014),
}
"""The schedules by the names that nodes offer; these names are part of saved workflows, so never renamed."""
