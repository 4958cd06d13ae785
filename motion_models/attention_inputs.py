"""What a temporal attention is given in addition to its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from .attention_shaping import AttentionShaping
from .box_bias import Boxes
from .companions.low_rank import LoraBranches
from .views import Views, Window


@dataclass(frozen=True)
class Merge:
    """Features that a linear layer merges into an attention's tokens: ``tokens + strength * layer(tokens + features)``.

    Source: CameraCtrl, He et al. 2024, arXiv:2404.02101, section 3.3.
    """

    layer: nn.Module
    features: Tensor  # (f, c, h, w) or (b f, c, h, w), for tokens (b n) f c
    strength: float | Tensor = 1.0  # as in AttentionInputs

    def into(self, tokens: Tensor) -> Tensor:
        """Merge into ``tokens``, the caller's own, in place."""
        return tokens.add_(self.layer(tokens + self.features) * self.strength)


@dataclass(frozen=True)
class AttentionInputs:
    """What all temporal attentions of a motion module are given; cut here, by block of pixels or by view, nowhere else.

    ``motion_scale``, which multiplies the keys, and the LoRAs' strengths are numbers or ``(f, h, w)``, or ``(b f, h, w)``
    where the clips of a batch differ; h and w may be 1. ``for_tokens`` turns that into ``(b n) f 1``.
    """

    encoding: Tensor  # f c; with views, f is that of a view, or that of all frames
    motion_scale: float | Tensor = 1.0
    loras: tuple[LoraBranches, ...] = ()
    merges: Mapping[int, Merge] = field(default_factory=dict)  # by number of the attention block, into its normed tokens
    views: Views | None = None  # None: all frames see one another
    options: dict[str, Any] = field(default_factory=dict)  # transformer_options, for the attention function
    shaping: AttentionShaping | None = None
    boxes: Boxes | None = None
    clips: int = 1  # that the tokens' pixels are of, one clip after the other

    @property
    def num_frames(self) -> int:
        return len(self.encoding) if self.views is None else self.views.num_frames

    def for_tokens(self, batch: int, num_pixels: int) -> AttentionInputs:
        """Lay out what is for each pixel as tokens are, ``(b n) f``."""
        return self._cut(lambda value: per_token(value, self.num_frames, batch, num_pixels), clips=batch)

    def of_pixels(self, pixels: slice) -> AttentionInputs:
        """Of some of the tokens' ``(b n)``."""
        return self._cut(lambda value: value[pixels])

    def of_view(self, view: Window) -> AttentionInputs:
        encoding = self.encoding if len(self.encoding) == len(view.frames) else view.take(self.encoding, 0)
        return self._cut(lambda value: view.take(value, 1), encoding=encoding, views=None)

    def _cut(self, cut: Callable[[Tensor], Tensor], **changes: Any) -> AttentionInputs:
        def each(value: float | Tensor) -> float | Tensor:
            return cut(value) if isinstance(value, Tensor) else value  # a number is that of all

        return replace(
            self,
            motion_scale=each(self.motion_scale),
            loras=tuple(replace(lora, strength=each(lora.strength)) for lora in self.loras),
            merges={
                block: replace(merge, features=cut(merge.features), strength=each(merge.strength))
                for block, merge in self.merges.items()
            },
            boxes=None if self.boxes is None else self.boxes.cut(cut),
            **changes,
        )


def per_token(value: Tensor, num_frames: int, batch: int, num_pixels: int) -> Tensor:
    """Turn ``(f or b f, h, w)`` into ``(b n) f 1``, and ``(f or b f, c, h, w)`` into ``(b n) f c``; h and w may be 1."""
    features = value[:, None] if value.ndim == 3 else value
    tokens = features.unflatten(0, (-1, num_frames)).flatten(3).permute(0, 3, 1, 2)  # b n f c, b and n perhaps 1
    return tokens.expand(batch, num_pixels, -1, -1).reshape(batch * num_pixels, num_frames, -1)
