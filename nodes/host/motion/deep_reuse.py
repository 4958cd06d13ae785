"""DeepCache: what enters the UNet's last up block is kept, and only the outer layers run in the next steps.

Source: Ma et al. 2023, arXiv:2312.00858. ComfyUI's UNet has no way to leave blocks out, but calls handlers in place of its residual
blocks and transformers, and patches before each of its output blocks. So Loom's handler hands features of one pixel through the deep
blocks, whose up- and downsamplers cost next to nothing then, and a patch puts what was kept in their place where the outer blocks
begin.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel, Upsample
from torch import Tensor, nn

from .reuse import Turn

_BLOCK_PATCHES = ("input_block_patch", "input_block_patch_after_skip", "output_block_patch")


def outer_blocks(unet: UNetModel) -> int:
    """How many blocks at each end of a UNet are not deep: those behind the last upsampler, or the last one if there is none."""
    blocks = list(unet.output_blocks)
    upsamplers = [number for number, block in enumerate(blocks) if any(isinstance(layer, Upsample) for layer in block)]
    return len(blocks) - 1 - upsamplers[-1] if upsamplers else 1


@dataclass
class DeepReuse:
    """How one call of the UNet takes part: it keeps what enters the outer blocks, or has ``features`` kept by an earlier one."""

    turn: Turn
    outer: int
    num_blocks: int  # input blocks, and as many output blocks
    depends_on: Hashable  # what the deep layers' features depend on beside the picture
    features: Tensor | None = None

    @classmethod
    def of(cls, unet: UNetModel, turn: Turn, depends_on: Hashable, control: dict[str, list] | None, x: Tensor) -> DeepReuse | None:
        """How a call with the batch ``x`` takes part; None where there are no deep blocks to speak of."""
        outer, num_blocks = outer_blocks(unet), len(unet.output_blocks)
        if outer >= num_blocks or len(unet.input_blocks) != num_blocks:
            return None
        reach = tuple((name, len(values), tuple(value is None for value in values)) for name, values in (control or {}).items())
        depends_on = (depends_on, reach)
        return cls(turn, outer, num_blocks, depends_on, turn.find("deep", depends_on, x))

    def is_deep(self, block: tuple[str, int]) -> bool:
        part, number = block
        return part == "middle" or (number >= self.outer if part == "input" else number < self.num_blocks - self.outer)

    def leaves_out(self, options: dict[str, Any]) -> bool:
        """Whether the block that the UNet is at does not run."""
        return self.features is not None and self.is_deep(options["block"])

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """A copy of ``transformer_options`` with the patches that keep features, or put them in."""
        patches = dict(options.get("patches", {}))
        others = patches.get("output_block_patch", [])
        if self.features is None:
            patches["output_block_patch"] = [self._keep if not others else self._keep_copy, *others]
            return {**options, "patches": patches}
        for kind in _BLOCK_PATCHES:  # what other nodes do to deep blocks is in what was kept
            patches[kind] = [self._outside(patch) for patch in patches.get(kind, [])]
        patches["middle_block_after_patch"] = []
        patches["output_block_patch"].insert(0, self._put_in)
        patches["input_block_patch_after_skip"].append(self._leave_one_pixel)
        return {**options, "patches": patches}

    def control(self, control: dict[str, list] | None) -> dict[str, list] | None:
        """ControlNet's features without those for blocks that do not run. The UNet takes them from the lists' ends."""
        if control is None or self.features is None:
            return control
        return {
            part: [None if self.is_deep((part, len(values) - 1 - place)) else value for place, value in enumerate(values)]
            for part, values in control.items()
        }

    def _is_border(self, options: dict[str, Any]) -> bool:
        return options["block"] == ("output", self.num_blocks - self.outer)

    # torch.compile would bake in which step it is: core drops its guards on transformer_options.

    @torch.compiler.disable
    def _keep(self, h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self._is_border(options):
            self.turn.keep("deep", self.depends_on, h)
        return h, skip

    @torch.compiler.disable
    def _keep_copy(self, h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self._is_border(options):  # FreeU, for one, writes into what it is given
            self.turn.keep("deep", self.depends_on, h.clone())
        return h, skip

    @torch.compiler.disable
    def _put_in(self, h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self.features is None or not self._is_border(options):
            return h, skip
        return self.features.clone(), skip

    @torch.compiler.disable
    def _leave_one_pixel(self, h: Tensor, options: dict[str, Any]) -> Tensor:
        return h[:1, :, :1, :1] if options["block"] == ("input", self.outer - 1) else h

    def _outside(self, patch: Callable) -> Callable:
        """A block patch of another node that is not called for blocks that do not run."""

        @torch.compiler.disable
        def outside(*args: Any) -> Any:
            *features, options = args
            if not self.is_deep(options["block"]):
                return patch(*args)
            return features[0] if len(features) == 1 else tuple(features)

        return outside


def in_place_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Something of as many channels as a layer's output, for a layer that does not run; the next one asks for no more."""
    return x.new_zeros(1, layer.out_channels, 1, 1) if isinstance(layer, ResBlock) else x
