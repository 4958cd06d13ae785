"""From a CameraCtrl's file to a network in ComfyUI's care."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from comfy.model_patcher import ModelPatcher

from ....motion_models.camera_control import CameraControl
from ....motion_models.camera_control_layout import split_camera_control
from ....motion_models.checkpoint import check_finite
from ....motion_models.errors import MotionModelError, quote, shorten
from ....motion_models.identify import is_camera_control
from ....motion_models.inspect_file import not_a
from ....motion_models.recognise import check_dtypes
from ..provenance import set_provenance
from ..types import logger
from .loading import patcher_of, temporal_attention
from .reading import open_weights


def load_camera_control(path: str, disable_dynamic: bool = False) -> ModelPatcher:
    """Load a CameraCtrl: a patcher whose ``model`` is a ``CameraControl``, on the offload device.

    Raises ``MotionModelError``, which names the file, where it cannot be read or is none.
    """
    name = Path(path).name
    with open_weights(path) as (tensors, _):
        if not is_camera_control(tensors):
            raise not_a("CameraCtrl", tensors, name)
        config, weights = split_camera_control(tensors)
        make = functools.partial(CameraControl, config, attention=temporal_attention())
        wanted, found = ({(key, tensor.shape) for key, tensor in table.items()} for table in (_shapes(make), weights))
        if wanted != found:
            wrong = sorted({key for key, _ in wanted ^ found})
            raise MotionModelError(
                f"it is no whole CameraCtrl: {quote(wrong)} are missing, unexpected or of another shape. Download it again."
            )
        check_dtypes(weights)
        check_finite(weights)
    patcher = patcher_of(make, weights, disable_dynamic)
    patcher.cached_patcher_init = (load_camera_control, (path,))
    set_provenance(patcher, name, None)
    logger.info("Loaded '%s': %s, positions for %d frames.", shorten(name), config.title, config.max_frames)
    return patcher


def _shapes(make: functools.partial) -> dict[str, torch.Tensor]:
    return make(operations=torch.nn, device="meta").state_dict()
