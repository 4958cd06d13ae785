"""FreeInit: start again from what a run arrived at, with its layout kept and its detail drawn anew.

Source: Wu et al. 2023, "FreeInit", arXiv:2312.07537. Videos that a model was trained on keep some of their slow, coarse
content even at the highest noise; noise that a run starts from has none. So a run's result is brought back to the highest
noise, and the next run starts from its low frequencies over frames, height and width, and from fresh noise's high ones.

FreqPrior (Yuan et al. 2025, arXiv:2502.03496) does so without taking variance from the noise, whose loss takes detail and motion
from the frames, and stops all runs but the last midway.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from .errors import InvalidInput


class LowPass(Enum):
    """The shape of the filter that tells low from high frequencies; the value is its name in a node."""

    BUTTERWORTH = "butterworth"
    GAUSSIAN = "gaussian"
    IDEAL = "ideal"
    BOX = "box"


class Restart(Enum):
    """Which noise brings a result back to the highest level: always the first run's, or each time the run's own before.

    The second is AnimateDiff-Evolved's way: it also draws run i's new noise from seed + i, not from where the generator of the
    first noise stands, always begins at the model's highest noise level, and scales the result as the VAE does.
    """

    FIRST = "first noise"
    PREVIOUS = "previous noise"


class Method(Enum):
    """The value is its name in a node."""

    FREEINIT = "FreeInit"
    FREQPRIOR = "FreqPrior"


_MIDWAY = 0.64
"""Share of the steps after which FreqPrior's runs stop: 16 of 25, at timestep 321, in the paper."""
_KEPT = 0.8
"""FreqPrior's ratio rho of the noise that a run arrives at to fresh noise, before frequencies are mixed."""


@dataclass(frozen=True)
class FreeInit:
    """How often a run starts again, and from which frequencies.

    ``iterations`` counts the first run, too. Cutoffs, 0 to 1 of the highest frequency over height and width or over frames,
    are the paper's d_s and d_t; if one is 0, nothing is kept. ``order`` is how steep a Butterworth filter is. With
    ``coarse_to_fine``, run i of n takes i / n of the steps.
    """

    iterations: int = 3
    low_pass: LowPass = LowPass.BUTTERWORTH
    spatial_cutoff: float = 0.25
    temporal_cutoff: float = 0.25
    order: int = 4
    coarse_to_fine: bool = False
    restart: Restart = Restart.FIRST
    method: Method = Method.FREEINIT

    def __post_init__(self) -> None:
        if self.method is Method.FREQPRIOR and self.restart is Restart.PREVIOUS:
            raise InvalidInput(
                f"FreqPrior restarts from the first noise. Set restart_from to '{Restart.FIRST.value}', or method to FreeInit."
            )

    def steps_of_runs(self, steps: int) -> list[int]:
        """How many steps each run takes, of a full one's."""
        runs = self._full_steps_of_runs(steps)
        if self.method is Method.FREQPRIOR:
            runs[:-1] = [max(1, int(_MIDWAY * count)) for count in runs[:-1]]
        return runs

    def _full_steps_of_runs(self, steps: int) -> list[int]:
        if not self.coarse_to_fine:
            return [steps] * self.iterations
        return [max(1, steps * run // self.iterations) for run in range(1, self.iterations + 1)]

    def sigmas_of_runs(self, sigmas: Tensor) -> list[Tensor]:
        """The noise levels of each run, ``(steps + 1,)``, picked evenly from those of a full one; FreqPrior's end midway."""
        steps = len(sigmas) - 1
        full = [sigmas[[round(i * steps / count) for i in range(count + 1)]] for count in self._full_steps_of_runs(steps)]
        return [run[: count + 1] for run, count in zip(full, self.steps_of_runs(steps), strict=True)]

    def mix(self, low: Tensor, high: Tensor) -> Tensor:
        """Put together one clip's low and another's high frequencies, both ``(f, c, h, w)`` in float32."""
        frames, _, height, width = low.shape
        # The filter has frequency 0 in its middle, the transform has it first.
        keep = torch.fft.ifftshift(self.filter(frames, height, width)).to(low.device)[:, None]
        # Linear, so it is the same as low * keep + high * (1 - keep), with one transform less.
        return high + torch.fft.ifftn(torch.fft.fftn(low - high, dim=(0, 2, 3)) * keep, dim=(0, 2, 3)).real

    def mix_keeping_variance(self, low: Tensor, fresh: Tensor, high: Tensor) -> Tensor:
        """FreqPrior's mix of three clips of white noise ``(f, c, h, w)``, in float32: white noise again.

        The paper's is of two complex spectra, each with fresh noise of its own; as the filter is symmetric, it comes to this.
        """
        low = (2**0.5 * _KEPT * low + (1 - _KEPT**2) ** 0.5 * fresh) / (1 + _KEPT**2) ** 0.5
        frames, _, height, width = low.shape
        keep = torch.fft.ifftshift(self.filter(frames, height, width)).to(low.device)[:, None]
        spectra = [torch.fft.fftn(noise, dim=(0, 2, 3)) for noise in (low, high)]
        return torch.fft.ifftn(spectra[0] * keep + spectra[1] * (1 - keep.square()).sqrt(), dim=(0, 2, 3)).real

    def filter(self, frames: int, height: int, width: int) -> Tensor:
        """Share of each frequency that is kept, ``(f, h, w)`` in float32, with frequency 0 at ``(f // 2, h // 2, w // 2)``.

        For odd sizes the formulas' middle lies half a place beside it; the published ones are kept to.
        """
        if self.spatial_cutoff == 0.0 or self.temporal_cutoff == 0.0:
            return torch.zeros(frames, height, width)
        if self.low_pass is LowPass.BOX:
            keep = torch.zeros(frames, height, width)
            pixels = round(height // 2 * self.spatial_cutoff)  # the width's, too, in the published code
            over_frames = _middle(frames, round(frames // 2 * self.temporal_cutoff))
            keep[over_frames, _middle(height, pixels), _middle(width, pixels)] = 1.0
            return keep
        scaled_time = self.spatial_cutoff / self.temporal_cutoff * _axis(frames)
        square = scaled_time.square()[:, None, None] + _axis(height).square()[:, None] + _axis(width).square()
        if self.low_pass is LowPass.IDEAL:
            return (square <= 2 * self.spatial_cutoff).float()
        square = square / self.spatial_cutoff**2
        if self.low_pass is LowPass.GAUSSIAN:
            return (-square / 2).exp().float()
        return (1 / (1 + square**self.order)).float()


def _axis(size: int) -> Tensor:
    """Frequencies from -1 to just below 1, ``(size,)``."""
    return 2 * torch.arange(size, dtype=torch.float64) / size - 1


def _middle(size: int, reach: int) -> slice:
    return slice(max(size // 2 - reach, 0), size // 2 + reach)
