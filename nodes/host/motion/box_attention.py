"""Early attention that is told where subjects are: a trajectory's box of each frame, in every kind of attention.

Temporal and spatial self-attention keep inside and outside of a box apart, see ``motion_models/box_bias.py``; cross-attention lets
the words of a subject act in its box only. The UNet's own attention is reached by ``optimized_attention_override``, in a copy of
``transformer_options`` for each call; patches of attn1 and attn2, which run right before, tell which of the two is next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.nn import functional

from ....animation.path_schedule import boxes_of_path, check_path
from ....animation.schedule import Easing, Pace, ScheduleError
from ....animation.trajectories import coverage
from ....motion_models.box_bias import Boxes, box_bias
from ....motion_models.errors import InvalidInput
from ..types import BOXES_KEY, CLIPS_KEY, PICTURE_KEY
from .frame_values import Picture
from .unet_call import UNetCall

_OVERRIDE = "optimized_attention_override"
_MASK_NUMBERS = 2**26  # of the mask of spatial attention that are made at a time: 128 MiB in half precision
_SELF, _CROSS = "self", "cross"


@dataclass(frozen=True)
class Words:
    """Which of a prompt's tokens are a subject's words, which are ends, and how many there are."""

    places: tuple[int, ...]
    ends: tuple[int, ...]  # these hold the sentence, and the subjects with it
    tokens: int

    def flags(self, places: tuple[int, ...], tokens: int) -> Tensor:
        """1 at ``places``, 0 at others of ``tokens`` that a call has; ComfyUI repeats a prompt beside a longer one."""
        flags = torch.zeros(self.tokens)
        flags[list(places)] = 1.0
        return flags.repeat(-(-tokens // self.tokens))[:tokens]


@dataclass(frozen=True)
class Trajectory:
    """A subject's way through the picture; ``LoomTrajectory``'s inputs.

    ``strength`` is what is taken from the logits of the self-attentions between inside and outside, ``word_strength`` from those
    of the words outside; ``noise`` is the share of the noise that travels with the box; ``carry``, whether the subject is carried there.
    """

    path: str
    size: tuple[float, float]  # width and height of boxes without their own, in shares of the picture
    easing: str = Easing.LINEAR.value
    strength: float = 30.0
    word_strength: float = 30.0
    noise: float = 1.0
    carry: bool = True
    end_percent: float = 0.75
    words: Words | None = None

    def __post_init__(self) -> None:
        check_path(self.path)

    def boxes(self, total_frames: int) -> Tensor:
        """Each frame's box, as ``boxes_of_path`` has it; InvalidInput where the path does not fit a clip of so many frames."""
        try:
            return _boxes(self.path, total_frames, self.size, Pace(Easing(self.easing)))
        except ScheduleError as error:
            raise InvalidInput(f"Trajectory, for the clip's {total_frames} frames: {error}") from None


@functools.lru_cache(maxsize=16)  # each call of the UNet asks
def _boxes(path: str, total_frames: int, size: tuple[float, float], pace: Pace) -> Tensor:
    return boxes_of_path(path, total_frames, size, pace)


def trajectories_of(model: ModelPatcher) -> tuple[Trajectory, ...]:
    return model.get_attachment(BOXES_KEY) or ()


def add_trajectory(model: ModelPatcher, trajectory: Trajectory) -> None:
    """Let one more subject of ``model``, the caller's own clone, go its way."""
    model.set_attachments(BOXES_KEY, (*trajectories_of(model), trajectory))


@dataclass
class BoxesInCall:
    """The boxes of one call of the UNet, and which of its attentions is next."""

    trajectories: tuple[Trajectory, ...]
    inside: tuple[Tensor, ...]  # ``(f, n, h, w)``: one, or one for each clip of each cond
    num_frames: int
    conds: list[int]  # 0 for each positive prompt in the batch, else 1
    following: str | None = None
    _sized: dict[tuple, Tensor] = field(default_factory=dict)

    def boxes(self, features: Tensor) -> Boxes | None:
        """What the temporal attention after features ``(b f) c h w`` is given."""
        strengths = tuple(each.strength for each in self.trajectories)
        return Boxes(self._at(len(features), *features.shape[-2:], features), strengths) if any(strengths) else None

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """A call's options for what is no attention of the UNet's own."""
        own = {**options, BOXES_KEY: None}
        override = own.pop(_OVERRIDE)
        return own if override.previous is None else {**own, _OVERRIDE: override.previous}

    def _at(self, batch: int, height: int, width: int, like: Tensor) -> Tensor:
        """Coverage ``(batch, n, height, width)``, computed once a call for each size."""
        key = (batch, height, width, like.device)
        if key not in self._sized:
            each = [functional.adaptive_avg_pool2d(inside, (height, width)) for inside in self.inside]
            whole = torch.cat(each).to(like.device)
            self._sized[key] = whole.repeat(batch // len(whole), 1, 1, 1)  # sets of tiles come one after the other
        return self._sized[key]

    def attend(self, kind: str, run: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any) -> Tensor:
        """Run an attention of the UNet's, of ``q`` ``(b f) p c``, with what the boxes say, as many frames at a time as fit."""
        batch, pixels, tokens = len(q), q.shape[1], k.shape[1]
        _, _, height, width = kwargs["transformer_options"]["activations_shape"]
        inside = self._at(batch, height, width, q).flatten(2).transpose(1, 2)  # b p n
        step = max(1, _MASK_NUMBERS // (pixels * tokens))
        out = []
        for start in range(0, batch, step):
            part = slice(start, start + step)
            mask = self._between(inside[part]) if kind == _SELF else self._to_words(inside[part], tokens, range(batch)[part], batch)
            out.append(run(q[part], k[part], v[part], heads, mask=mask.to(q.dtype), **kwargs))
        return out[0] if len(out) == 1 else torch.cat(out)

    def _between(self, inside: Tensor) -> Tensor:
        return box_bias(inside, tuple(each.strength for each in self.trajectories))

    def _to_words(self, inside: Tensor, tokens: int, images: range, batch: int) -> Tensor:
        """What is added to the logits of a prompt's tokens, ``(b, p, tokens)``: a subject's words are for its box, ends for any box."""
        outside = 1.0 - inside  # b p n
        outside_all = torch.ones_like(outside[..., 0])
        mask = outside.new_zeros(*outside.shape[:2], tokens)
        strongest, ends = 0.0, torch.zeros(tokens)
        for number, each in enumerate(self.trajectories):
            if each.words is not None and each.word_strength:
                words = each.words.flags(each.words.places, tokens).to(mask)
                mask = mask - each.word_strength * outside[..., number, None] * words
                outside_all = outside_all * outside[..., number]
                strongest = max(strongest, each.word_strength)
                ends = torch.maximum(ends, each.words.flags(each.words.ends, tokens))
        mask = mask - strongest * outside_all[..., None] * ends.to(mask)
        positive = [float(self.conds[image * len(self.conds) // batch] == 0) for image in images]
        return mask * mask.new_tensor(positive)[:, None, None]

    def applies_to(self, kind: str, q: Tensor, k: Tensor, options: dict[str, Any]) -> bool:
        """Whether an attention is one of whole frames, as other packs may make others of it, and has something to be told."""
        batch, _, height, width = options.get("activations_shape", (0, 0, 0, 0))
        if q.ndim != 3 or q.shape[:2] != (batch, height * width) or batch % (len(self.inside) * self.num_frames):
            return False
        if kind == _SELF:
            return q.shape == k.shape and any(each.strength for each in self.trajectories)
        return any(each.words is not None and each.word_strength for each in self.trajectories)


def boxes_in_call(model: ModelPatcher, call: UNetCall, model_sampling) -> BoxesInCall | None:
    """The boxes of those of a MODEL's trajectories that act in this call."""
    acting = tuple(each for each in trajectories_of(model) if call.is_in_range(0.0, each.end_percent, model_sampling))
    if not acting or call.num_frames == 1:
        return None
    picture = call.options.get(PICTURE_KEY) or Picture(*call.size, {})
    areas = call.areas_of(picture, "The boxes of a trajectory are in a picture")
    areas = areas[:1] if len(set(areas)) == 1 else [area for area in areas for _ in range(call.options.get(CLIPS_KEY, 1))]
    frames = list(call.window or range(call.num_frames))
    whole = [coverage(each.boxes(call.total_frames)[frames], picture.height, picture.width) for each in acting]
    inside = tuple(torch.stack([picture.cut(masks, area) for masks in whole], dim=1) for area in areas)
    return BoxesInCall(acting, inside, call.num_frames, list(call.options.get("cond_or_uncond", (0,))))


def options_with_boxes(model: ModelPatcher, options: dict[str, Any], boxes: BoxesInCall | None) -> dict[str, Any]:
    """A copy of a call's options that tells the UNet's attentions of the boxes; for every call of a MODEL with trajectories.

    Override and patches are there where no box acts, too: torch.compile takes no notice of a difference there.
    """
    if not trajectories_of(model):
        return options
    patches = dict(options.get("patches", {}))
    for name, patch in (("attn1_patch", _before_self_attention), ("attn2_patch", _before_cross_attention)):
        patches[name] = [*patches.get(name, []), patch]
    return {**options, "patches": patches, BOXES_KEY: boxes, _OVERRIDE: _Override(options.get(_OVERRIDE))}


@dataclass(frozen=True)
class _Override:
    """``optimized_attention_override``; another pack's goes on to run."""

    previous: Callable[..., Tensor] | None

    # torch.compile would bake the boxes in: core drops its guards on transformer_options.
    @torch.compiler.disable
    def __call__(self, attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        run = attention if self.previous is None else functools.partial(self.previous, attention)
        options = kwargs.get("transformer_options") or {}
        boxes: BoxesInCall | None = options.get(BOXES_KEY)
        if boxes is not None:
            kind, boxes.following = boxes.following, None
            if kind and not args and kwargs.get("mask") is None and boxes.applies_to(kind, q, k, options):
                kwargs.pop("mask", None)
                return boxes.attend(kind, run, q, k, v, heads, **kwargs)
        return run(q, k, v, heads, *args, **kwargs)


@torch.compiler.disable
def _before_self_attention(n: Tensor, context: Tensor, value: Tensor, extra_options: dict[str, Any]):
    return _note(_SELF, n, context, value, extra_options)


@torch.compiler.disable
def _before_cross_attention(n: Tensor, context: Tensor, value: Tensor, extra_options: dict[str, Any]):
    return _note(_CROSS, n, context, value, extra_options)


def _note(kind: str, n: Tensor, context: Tensor, value: Tensor, extra_options: dict[str, Any]):
    boxes: BoxesInCall | None = extra_options.get(BOXES_KEY)
    if boxes is not None:
        boxes.following = kind
    return n, context, value
