"""Prompts over time as ComfyUI's conditioning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.model_management
import comfy.utils

from ....animation.prompt_blending import Interpolation, blend, match_lengths
from ....animation.prompt_schedule import FramePrompts, PromptSchedule
from ....animation.schedule import Easing, Pace, ScheduleError
from ..motion.frame_values import to_frame_values

INTERPOLATIONS = [interpolation.value for interpolation in Interpolation]  # frozen, as part of saved workflows

Conditioning = list[list[Any]]


def read_prompt_schedule(text: str, frames: int, easing: str, hold: float, closed_loop: bool) -> PromptSchedule:
    return PromptSchedule.read(text, frames, Pace(Easing(easing), hold, closed_loop))


def schedule_conds(
    clip: Any, schedule: PromptSchedule, weights: Mapping[str, Any], interpolation: str
) -> tuple[Conditioning, Conditioning]:
    """Encode a schedule's prompts and negative prompts with the numbers at the inputs ``pw_a`` to ``pw_d``."""
    if clip is None:
        raise ScheduleError("There is no CLIP: this checkpoint comes without a text encoder. Load one with Load CLIP.")
    frame_values = {name: to_frame_values(given, name) for name, given in weights.items()}
    numbers = {name: values.flatten(1).mean(1).tolist() for name, values in frame_values.items() if values is not None}
    positive, negative = (schedule.of_frames(side, numbers) for side in (schedule.positive, schedule.negative))
    encoded = _encode(clip, [text for prompt in positive + negative for text in (prompt.first, prompt.second)])
    how = Interpolation(interpolation)
    return _blend_prompts(encoded, positive, how), _blend_prompts(encoded, negative, how)


def _encode(clip: Any, texts: Iterable[str]) -> dict[str, Conditioning]:
    """Encode each different text once, as CLIP Text Encode does."""
    texts = list(dict.fromkeys(texts))
    progress = comfy.utils.ProgressBar(len(texts))
    encoded = {}
    for text in texts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        encoded[text] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        progress.update(1)
    return encoded


def _blend_prompts(encoded: dict[str, Conditioning], prompts: list[FramePrompts], how: Interpolation) -> Conditioning:
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
            options["pooled_output"] = blend(pooled, firsts, seconds, shares, how)
        embeddings = match_lengths([entry[0] for entry in entries])
        blended.append([blend(embeddings, firsts, seconds, shares, how), options])
    return blended
