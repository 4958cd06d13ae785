"""The rays that a camera sees at each frame, as CameraCtrl is told where it stands.

Source: He et al. 2024, arXiv:2404.02101, section 3.1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .camera_path import Cameras


def plucker_rays(cameras: Cameras, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Plücker coordinates of the rays through the middles of a picture's pixels: moment and direction, ``(f, 6, h, w)`` in float32.

    They are in the axes of the first of these cameras. Of a picture of another shape than the lens's, the larger part of the
    scene is seen as it would be if the lens's picture had been cut to that shape.
    """
    poses = torch.from_numpy(np.linalg.inv(cameras.poses[0]) @ cameras.poses).float().to(device)
    intrinsics = torch.from_numpy(fitted_intrinsics(cameras, height, width)).float().to(device)
    fx, fy, cx, cy = intrinsics.T[..., None]
    rows, columns = (torch.arange(size, device=device) + 0.5 for size in (height, width))
    x = ((columns - cx * width) / (fx * width))[:, None, :].expand(-1, height, -1)
    y = ((rows - cy * height) / (fy * height))[:, :, None].expand(-1, -1, width)
    directions = functional.normalize(torch.stack([x, y, torch.ones_like(x)], dim=1), dim=1)
    directions = torch.einsum("fij,fjhw->fihw", poses[:, :3, :3], directions)
    origins = poses[:, :3, 3, None, None].expand_as(directions)
    return torch.cat([torch.linalg.cross(origins, directions, dim=1), directions], dim=1)


def fitted_intrinsics(cameras: Cameras, height: int, width: int) -> np.ndarray:
    """A lens's intrinsics ``(f, 4)`` as shares of a picture of another shape, which is cut out of its own."""
    intrinsics, shape = cameras.lens.intrinsics.copy(), width / height
    if cameras.lens.aspect > shape:
        intrinsics[:, 0] *= cameras.lens.aspect / shape
    else:
        intrinsics[:, 1] *= shape / cameras.lens.aspect
    return intrinsics
