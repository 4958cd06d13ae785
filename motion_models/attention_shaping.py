"""Changes to the attention maps of motion modules that need no training.

Sources: Luo et al. 2025, "Enhance-A-Video", arXiv:2502.07508 (``enhance``); Li et al. 2024, "VSTAR", arXiv:2403.13501
(``neighbours``). Both were made for other video models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionShaping:
    """How temporal attention differs from what was trained; 0 is off.

    ``enhance`` multiplies the attention's output by ``max(1, (frames + enhance) * c)``, where c is the cross-frame intensity: the
    mean of the attention map off its diagonal, over a clip's pixels and heads. ``neighbours`` adds to the logits a band of
    normal density over the distance of two frames, ``width`` frames wide, as high as so many times the row's largest logit.
    """

    enhance: float = 0.0
    neighbours: float = 0.0
    width: float = 2.0

    def attend(self, q: Tensor, k: Tensor, v: Tensor, num_heads: int, clips: int, bias: Tensor | None = None) -> Tensor:
        """Attend over dim 1 of queries, keys and values ``(clips n) f c``, clip by clip to spare memory.

        ``bias``, ``(clips n) f f``, is added to the logits of all heads before anything else.
        """
        parts = zip(q.chunk(clips), k.chunk(clips), v.chunk(clips), strict=True)
        each = ([x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in part] for part in parts)
        biases = [None] * clips if bias is None else bias[:, None].chunk(clips)
        return torch.cat([self._of_one_clip(q, k, v, own) for (q, k, v), own in zip(each, biases, strict=True)])

    def _of_one_clip(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        frames = q.shape[2]
        logits = (q @ k.transpose(2, 3)).float() / q.shape[3] ** 0.5  # n heads f f
        if bias is not None:
            logits = logits + bias
        if self.neighbours:
            distance = torch.arange(frames, device=q.device, dtype=torch.float32)
            band = torch.exp(-((distance[:, None] - distance) / self.width).square() / 2)
            logits = logits + self.neighbours * logits.amax(-1, keepdim=True) * band
        shares = logits.softmax(-1)
        out = shares.to(v.dtype) @ v
        if self.enhance and frames > 1:
            across = (shares.sum((2, 3)) - shares.diagonal(dim1=2, dim2=3).sum(-1)).mean() / (frames * (frames - 1))
            out = out * ((frames + self.enhance) * across).clamp_min(1.0).to(out.dtype)
        return out.transpose(1, 2).flatten(2)
