"""ControlNet's hints for the frames of a context window; ComfyUI's own windows all get the first ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from comfy.controlnet import ControlBase
from torch import Tensor


@contextmanager
def hints_of(conds: Sequence[list[dict[str, Any]] | None], frames: Sequence[int]) -> Iterator[None]:
    """Let all ControlNets of some prompts see the hints of a window's frames, and no others.

    The objects stay the same, because ComfyUI runs prompts in one batch only where they have the same ControlNet.
    """
    kept = [
        (control, control.cond_hint_original, control.extra_concat_orig)
        for control in _controls(conds)
        if any(isinstance(hint, Tensor) and len(hint) > 1 for hint in (control.cond_hint_original, *control.extra_concat_orig))
    ]
    try:
        for control, hint, extra in kept:
            _set_hints(control, _take_hints(hint, frames), [_take_hints(part, frames) for part in extra])
        yield
    finally:
        for control, hint, extra in kept:
            _set_hints(control, hint, extra)


def _controls(conds: Sequence[list[dict[str, Any]] | None]) -> list[ControlBase]:
    """Every ControlNet that some prompts have, the chained ones and those for further devices too, once each."""
    found: dict[int, ControlBase] = {}
    waiting = [entry["control"] for cond in conds for entry in cond or () if entry.get("control") is not None]
    while waiting:
        control = waiting.pop()
        if id(control) not in found:
            found[id(control)] = control
            waiting += control.multigpu_clones.values()
            if control.previous_controlnet is not None:
                waiting.append(control.previous_controlnet)
    return list(found.values())


def _set_hints(control: ControlBase, hint: Tensor | None, extra: list[Tensor]) -> None:
    control.cond_hint_original, control.extra_concat_orig = hint, extra
    control.cond_hint = None  # what was made of the last ones; without it, it is made anew


def _take_hints(hint: Tensor | None, frames: Sequence[int]) -> Tensor | None:
    """The hints of some frames. Where there are fewer than frames, they begin again, as ComfyUI does without windows."""
    if not isinstance(hint, Tensor) or len(hint) == 1:
        return hint
    places = [frame % len(hint) for frame in frames]
    if places == list(range(places[0], places[0] + len(places))):
        return hint[places[0] : places[0] + len(places)]
    return hint[places]
