"""ControlNet's hints for a part of the frames; ComfyUI's own windows all get the first ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from comfy.controlnet import ControlBase
from torch import Tensor

from .sparse_control import SparseControl


@contextmanager
def changed_hints(controls: Iterable[ControlBase], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let ControlNets see other hints, where they have several.

    The objects stay the same, because ComfyUI runs prompts in one batch only where they have the same ControlNet.
    """
    controls = [control for control in controls if not isinstance(control, SparseControl)]  # which counts frames in the clip
    kept = [(control, control.cond_hint_original, control.extra_concat_orig) for control in controls]
    kept = [(control, hint, extra) for control, hint, extra in kept if any(map(_is_batch, (hint, *extra)))]
    try:
        for control, hint, extra in kept:
            changed, *more = (change(part) if _is_batch(part) else part for part in (hint, *extra))
            _set_hints(control, changed, more)
        yield
    finally:
        for control, hint, extra in kept:
            _set_hints(control, hint, extra)


def take_hints(hints: Tensor, frames: Sequence[int]) -> Tensor:
    """The hints of some frames. Where there are fewer than frames, they begin again, as ComfyUI does without windows."""
    places = [frame % len(hints) for frame in frames]
    first, end = places[0], places[0] + len(places)
    return hints[first:end] if places == list(range(first, end)) else hints[places]


def controls_of(conds: Iterable[dict[str, Any]]) -> list[ControlBase]:
    """Every ControlNet that some prompts have, the chained ones too, once each."""
    found: dict[int, ControlBase] = {}
    for control in (cond.get("control") for cond in conds):
        while control is not None and id(control) not in found:
            found[id(control)] = control
            control = control.previous_controlnet
    return list(found.values())


def cuts_for_itself(control: ControlBase) -> bool:
    """Whether a ControlNet takes its part of hints, masks and keyframes by a call's frames: Advanced-ControlNet's do."""
    return hasattr(control, "sub_idxs")


def _set_hints(control: ControlBase, hint: Tensor | None, extra: list[Tensor]) -> None:
    for each in (control, *control.multigpu_clones.values()):  # a run makes the clones for further devices, of what it sees
        each.cond_hint_original, each.extra_concat_orig = hint, extra
        each.cond_hint = None  # what was made of the last ones; without it, it is made anew


def _is_batch(hint: Tensor | None) -> bool:
    return isinstance(hint, Tensor) and len(hint) > 1
