"""Settings of a motion model that may vary: over frames and pixels, over the steps of a run, over the UNet's blocks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.input import CurveInput
from torch import Tensor

from ....animation.schedule import ScheduleError
from ....motion_models.errors import InvalidInput
from ....motion_models.motion_model import Place
from ..types import KEY
from .curves import ValuesOfAnyClip, is_curve, over_clip, to_curve
from .frame_values import FrameValues, resize, to_frame_values
from .norms import GroupNorms
from .unet_call import UNetCall, check_range

FrameInput = CurveInput | ValuesOfAnyClip | Tensor | Sequence[float] | float | None
"""What nodes take for frames: a curve or schedule over the clip, a mask or masks, a list of numbers, a number, or nothing."""


@dataclass(frozen=True)
class BlockValues:
    """A factor for each block of the UNet, the outermost level (the finest features) first.

    Of a part with fewer values than levels, the last one counts for the rest.
    """

    down: tuple[float, ...] = (1.0,)
    mid: float = 1.0
    up: tuple[float, ...] = (1.0,)

    def at(self, place: Place) -> float:
        if place.part == "mid":
            return self.mid
        values = self.down if place.part == "down" else self.up
        return values[min(place.level, len(values) - 1)]


@dataclass(frozen=True)
class Steered:
    """A number, multiplied by whatever it varies with."""

    number: float = 1.0
    frames: FrameValues | CurveInput | ValuesOfAnyClip | None = None  # a curve's x is the share of the clip: 0 first frame, 1 last frame
    steps: CurveInput | None = None  # its x is the share of the run: 0 first step, 1 last step
    blocks: BlockValues | None = None
    hold_last: bool = False  # whether the last value is also that of frames after it, and values past a clip are left out

    @classmethod
    def of(
        cls, name: str, number: float, frames: FrameInput = None, steps: Any = None, blocks: BlockValues | None = None,
        hold_last: bool = False,
    ) -> Steered:  # fmt: skip
        """Make one of a node's inputs ``name``, ``{name}_values``, ``{name}_steps`` and ``{name}_blocks``."""
        if not isinstance(frames, ValuesOfAnyClip):
            frames = (to_curve if is_curve(frames) else to_frame_values)(frames, f"{name}_values")
        return cls(float(number), frames, to_curve(steps, f"{name}_steps"), blocks, hold_last)

    @property
    def is_constant(self) -> bool:
        return self.frames is None and self.steps is None and self.blocks is None

    @property
    def in_words(self) -> str:
        varies = " and ".join(name for name in ("frames", "steps", "blocks") if getattr(self, name) is not None)
        return f"{self.number:g}" + (f", varying over {varies}" if varies else "")

    def check_frame_count(self, total_frames: int, name: str) -> None:
        """Check that values are for one frame (then for all) or for each of a clip's frames, and that a schedule fits them."""
        if isinstance(self.frames, ValuesOfAnyClip):
            try:
                self.frames.over(total_frames)
            except ScheduleError as error:
                raise InvalidInput(f"{name}_values, for the clip's {total_frames} frames: {error}") from None
        if isinstance(self.frames, Tensor) and not self.hold_last and len(self.frames) not in (1, total_frames):
            raise InvalidInput(
                f"{name}_values has values for {len(self.frames)} frames, but a clip has {total_frames}. "
                f"Give one value, or {total_frames}."
            )

    def in_call(self, call: UNetCall, model_sampling: Any = None) -> SteeredInCall:
        """What is left in one call of the UNet, whose step, frames and part of the picture are known.

        With ``model_sampling``, ``steps`` is a curve over its noise schedule rather than over the run's steps.
        """
        number = self.number
        if self.steps is not None:
            number *= self.steps.interp(call.progress if model_sampling is None else call.share_of_schedule(model_sampling))
        frames = None if self.frames is None else over_clip(self.frames, call.total_frames)
        if frames is not None and len(frames) > 1 and len(frames) != call.total_frames:
            frames = frames[[min(frame, len(frames) - 1) for frame in range(call.total_frames)]]
        if frames is not None and call.window is not None and len(frames) > 1:
            frames = frames[call.window]
        return SteeredInCall(number, self.blocks, () if frames is None else call.cut(frames))


@dataclass(frozen=True)
class SteeredInCall:
    """A number, multiplied by factors for the UNet's blocks and by masks; made for one call of the UNet."""

    number: float = 1.0
    blocks: BlockValues | None = None
    masks: tuple[FrameValues, ...] = ()  # for the call's frames: none, one, or one for each clip of each cond
    _cache: dict[Hashable, Any] = field(default_factory=dict, compare=False)

    def at(self, place: Place, features: Tensor, num_frames: int) -> float | Tensor:
        """The value in one block, for features ``(b f) c h w``: a number, ``(f, h, w)`` or ``(b f, h, w)``; h and w may be 1.

        Masks are brought to the device once a call, and to each size once.
        """
        number = self.number if self.blocks is None else self.number * self.blocks.at(place)
        if not self.masks or number == 0.0:
            return number
        device, key = features.device, (number, *features.shape[-2:], features.dtype)
        if device not in self._cache:
            self._cache[device] = [mask.to(device, non_blocking=True) for mask in self.masks]
        if (device, key) not in self._cache:
            sized = [resize(mask, *features.shape[-2:]) for mask in self._cache[device]]
            each = [(mask * number).to(features.dtype).expand(num_frames, -1, -1) for mask in sized]
            # A batch may hold several pictures of each cond and clip, one set of them after the other.
            sets = len(features) // (len(each) * num_frames)
            self._cache[device, key] = each[0] if len(each) == 1 else torch.cat(each * sets)
        return self._cache[device, key]


@dataclass(frozen=True)
class MotionSettings:
    """How a motion model is applied; ``LoomApplyMotionModel``'s inputs."""

    motion_scale: Steered = field(default_factory=Steered)
    strength: Steered = field(default_factory=Steered)
    start_percent: float = 0.0
    end_percent: float = 1.0
    group_norms: GroupNorms = GroupNorms.AS_TRAINED
    over_schedule: bool = False  # whether curves are over the noise schedule rather than over the run's steps
    compile: bool = False

    def __post_init__(self) -> None:
        check_range(self.start_percent, self.end_percent, "the motion model would never run")

    def check_frame_count(self, total_frames: int) -> None:
        self.motion_scale.check_frame_count(total_frames, "motion_scale")
        self.strength.check_frame_count(total_frames, "strength")


def applied_motion_models(model: ModelPatcher) -> list[tuple[ModelPatcher, MotionSettings]]:
    """The motion models on a MODEL and their settings, in the order in which they run."""
    return list(zip(model.get_additional_models_with_key(KEY), model.get_attachment(KEY) or (), strict=True))
