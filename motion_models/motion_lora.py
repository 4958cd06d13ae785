"""Motion LoRAs of every layout: what they add to the weights of a motion model, strictly checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Size

from .config import MotionModelConfig
from .errors import IncompatibleMotionModel, quote
from .identify import is_motion_key, is_motion_lora
from .inspect_file import not_a
from .layouts import Layout, layout_name
from .lora_layouts import Addition, MergedAddition, alpha_of_metadata, layer_path, read_layers, refuse_unsupported
from .recognise import expected_shapes, unwrap


@dataclass(frozen=True)
class MotionLora:
    """A motion LoRA, fitted to a motion model."""

    layers: dict[str, Addition]  # by the motion model's weights
    notices: tuple[str, ...]  # what of the file is left out and why

    @property
    def merged_kind(self) -> str | None:
        """The kind of those layers that can only be merged."""
        return next((layer.title for layer in self.layers.values() if isinstance(layer, MergedAddition)), None)


def convert_motion_lora(
    state_dict: Mapping[str, object], config: MotionModelConfig,
    file_name: str = "", metadata: Mapping[str, str] = MappingProxyType({}),
) -> MotionLora:  # fmt: skip
    """Recognise a motion LoRA of any layout in what a file held, wrappings and all, and fit it to a motion model.

    Raises ``UnknownMotionModelFormat`` where it is something else or of a kind that is not supported (named),
    ``IncompatibleMotionModel`` where it was made for another shape, ``MotionModelError`` where it is damaged.
    """
    tensors = unwrap(state_dict)
    if not is_motion_lora(tensors):
        raise not_a("motion LoRA", tensors, file_name)
    shapes = linear_shapes(config)
    layers, others = read_layers(tensors, _weights_by_path(shapes), shapes, alpha_of_metadata(metadata))
    notices, motion_keys = _notices(others, config)
    refuse_unsupported(motion_keys, layers)
    if not layers:
        raise IncompatibleMotionModel(
            f"none of its {len(tensors):,} keys is for a weight of this {config.family.title} motion model; "
            f"for motion modules it has {quote(motion_keys)}. "
            f"Use a motion LoRA made for {config.base_model}, in AnimateDiff's, Diffusers' or kohya's layout."
        )
    return MotionLora(layers, notices)


def linear_shapes(config: MotionModelConfig) -> dict[str, Size]:
    """The weights ``(out, in)`` that a LoRA may change: those of linear layers."""
    return {name: shape for name, shape in expected_shapes(config).items() if len(shape) == 2}


def _weights_by_path(names: Mapping[str, object]) -> dict[str, str]:
    """Each weight's name under the ``layer_path`` that it has in any layout."""
    weights = {}
    for name in names:
        for layout in Layout:
            path = layer_path(layout_name(name, layout).removesuffix(".weight"))
            weights[path] = name
            if path.endswith("_to_out_0"):  # attention processors have no dropout after it, so no number
                weights[path.removesuffix("_0")] = name
    return weights


def _notices(others: list[str], config: MotionModelConfig) -> tuple[tuple[str, ...], list[str]]:
    """Say what is left out; also return the motion keys among it."""
    motion = [key for key in others if is_motion_key(key)]
    spatial = [key for key in others if not is_motion_key(key)]
    middle = [key for key in motion if not config.has_mid_block and layer_path(key).startswith("mid_block")]
    unknown = [key for key in motion if key not in set(middle)]
    notices = (
        (middle, f"made for a motion model with a mid block (v2), which this {config.family.title} one does not have: "
                 f"{len(middle)} of its keys are left out. It will work, but less well than with a v2 motion model."),
        (spatial, f"{len(spatial)} of its keys are for the checkpoint, not for the motion model, and are left out: "
                  f"{quote(spatial)}. For these, also load the file with Load LoRA or Load Domain Adapter."),
        (unknown, f"{len(unknown)} of its keys match no weight of this motion model and are left out: "
                  f"{quote(unknown)}."),
    )  # fmt: skip
    return tuple(notice for keys, notice in notices if keys), motion
