"""A motion model: all motion modules of one checkpoint, under the checkpoint's own names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from .attention_inputs import AttentionInputs
from .config import MotionModelConfig
from .temporal_transformer import TemporalTransformer


class Place(NamedTuple):
    """Where in the UNet a motion module runs."""

    part: str  # down, mid or up
    level: int  # 0 for the outermost, which has the finest features


class MotionModule(nn.Module):
    """What runs after one layer of the UNet."""

    def __init__(self, place: Place, channels: int, num_heads: int, **options: Any):
        super().__init__()
        self.place, self.channels = place, channels
        self.temporal_transformer = TemporalTransformer(channels, num_heads, **options)

    def forward(self, hidden_states: Tensor, inputs: AttentionInputs, **kwargs: Any) -> Tensor:
        return self.temporal_transformer(hidden_states, inputs, **kwargs)

    def residual(self, hidden_states: Tensor, inputs: AttentionInputs, **kwargs: Any) -> Tensor:
        """What ``forward`` adds at strength 1, see ``TemporalTransformer.residual``."""
        return self.temporal_transformer.residual(hidden_states, inputs, **kwargs)


class MotionBlock(nn.Module):
    """The motion modules of one block of the UNet (in the sense of diffusers: all layers of one width)."""

    def __init__(self, place: Place, widths: tuple[int, ...], num_heads: int, **options: Any):
        super().__init__()
        self.motion_modules = nn.ModuleList(MotionModule(place, channels, num_heads, **options) for channels in widths)


class MotionModel(nn.Module):
    """The networks of one motion-model file; its motion modules are called one by one, each after a layer of the UNet.

    ``operations`` has the layer classes ``Linear``, ``LayerNorm`` and ``GroupNorm``: ``torch.nn`` or one of ComfyUI's.
    ``attention`` is ``(q, k, v, heads, transformer_options=...) -> out``, all tensors ``(b n) f c``.
    """

    def __init__(self, config: MotionModelConfig, *, operations: Any, attention: Callable, dtype=None, device=None):
        super().__init__()
        self.config = config
        options = {"operations": operations, "attention": attention, "dtype": dtype, "device": device}
        options["norm_over_frames"] = config.family.motion_norm_over_frames

        def block(part: str, level: int, widths: tuple[int, ...]) -> MotionBlock:
            return MotionBlock(Place(part, level), widths, config.num_heads, **options)

        layers, levels = config.layers_per_block, list(enumerate(config.block_channels))
        self.down_blocks = nn.ModuleList(block("down", level, (width,) * layers) for level, width in levels)
        self.up_blocks = nn.ModuleList(block("up", level, (width,) * (layers + 1)) for level, width in reversed(levels))
        if config.has_mid_block:
            self.mid_block = block("mid", len(levels) - 1, config.mid_channels)

    @property
    def modules_by_part(self) -> dict[str, list[MotionModule]]:
        """The motion modules of ``down``, ``mid`` (none or one) and ``up``, in the order of the UNet's blocks."""
        motion_modules = [module for module in self.modules() if isinstance(module, MotionModule)]
        return {part: [each for each in motion_modules if each.place.part == part] for part in ("down", "mid", "up")}
