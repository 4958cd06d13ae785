"""Prompts over time as ComfyUI's conditioning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import comfy.model_management
import comfy.utils
from comfy.conds import CONDConstant
from torch import Tensor

from ....animation.prompt_blending import Interpolation, Padding, blend, match_lengths
from ....animation.prompt_schedule import FramePrompts, PromptKeyframes, PromptSchedule
from ....animation.schedule import Easing, Pace, ScheduleError
from ....motion_models.errors import InvalidInput
from ..motion.curves import ValuesOfAnyClip
from ..motion.frame_values import NEEDS_FRAMES, to_frame_values
from ..types import KEY

ANY_CLIP_KEY = f"{KEY}_any_clip"  # an AnyClip, among a prompt's options
INTERPOLATIONS, PADDINGS = ([choice.value for choice in kind] for kind in (Interpolation, Padding))  # frozen: workflows save them
JOINERS = {"comma": ", ", "space": " "}

Conditioning = list[list[Any]]


class Blending(NamedTuple):
    """How the embeddings of two prompts become one."""

    interpolation: Interpolation = Interpolation.LINEAR
    padding: Padding = Padding.REPEAT


class AnyClip(NamedTuple):
    """What a schedule's prompts are for a clip of any length, until a run knows that: see ``place_prompts``."""

    keyframes: PromptKeyframes
    pace: Pace
    blending: Blending
    is_negative: bool
    encoded: dict[str, Conditioning]  # one entry of each text
    first: Tensor  # stands for the embedding until then

    def over(self, total_frames: int) -> tuple[Tensor, dict[str, Any]]:
        """Embedding ``(f, tokens, d)`` and options for a clip; raises ScheduleError where the keyframes don't fit it."""
        schedule = self.keyframes.over(total_frames, self.pace)
        prompts = schedule.of_frames(schedule.negative if self.is_negative else schedule.positive, {})
        ((embedding, options),) = _blend_prompts(self.encoded, prompts, self.blending)
        return embedding, options


class _NotPlaced(CONDConstant):
    """Stops a run that does not know of ``place_prompts``: its frames would all have the first prompt."""

    def process_cond(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidInput(
            "Prompt Schedule's frames is 0, as many as the clip has, but without Apply Motion Model on the sampler's MODEL that "
            f"is not known. {NEEDS_FRAMES}"
        )


def read_prompts(text: str, joining: str = "comma") -> PromptKeyframes:
    return PromptKeyframes.read(text, JOINERS[joining])


def pace_of(easing: str, hold: float, closed_loop: bool) -> Pace:
    return Pace(Easing(easing), hold, closed_loop)


def blending_of(interpolation: str, padding: str) -> Blending:
    return Blending(Interpolation(interpolation), Padding(padding))


def frames_between(start: int, end: int, total_frames: int | None) -> slice:
    """The frames of a schedule from ``start`` to before ``end``, 0 for its end; raises ScheduleError if there are none."""
    if total_frames is None and (start or end):
        raise ScheduleError(f"start_frame and end_frame choose from a number of frames, so frames can't be 0. {NEEDS_FRAMES}")
    part = slice(start, end or total_frames)
    if total_frames is not None and not range(total_frames)[part]:
        raise ScheduleError(
            f"There is no frame from start_frame {start} to before end_frame {part.stop}: the schedule has {total_frames} frames. "
            "Choose a start_frame below both."
        )
    return part


def schedule_conds(
    clip: Any, schedule: PromptSchedule, weights: Mapping[str, Any], blending: Blending, part: slice = slice(None),
    known: Mapping[str, Conditioning] | None = None,
) -> tuple[Conditioning, Conditioning, dict[str, Conditioning]]:
    """Encode the prompts and negative prompts of a ``part`` of a schedule's frames; returns these, and each text's own.

    ``weights`` are what is connected to the inputs ``pw_a`` to ``pw_d``, ``known`` the texts that an earlier part has returned.
    """
    total, numbers = len(schedule.frames), {}
    for name, given in weights.items():
        values = to_frame_values(given.over(total) if isinstance(given, ValuesOfAnyClip) else given, name)
        if values is not None:
            numbers[name] = values.flatten(1).mean(1).tolist()
    positive, negative = (schedule.of_frames(side, numbers)[part] for side in (schedule.positive, schedule.negative))
    texts = [text for prompt in positive + negative for text in (prompt.first, prompt.second)]
    encoded = _encode(clip, texts, known or {})
    return _blend_prompts(encoded, positive, blending), _blend_prompts(encoded, negative, blending), encoded


def conds_of_any_clip(
    clip: Any, keyframes: PromptKeyframes, pace: Pace, blending: Blending
) -> tuple[Conditioning, Conditioning]:
    """Encode prompts and negative prompts for as many frames as the run's clip has; ScheduleError if formulas need the number."""
    texts = keyframes.texts()
    if texts is None:
        raise ScheduleError(f"The prompts contain formulas, which are worked out here, so frames can't be 0. {NEEDS_FRAMES}")
    encoded, positive, negative = _encode(clip, texts, {}), [], []
    for is_negative, made in enumerate((positive, negative)):
        prompts = (keyframes.positive, keyframes.negative)[is_negative]
        own = {prompt.text: encoded[prompt.text] for prompt in prompts}
        for entries in zip(*own.values(), strict=True):
            (embedding, options), one = entries[0], {text: [entry] for text, entry in zip(own, entries, strict=True)}
            if len(own) > 1:
                any_clip = AnyClip(keyframes, pace, blending, bool(is_negative), one, embedding)
                options = {**options, ANY_CLIP_KEY: any_clip, "model_conds": {ANY_CLIP_KEY: _NotPlaced(None)}}
            made.append([embedding, options])
    return positive, negative


def place_prompts(conds: Mapping[str, list[dict[str, Any]] | None], total_frames: int) -> None:
    """Give a run's ``conds``, its own copies, the prompts of its clips where they were encoded for clips of any length."""
    for cond in (cond for each in conds.values() for cond in each or ()):
        any_clip: AnyClip | None = cond.pop(ANY_CLIP_KEY, None)
        if any_clip is None:
            continue
        if cond.get("cross_attn") is not any_clip.first:
            raise InvalidInput(
                "A node between Prompt Schedule, whose frames is 0, and the sampler changes the embedding, but its frames are not "
                f"known there. {NEEDS_FRAMES}"
            )
        cond["cross_attn"], options = any_clip.over(total_frames)
        cond["model_conds"] = {name: value for name, value in cond["model_conds"].items() if name != ANY_CLIP_KEY}
        if "pooled_output" in options:
            cond["pooled_output"] = options["pooled_output"]


def _encode(clip: Any, texts: Iterable[str], known: Mapping[str, Conditioning]) -> dict[str, Conditioning]:
    """Encode each different text once, as CLIP Text Encode does, unless it is known."""
    texts = list(dict.fromkeys(texts))
    progress = comfy.utils.ProgressBar(len(texts))
    encoded = {}
    for text in texts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        encoded[text] = known.get(text) or clip.encode_from_tokens_scheduled(clip.tokenize(text))
        progress.update(1)
    return encoded


def _blend_prompts(encoded: dict[str, Conditioning], prompts: list[FramePrompts], blending: Blending) -> Conditioning:
    """Entries of an embedding ``(f, tokens, d)`` and options; of one frame if all frames have the same prompt.

    ComfyUI repeats them for each clip of a batch, and context windows take their frames from them. There are several
    only if the text encoder has hooks with keyframes: one per keyframe, as from CLIP Text Encode.
    """
    texts = list(dict.fromkeys(text for prompt in prompts for text in (prompt.first, prompt.second)))
    if len(texts) == 1:
        return encoded[texts[0]]
    shares = [prompt.share for prompt in prompts]
    numbers = {text: number for number, text in enumerate(texts)}
    firsts = [numbers[prompt.first] for prompt in prompts]
    seconds = [numbers[prompt.second] for prompt in prompts]
    blended: Conditioning = []
    for entries in zip(*(encoded[text] for text in texts), strict=True):
        options = dict(entries[0][1])
        pooled = [entry[1].get("pooled_output") for entry in entries]
        if all(vector is not None for vector in pooled):
            options["pooled_output"] = blend(pooled, firsts, seconds, shares, blending.interpolation)
        embeddings = match_lengths([entry[0] for entry in entries], blending.padding)
        blended.append([blend(embeddings, firsts, seconds, shares, blending.interpolation), options])
    return blended
