"""Attention that keeps what lies in a box and what lies outside it apart.

Source: Qiu et al. 2024, "FreeTraj", arXiv:2406.16863, which multiplies the logits of such pairs by 0.01. Here something is taken
from them: that works alike for logits of either sign, and edges of boxes may lie inside a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """How far each place lies in each of n boxes, 0 to 1, and what is taken from the logits of pairs of which one does.

    ``inside`` is ``(f or b f, n, h, w)``, for tokens ``(b p) f n``.
    """

    inside: Tensor
    strengths: tuple[float, ...]  # of the boxes

    def cut(self, cut: Callable[[Tensor], Tensor]) -> Boxes:
        return replace(self, inside=cut(self.inside))

    def bias(self) -> Tensor:
        """What is added to the logits, ``(..., f, f)``, of tokens with ``inside`` ``(..., f, n)``."""
        return box_bias(self.inside, self.strengths)


def box_bias(inside: Tensor, strengths: tuple[float, ...]) -> Tensor:
    """For places that lie ``inside`` boxes by ``(..., p, n)``, what is added to the logits of each two, ``(..., p, p)``.

    That is minus the sum, over the boxes, of a box's strength times the share by which one place is in it and the other is not.
    """
    weighted = inside * inside.new_tensor(strengths)
    one_side = weighted @ (1.0 - inside).transpose(-1, -2)  # the first place in the box, the second outside
    return -(one_side + one_side.transpose(-1, -2))
