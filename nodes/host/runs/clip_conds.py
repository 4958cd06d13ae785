"""What is given for each frame of several clips in a batch, for a run that samples some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from comfy.conds import CONDConstant, CONDRegular
from comfy.utils import repeat_to_batch_size, resize_to_batch_size
from torch import Tensor

# In a prompt's options: the number of frames that it was for, before it was fitted to several clips.
FITTED_KEY = "animatediff_loom_fitted_from"
# Parts of a prompt that ComfyUI stretches over a batch, not repeats: what inpainting and editing UNets see.
_STRETCHED = ("concat_latent_image", "concat_mask")


class ClipShare(NamedTuple):
    """Some clips of a batch, whose clips have equal length and stand one after the other."""

    total: int  # frames of the whole batch
    frames: int  # of a clip
    part: slice  # the frames that are sampled, whole clips

    @property
    def clips(self) -> int:
        return len(range(self.total)[self.part]) // self.frames

    def of(self, batch: Tensor, fit: Callable[[Tensor, int], Tensor] = repeat_to_batch_size) -> Tensor:
        """A batch's share, so that each clip sees what it would see alone.

        What has an entry for each frame of all clips is cut. ComfyUI fits any other number of entries to the frames of the
        run; with several clips that would begin anew somewhere in a clip.
        """
        if len(batch) == self.total:
            return batch[self.part]
        if len(batch) == 1 or self.clips == 1:
            return batch
        return torch.cat([fit(batch, self.frames)] * self.clips)

    def of_conds(self, conds: list) -> list:
        """The prompts of these clips; ControlNets stay the same objects, see ``changed_hints``."""
        own = []
        for embedding, options in conds:
            cut, options = self._of(embedding), {name: self._of(value, name) for name, value in options.items()}
            if embedding is not None and self.clips > 1 and len(cut) != len(embedding):
                options[FITTED_KEY] = len(embedding)
            own.append([cut, options])
        return own

    def _of(self, value: Any, name: str = "") -> Any:
        if isinstance(value, Tensor) and value.ndim:
            return self.of(value, resize_to_batch_size if name in _STRETCHED else repeat_to_batch_size)
        if isinstance(value, CONDRegular) and not isinstance(value, CONDConstant):
            return value._copy_with(self._of(value.cond))
        if type(value) is list:
            return [self._of(each) for each in value]
        if type(value) is dict:
            return {key: self._of(each, key) for key, each in value.items()}
        return value
