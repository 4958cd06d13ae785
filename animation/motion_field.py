"""Where each pixel of a frame is found in another frame.

On a small copy every whole-pixel displacement of a block is tried, so that nothing is too fast to be found. From there to
full size, displacements are doubled and corrected by the method of Lucas and Kanade (An Iterative Image Registration
Technique with an Application to Stereo Vision, 1981), which is good for fractions of a pixel. Two preferences keep the
result a motion, not just a match: a pixel moves only if that explains its surroundings clearly better, so plain areas
and noise stand still; and where one motion common to the frame explains as much as any other, it is that one, since an
edge alone doesn't show how far it moves along itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

REACH = 1 / 6
"""Displacements up to this share of the frame's longer side are found."""

_SMALL = 64  # longer side of the copy on which all displacements are tried
_BLOCK, _STRIDE = 8, 4
_WINDOW = 5
_NEEDED = 0.75  # a displacement counts as better if it leaves less than this share of the difference ...
_SAME = 5e-4  # ... and at least so much less; 1 is the range of values
_AS_MUCH = 0.75  # the common motion is taken if it explains at least this share of what the best displacement does
_CORRECTIONS = 2


def motion_field(frames: Tensor, others: Tensor) -> Tensor:
    """Find the pixels of frames ``(f, c, h, w)``, from 0 to 1, in as many other frames of the same size.

    Returns:
        ``(f, 2, h, w)`` displacements in pixels, x to the right and y down: what is at p in the frame is at
        p + displacement in the other one. ``move(others, field)`` looks like ``frames``.
    """
    # A change of the whole picture's brightness or colour is no motion, but could pass for one on a slope of brightness.
    shift = (frames - others).flatten(2).median(-1).values
    return _estimate(frames, others + shift[..., None, None])[0]


def move(images: Tensor, field: Tensor, mode: str = "bilinear") -> Tensor:
    """Take each pixel p of ``(f, c, h, w)`` images from p + displacement; outside, the border's pixels go on."""
    h, w = images.shape[-2:]
    x = torch.arange(w, device=images.device) + 0.5 + field[:, 0]
    y = torch.arange(h, device=images.device)[:, None] + 0.5 + field[:, 1]
    grid = torch.stack([2 * x / w - 1, 2 * y / h - 1], dim=-1)
    return functional.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)


def window_mean(values: Tensor) -> Tensor:
    """Mean of ``(f, c, h, w)`` values over the 5 x 5 pixels around each, or what of them lies inside the frame."""
    half = _WINDOW // 2
    columns = functional.avg_pool2d(values, (_WINDOW, 1), stride=1, padding=(half, 0), count_include_pad=False)
    return functional.avg_pool2d(columns, (1, _WINDOW), stride=1, padding=(0, half), count_include_pad=False)


def texture(images: Tensor) -> Tensor:
    """How much the 5 x 5 pixels around each differ: their standard deviation over all channels, ``(f, 1, h, w)``."""
    variance = window_mean(images.square()) - window_mean(images).square()
    return variance.clamp(min=0).sum(1, keepdim=True).sqrt()


def difference(images: Tensor, others: Tensor) -> Tensor:
    """Mean absolute difference over channels, ``(f, 1, h, w)``."""
    return (images - others).abs().mean(1, keepdim=True)


def _estimate(frames: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Displacements ``(f, 2, h, w)`` of pixels and ``(f, 2, 1, 1)`` of whole frames, from those at half the size."""
    if max(frames.shape[-2:]) <= _SMALL:
        field, common = _search(frames, others)
    else:
        field, common = _estimate(_half(frames), _half(others))
        field, common = 2 * _spread(field, 2, frames), 2 * common
    return _correct(field, common, frames, others)


def _search(frames: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Try every displacement; a short one that is nearly as good as the best is taken for it."""
    h, w = frames.shape[-2:]
    reach = max(1, round(REACH * max(h, w)))
    steps = torch.arange(-reach, reach + 1, device=frames.device)
    shifts = torch.cartesian_prod(steps, steps).flip(-1)  # (x, y), rows one after the other
    rows = functional.pad(others, (reach,) * 4, mode="replicate").unfold(-1, w, 1)  # f c h+ x w
    left = torch.cat([_row_of_blocks(frames, rows[:, :, top : top + h]) for top in range(2 * reach + 1)], dim=1)
    by_length = shifts.square().sum(-1).argsort(stable=True)
    shifts, left = shifts[by_length].to(frames.dtype), left[:, by_length]

    is_good = left <= left.amin(1, keepdim=True) / _NEEDED + _SAME
    field = shifts[is_good.byte().argmax(1)].movedim(-1, 1)
    changed, weight = left[:, :1], _blocks(texture(frames))
    in_all = (weight * torch.minimum(left, changed)).sum((2, 3))
    return _spread(field, _STRIDE, frames), shifts[in_all.argmin(1)][..., None, None]


def _row_of_blocks(frames: Tensor, others: Tensor) -> Tensor:
    """Differences to others displaced by x steps, ``(f, c, h, x, w)``, in blocks: ``(f, x, h / 4, w / 4)``."""
    return _blocks((frames[..., None, :] - others).abs().mean(1).transpose(1, 2))


def _blocks(values: Tensor) -> Tensor:
    """Means over overlapping blocks, one for each 4 x 4 pixels."""
    margin = (_BLOCK - _STRIDE) // 2
    return functional.avg_pool2d(values, _BLOCK, _STRIDE, margin, ceil_mode=True, count_include_pad=False)


def _spread(values: Tensor, factor: int, images: Tensor) -> Tensor:
    h, w = images.shape[-2:]
    return values.repeat_interleave(factor, -1).repeat_interleave(factor, -2)[..., :h, :w]


def _half(images: Tensor) -> Tensor:
    return functional.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)


class _Match:
    """The best displacements so far, and what difference they leave around each pixel."""

    def __init__(self, field: Tensor, frames: Tensor, others: Tensor) -> None:
        self._frames, self._others = frames, others
        self.field = field
        self.moved = move(others, field)
        self.left = window_mean(difference(frames, self.moved))

    def take(self, field: Tensor, most: Tensor) -> None:
        """Take other displacements where they leave less difference than ``most``."""
        moved = move(self._others, field)
        left = window_mean(difference(self._frames, moved))
        is_taken = left < most
        self.field = torch.where(is_taken, field, self.field)
        self.moved = torch.where(is_taken, moved, self.moved)
        self.left = torch.where(is_taken, left, self.left)

    def take_better(self, field: Tensor) -> None:
        self.take(field, _NEEDED * self.left - _SAME / 5)


def _correct(field: Tensor, common: Tensor, frames: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Correct displacements that are good to about a pixel."""
    changed = window_mean(difference(frames, others))
    for _ in range(2):
        moved = move(others, common.expand_as(field))
        follows = (window_mean(difference(frames, moved)) <= changed).to(field.dtype)
        common = common + _step(frames, moved, follows)

    match = _Match(field, frames, others)
    h, w = field.shape[-2:]
    padded = functional.pad(field, (4, 4, 4, 4), mode="replicate")
    for x, y in ((8, 4), (0, 4), (4, 8), (4, 0)):  # four pixels away: what moves seldom ends where blocks do
        match.take_better(padded[..., y : y + h, x : x + w])
    _prefer_common(match, common, changed)
    for _ in range(_CORRECTIONS):
        match.take_better(match.field + _step(frames, match.moved))
    _prefer_common(match, common, changed)
    return match.field, common


def _prefer_common(match: _Match, common: Tensor, changed: Tensor) -> None:
    as_much = changed - _AS_MUCH * (changed - match.left) + _SAME
    match.take(common.expand_as(match.field), torch.minimum(as_much, _NEEDED * changed - _SAME))


def _step(frames: Tensor, moved: Tensor, follows: Tensor | None = None) -> Tensor:
    """Lucas and Kanade's step: the displacement that makes up for the difference, if brightness were linear in it.

    ``follows``, ``(f, 1, h, w)``, is 1 for the pixels of a frame that get one step together; else each gets its own.
    """

    def mean(values: Tensor) -> Tensor:
        return window_mean(values) if follows is None else (values * follows).mean((2, 3), keepdim=True)

    padded = functional.pad(moved, (1, 1, 1, 1), mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    rest = frames - moved
    xx, xy, yy, x, y = (
        mean((one * other).sum(1, keepdim=True)) for one, other in ((gx, gx), (gx, gy), (gy, gy), (gx, rest), (gy, rest))
    )
    damping = 0.01 * (xx + yy) + 1e-6  # along an edge nothing is known, so nothing moves
    xx, yy = xx + damping, yy + damping
    return (torch.cat([yy * x - xy * y, xx * y - xy * x], dim=1) / (xx * yy - xy * xy)).clamp(-1, 1)
