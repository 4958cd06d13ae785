"""Reuse: what motion modules, or the UNet's deep layers, gave at one step serves the next ones.

Sources: temporal broadcast of Pyramid Attention Broadcast (Zhao et al. 2024, arXiv:2408.12588), here for all that a motion module
adds; DeepCache (Ma et al. 2023, arXiv:2312.00858) for the deep layers, see ``deep_reuse.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from comfy.model_base import BaseModel
from torch import Tensor

from ....animation.windowing import step_of
from ..types import REUSE_KEY, WITHOUT_KEY
from .unet_call import UNetCall, check_range

MOTION, DEEP = "motion modules", "deep layers"


@dataclass(frozen=True)
class Reuse:
    """What is reused, and where in a run.

    Attributes:
        interval: steps that share what the motion modules added at the first of them; 1 is no reuse.
        deep_interval: the same for the UNet's deep layers.
        start_percent, end_percent: the part of the sampling in which that is done, as ComfyUI counts it.
        in_ram: whether features are kept in RAM rather than where they were made.
    """

    interval: int = 1
    deep_interval: int = 1
    start_percent: float = 0.0
    end_percent: float = 1.0
    in_ram: bool = False

    def __post_init__(self) -> None:
        check_range(self.start_percent, self.end_percent, "nothing would ever be reused")


class KeptFeatures:
    """What one run keeps from its calls of the UNet; it lives in that run's ``transformer_options``.

    Each call is known by its prompts, frames and shape. Where a step has several calls that are alike in all of that, as tiles
    are, their order tells them apart.
    """

    def __init__(self, reuse: Reuse):
        self.reuse = reuse
        self.made = dict.fromkeys((MOTION, DEEP), 0)
        self.reused = dict.fromkeys((MOTION, DEEP), 0)
        self._group: dict[str, int | None] = {}
        self._features: dict[str, dict[Hashable, tuple[Hashable, Tensor]]] = {MOTION: {}, DEEP: {}}
        self._calls: dict[Hashable, tuple[float, int]] = {}  # sigma of the last call of a kind, and how many there were at it

    def number_of_call(self, kind: Hashable, sigma: float) -> int:
        """How many calls of this kind there were at this noise level before this one."""
        last, number = self._calls.get(kind, (None, -1))
        number = number + 1 if last == sigma else 0
        self._calls[kind] = (sigma, number)
        return number

    def begin(self, part: str, group: int | None) -> None:
        """Drop what other groups of steps have kept: it serves no more."""
        if self._group.get(part) != group:
            self._group[part] = group
            self._features[part].clear()

    def find(self, part: str, key: Hashable, depends_on: Hashable) -> Tensor | None:
        made_for, features = self._features[part].get(key, (None, None))
        return features if features is not None and made_for == depends_on else None

    def keep(self, part: str, key: Hashable, depends_on: Hashable, features: Tensor) -> None:
        self._features[part][key] = (depends_on, features.cpu() if self.reuse.in_ram else features)


@dataclass(frozen=True)
class Turn:
    """One call's turn in a group of steps that share features of one part."""

    kept: KeptFeatures
    part: str
    call: Hashable
    makes: bool  # whether this is the group's first step, which makes the features

    def find(self, owner: Hashable, depends_on: Hashable, like: Tensor) -> Tensor | None:
        """What an ``owner`` has kept for this call, on ``like``'s device; None if it is to be made, or is of other settings."""
        features = None if self.makes else self.kept.find(self.part, (self.call, owner), depends_on)
        counts = self.kept.made if features is None else self.kept.reused
        counts[self.part] += 1
        return None if features is None else features.to(like.device, non_blocking=True)

    def keep(self, owner: Hashable, depends_on: Hashable, features: Tensor) -> None:
        self.kept.keep(self.part, (self.call, owner), depends_on, features)

    def of(self, owner: Hashable, depends_on: Hashable, like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """What ``find`` finds, or else what ``make`` gives, kept for the next step."""
        features = self.find(owner, depends_on, like)
        if features is None:
            features = make()
            self.keep(owner, depends_on, features)
        return features


def turns_of_call(call: UNetCall, x: Tensor, base: BaseModel) -> dict[str, Turn]:
    """The turns of a call of ``base`` with the batch ``x``, by part; none where nothing is reused. The place is told from sigma."""
    kept: KeptFeatures | None = call.options.get(REUSE_KEY)
    if kept is None or "sample_sigmas" not in call.options:
        return {}
    reuse = kept.reuse
    intervals = {part: interval for part, interval in ((MOTION, reuse.interval), (DEEP, reuse.deep_interval)) if interval > 1}
    if not intervals:
        return {}
    sigma, *levels = call.noise_levels
    start, end = (float(base.model_sampling.percent_to_sigma(percent)) for percent in (reuse.start_percent, reuse.end_percent))
    if not end <= sigma <= start:
        for part in intervals:
            kept.begin(part, None)
        return {}
    first = next((number for number, level in enumerate(levels[:-1]) if end <= level <= start), 0)
    kind = _kind_of(call, x, base)
    key = (kind, kept.number_of_call(kind, sigma))
    turns = {}
    for part, interval in intervals.items():
        group, place = divmod(step_of(sigma, levels) - first, interval)
        kept.begin(part, group)
        turns[part] = Turn(kept, part, key, place == 0)
    return turns


def _kind_of(call: UNetCall, x: Tensor, base: BaseModel) -> Hashable:
    prompts = tuple(tuple(call.options.get(name) or ()) for name in ("uuids", "cond_or_uncond", WITHOUT_KEY))
    hooks = base.current_patcher.current_hooks  # LoRAs that are in the weights for this call alone
    strengths = () if hooks is None else tuple((hook.hook_ref, hook.strength) for hook in hooks.hooks)
    return prompts, tuple(call.window or ()), call.num_frames, x.shape, x.dtype, x.device, strengths
