"""Replaces AnimateDiff-Evolved's schedules of prompts and values."""

from __future__ import annotations

import re
from typing import Any

from .graph import Node, Output
from .motion_options import Settings
from .rules import is_foreign
from .translate import Translation

_LATENTS = "Latents"  # ends the ids of those that are as long as a latent
_KEYS = re.compile(r'(?:^|[,{"\n]\s*)(-?\d+)(?::(\d*))?\s*"?\s*[:=]')
_STEPWISE = (
    "Between two prompts, AnimateDiff-Evolved went from frame to frame by the weight it printed, so that the second one came sooner. "
    "Now each frame has that weight."
)


def replace_schedules(translation: Translation) -> None:
    """Replace them all, before what takes their values is replaced."""
    for kind, replace in (("PromptScheduling", _prompts), ("ValueScheduling", _values)):
        for node in translation.old.of_type(f"ADE_{kind}", f"ADE_{kind}{_LATENTS}"):
            replace(translation, node)


def _values(translation: Translation, node: Node) -> None:
    found = Settings()
    inputs = {"text": translation.old.value(node, "values"), **_length(translation, node, "values", found)}
    takers = [(slot, taker, entry) for slot in range(4) for taker, entry in translation.new.consumers(Output(node.id, slot))]
    made = translation.put("LoomValueSchedule", inputs, node)
    for slot, taker, entry in takers:
        # What is of that pack becomes Loom's, which take `values`; `floats` are for others.
        fits = slot < 2 if is_foreign(taker.type) else slot == 1
        entry.origin = Output(made.id, 0 if is_foreign(taker.type) else 1) if fits else None
        if not fits:
            kind = "number" if slot == 0 else "whole number"
            found.lost.append(f"'{taker.type}' is not linked any more: Value Schedule gives no list as a {kind}.")
    translation.note(node, [made], found)


def _prompts(translation: Translation, node: Node) -> None:
    old, new, found = translation.old, translation.new, Settings()
    text = old.value(node, "prompts")
    before, after = (old.value(node, f"{name}_text") for name in ("prepend", "append"))
    made: list[Node] = []
    for first, second in ((before, text), (None, after)):
        parts = [part for part in (first, second) if part not in (None, "")]
        if first is None and parts:
            parts.insert(0, text)
        if len(parts) < 2:
            continue
        if all(isinstance(part, str) for part in parts):
            text = "\n".join(parts)
            continue
        inputs = {"string_a": parts[0], "string_b": parts[1], "delimiter": "\n"}
        made.append(translation.put("StringConcatenate", inputs, node, may_replace=False))
        text = Output(made[-1].id, 0)
    inputs = {"clip": new.nodes[node.id].origin("clip"), "text": text, **_length(translation, node, "prompts", found)}
    if node.values.get("tensor_interp") == "slerp":
        inputs["interpolation"] = "slerp"
    inputs["padding"] = "zeros"
    if old.source(node, "values_replace") is not None:
        found.lost.append("values_replace is left out: write the names as `pw_a` to `pw_d`, and connect the values there.")
    keys = _KEYS.findall(old.value(node, "prompts")) if isinstance(old.value(node, "prompts"), str) else []
    if len(keys) != 1:
        found.near.append(_STEPWISE)
    passed_on, latent = new.consumers(Output(node.id, 1)), new.nodes[node.id].origin("latent")
    made.append(translation.put("LoomPromptSchedule", inputs, node))
    for _, entry in passed_on:
        entry.origin = latent
    translation.note(node, made, found)


def _length(translation: Translation, node: Node, text: str, found: Settings) -> dict[str, Any]:
    """How long a schedule is: as long as a latent, as it was told, or up to its last keyframe."""
    if node.type.endswith(_LATENTS):
        return {"latent": translation.new.nodes[node.id].origin("latent")}
    frames, other = (translation.old.value(node, name) for name in ("max_length", "print_schedule"))
    if isinstance(frames, bool):  # the first version had the two the other way round
        frames = other
    if frames not in (None, 0):
        return {"frames": frames}
    written = translation.old.value(node, text)
    keys = _KEYS.findall(written) if isinstance(written, str) else []
    numbers = [int(end) - 1 if end else int(start) for start, end in keys]
    if not numbers:
        found.near.append("The schedule ended with its last keyframe; now it is as long as the clip.")
    return {"frames": max(numbers) + 1 if numbers else 0}
