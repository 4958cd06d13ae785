"""From a SparseCtrl's file to one of ComfyUI's ControlNets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import comfy.latent_formats
import comfy.model_management
import comfy.ops
from torch import Tensor, nn

from ....animation.placed_images import Placement
from ....motion_models.checkpoint import check_finite
from ....motion_models.errors import MotionModelError, quote, shorten
from ....motion_models.identify import is_sparse_control
from ....motion_models.inspect_file import not_a
from ....motion_models.recognise import check_dtypes
from ....motion_models.sparse_control_layout import split_sparse_control
from ..motion.sparse_control import SparseControl
from ..motion.sparse_network import SparseControlNetwork, spatial_names
from ..types import logger
from .loading import storage_dtype, temporal_attention
from .reading import open_weights

# What the network is made of where only its shapes count: ComfyUI's own layers may come without weights.
PLAIN = SimpleNamespace(
    Linear=nn.Linear, Conv2d=nn.Conv2d, GroupNorm=nn.GroupNorm, LayerNorm=nn.LayerNorm,
    conv_nd=lambda dims, *args, **options: nn.Conv2d(*args, **options),
)  # fmt: skip


def load_sparse_control(path: str) -> SparseControl:
    """Load a SparseCtrl; raises ``MotionModelError``, which names the file, where it cannot be read or is none."""
    name = Path(path).name
    with open_weights(path) as (tensors, _):
        if not is_sparse_control(tensors):
            raise not_a("SparseCtrl", tensors, name)
        config, spatial, temporal = split_sparse_control(tensors)
        names = spatial_names(config)
        weights = {names.get(theirs, theirs): tensor for theirs, tensor in spatial.items()} | temporal
        make = functools.partial(SparseControlNetwork, config, attention=temporal_attention())
        _check(make(operations=PLAIN, device="meta").state_dict(), weights)
    control = _control(make, weights, name)
    logger.info("Loaded '%s': %s, positions for %d frames.", shorten(name), config.title, config.max_frames)
    return control


def _check(shapes: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raise ``MotionModelError`` unless weights are just those of a network: under DynamicVRAM it would take any shape."""
    wanted, found = ({(name, tensor.shape) for name, tensor in table.items()} for table in (shapes, weights))
    wrong = sorted({name for name, _ in wanted ^ found})
    if wrong:
        raise MotionModelError(
            f"it is no whole SparseCtrl: {quote(wrong)} are missing, unexpected or of another shape. Download it again."
        )
    check_dtypes(weights)
    check_finite(weights)


def _control(make: Callable[..., SparseControlNetwork], weights: dict[str, Tensor], name: str) -> SparseControl:
    load_device = comfy.model_management.get_torch_device()
    dtype = storage_dtype(weights, load_device)
    # manual_cast follows the dtype of what goes in, which get_control casts to the dtype that ComfyUI computes a UNet of this in.
    network = make(operations=comfy.ops.manual_cast, dtype=dtype, device=comfy.model_management.unet_offload_device())
    comfy.model_management.archive_model_dtypes(network)
    control = SparseControl(
        network, name, Placement(), load_device=load_device,
        manual_cast_dtype=comfy.model_management.unet_manual_cast(dtype, load_device),
        latent_format=comfy.latent_formats.SD15() if network.config.takes_latents else None,
    )  # fmt: skip
    network.load_state_dict(weights, assign=control.control_model_wrapped.is_dynamic())
    network.eval().requires_grad_(False)
    return control
