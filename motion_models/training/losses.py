"""The noise that training adds, what the UNet should answer, and the loss.

Sources: Ho et al. 2020, arXiv:2006.11239; for v, Salimans and Ho 2022, arXiv:2202.00512.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..beta_schedules import BETA_SCHEDULES
from .settings import V

NUM_TIMESTEPS = 1000


class NoiseSchedule:
    """Factors on the clean latents and on the noise at each timestep, ``(1000,)`` float32; their squares add up to 1."""

    def __init__(self, beta_schedule: str, zero_terminal_snr: bool = False):
        betas = BETA_SCHEDULES[beta_schedule].betas(NUM_TIMESTEPS)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        if zero_terminal_snr:
            alphas_cumprod = _without_signal_at_the_end(alphas_cumprod)
        self.signal = alphas_cumprod.sqrt().float()
        self.noise = (1 - alphas_cumprod).sqrt().float()

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return clean ``latents`` ``(b, ...)`` at the noise of their timesteps ``(b,)``; ``noise`` has unit variance."""
        return self._at(self.signal, timesteps, latents) * latents + self._at(self.noise, timesteps, latents) * noise

    def target(self, prediction: str, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the UNet should answer: the noise, or with v-prediction the velocity."""
        if prediction == V:
            return self._at(self.signal, timesteps, latents) * noise - self._at(self.noise, timesteps, latents) * latents
        return noise

    def velocity_weight(self, prediction: str, timesteps: Tensor) -> Tensor:
        """What to multiply a prediction's squared error by so that it becomes the velocity's, ``(b,)``; ones for ``v``.

        A velocity ``signal * noise - noise_factor * latents`` that follows from a predicted noise is wrong by the noise's
        error over ``signal``. Source: Salimans and Ho 2022, arXiv:2202.00512, section 4.
        """
        # A schedule that ends without any signal has no such factor there.
        signal = self.signal.to(timesteps.device)[timesteps].clamp_min(0.01)
        return torch.ones_like(signal) if prediction == V else signal**-2

    @staticmethod
    def _at(factors: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
        return factors.to(like.device)[timesteps].view(-1, *(1,) * (like.ndim - 1))


def _without_signal_at_the_end(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale the signal so that it ends at nothing. Source: Lin et al. 2023, arXiv:2305.08891, algorithm 1."""
    signal = alphas_cumprod.sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return signal**2


def draw_timestep(shift: float, generator: torch.Generator) -> int:
    """Draw a timestep from 0 to 999: of equal chances at a shift of 1, see ``TrainingSettings.timestep_shift``."""
    if shift == 1:
        return int(torch.randint(NUM_TIMESTEPS, (), generator=generator))
    share = torch.rand((), generator=generator).item()
    return int(NUM_TIMESTEPS * shift * share / (1 + (shift - 1) * share))


def squared_error(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over everything, in float32; ``weight`` ``(n,)`` multiplies that of each of ``prediction``'s n."""
    if weight is None:
        return functional.mse_loss(prediction.float(), target.float())
    return ((prediction.float() - target.float()).square().flatten(1).mean(1) * weight).mean()
