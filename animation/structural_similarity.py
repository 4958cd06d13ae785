"""Structural similarity: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_C1, _C2 = 0.01**2, 0.03**2
_RADIUS, _SIGMA = 5, 1.5


def structural_similarity(images: Tensor, others: Tensor) -> Tensor:
    """SSIM of brightness with the paper's constants and Gaussian windows of 11 x 11 pixels; the border's pixels go on.

    Args:
        images: ``(f, 3, h, w)`` RGB from 0 to 1.
        others: as many, of the same size.

    Returns:
        ``(f,)``, 1 for equal images.
    """
    x, y = _brightness(images), _brightness(others)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    contrast_and_structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return (light * contrast_and_structure).mean((1, 2, 3))


def _brightness(images: Tensor) -> Tensor:
    weights = images.new_tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def _blur(values: Tensor) -> Tensor:
    places = torch.arange(-_RADIUS, _RADIUS + 1, device=values.device)
    weights = torch.exp(-(places**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    values = functional.pad(values, (_RADIUS,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(values, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
