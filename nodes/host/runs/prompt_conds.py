"""Prompts over time as ComfyUI's conditioning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import comfy.model_management
import comfy.utils

from ....animation.prompt_blending import Interpolation, blend, match_lengths
from ....animation.prompt_schedule import FramePrompts, PromptSchedule
from ....animation.schedule import Easing, Pace, ScheduleError
from ..motion.frame_values import to_frame_values

INTERPOLATIONS = [interpolation.value for interpolation in Interpolation]
"""What nodes offer; frozen, as part of saved workflows."""

Conditioning = list[list[Any]]


def read_prompt_schedule(text: str, frames: int, easing: str, hold: float, closed_loop: bool) -> PromptSchedule:
    """Read what the node was given; see ``PromptSchedule.read``."""
    return PromptSchedule.read(text, frames, Pace(Easing(easing), hold, closed_loop))


def prompts_of_frames(schedule: PromptSchedule, weights: Mapping[str, Any]) -> tuple[list[FramePrompts], list[FramePrompts]]:
    """Work out each frame's prompts and negative prompts with the numbers at the inputs ``pw_a`` to ``pw_d``."""
    numbers = {}
    for name, given in weights.items():
        values = to_frame_values(given, name)
        if values is not None:
            numbers[name] = values.flatten(1).mean(1).tolist()
    return schedule.of_frames(schedule.positive, numbers), schedule.of_frames(schedule.negative, numbers)


def encode_prompts(clip: Any, texts: Iterable[str]) -> dict[str, Conditioning]:
    """Encode each different text once, as CLIP Text Encode does.

    Raises:
        ScheduleError: there is no text encoder.
    """
    if clip is None:
        raise ScheduleError("There is no CLIP: this checkpoint comes without a text encoder. Load one with Load CLIP.")
    texts = list(dict.fromkeys(texts))
    progress = comfy.utils.ProgressBar(len(texts))
    encoded = {}
    for text in texts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        encoded[text] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        progress.update(1)
    return encoded


def texts_of(prompts: Sequence[FramePrompts]) -> Iterable[str]:
    """The texts whose weight is above 0 at any frame."""
    for prompt in prompts:
        if prompt.share < 1.0:
            yield prompt.first
        if prompt.share > 0.0:
            yield prompt.second


def blend_prompts(encoded: Mapping[str, Conditioning], prompts: Sequence[FramePrompts], interpolation: str) -> Conditioning:
    """Make a conditioning with an embedding for each frame of a clip, or with one if all frames have the same prompt.

    ComfyUI repeats it for each clip of a batch, and context windows take their frames from it. It has several entries only
    if the text encoder has hooks with keyframes: one per keyframe, as from CLIP Text Encode.

    Returns:
        Entries of an embedding ``(f, tokens, d)`` and options, with ``pooled_output`` ``(f, d)``.
    """
    texts = list(dict.fromkeys(texts_of(prompts)))
    if len(texts) == 1:
        return encoded[texts[0]]
    numbers = {text: number for number, text in enumerate(texts)}
    shares = [prompt.share for prompt in prompts]
    firsts = [numbers[prompt.first if prompt.share < 1.0 else prompt.second] for prompt in prompts]
    seconds = [numbers[prompt.second if prompt.share > 0.0 else prompt.first] for prompt in prompts]
    how = Interpolation(interpolation)
    blended: Conditioning = []
    for entries in zip(*(encoded[text] for text in texts), strict=True):
        embeddings = match_lengths([entry[0] for entry in entries])
        pooled = [entry[1].get("pooled_output") for entry in entries]
        options = dict(entries[0][1])
        if all(vector is not None for vector in pooled):
            options["pooled_output"] = blend(pooled, firsts, seconds, shares, how)
        blended.append([blend(embeddings, firsts, seconds, shares, how), options])
    return blended
