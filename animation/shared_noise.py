"""Shared noise: frames whose noise differs in its detail only, and has one layout for all.

At the highest noise a picture's layout and tint follow the noise's own low frequencies: Wu et al. 2023, "FreeInit",
arXiv:2312.07537, section 3. Where each frame draws its own, what the motion module does not even out shows as a tint that
changes from frame to frame, more so in smaller latents. Ge et al. 2023, "Preserve Your Own Correlation", arXiv:2305.10474,
section 4.1, share a part of all noise, for models trained with it. Here only low frequencies over height and width are
shared, so that each frame's noise, by itself, is still the white noise that a motion model was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SharedNoise:
    """All frames have the first one's frequencies over height and width up to ``cutoff``, 0 to 1 of the highest along each.

    0 is the mean alone. At 1 what differs is left in the corners only, and the motion stops.
    """

    cutoff: float = 0.1

    def share(self, noise: Tensor) -> Tensor:
        """Give one clip's frames, ``(f, c, h, w)``, the first one's low frequencies; the result is a tensor of its own."""
        low = self._low_frequencies(noise.float())
        return noise + (low[:1] - low).to(noise.dtype)

    def _low_frequencies(self, noise: Tensor) -> Tensor:
        height, width = noise.shape[-2:]
        rows, columns = torch.fft.fftfreq(height, 0.5), torch.fft.rfftfreq(width, 0.5)
        keep = (rows[:, None].square() + columns.square()).sqrt() <= self.cutoff
        return torch.fft.irfft2(torch.fft.rfft2(noise) * keep.to(noise.device), s=(height, width))
