"""Context windows for animations: ComfyUI's handler, set right for a batch whose entries are frames."""

from __future__ import annotations

import copy
import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.utils
from comfy import context_windows as core
from comfy.conds import CONDConstant, CONDList, CONDRegular
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, get_all_callbacks
from torch import Tensor

from ....animation.windowing import (
    CountedSteps,
    EqualLength,
    Fuse,
    Schedule,
    WideWindows,
    Windowing,
    step_of,
    steps_before,
    steps_of_run,
)  # fmt: skip
from ....motion_models.errors import InvalidInput
from ....motion_models.views import Window, place_windows
from ..provenance import file_name
from ..types import KEY, NOTE, logger
from .control_hints import changed_hints, controls_of, cuts_for_itself, take_hints
from .other_packs import evolved_cuts, evolved_decides, publish_frames
from .retiming import fits_at_once
from .unet_call import read_noise_levels
from .view_windows import frames_in_view

# What nodes offer; frozen, as part of saved workflows.
SCHEDULES = [schedule.value for schedule in Schedule]
FUSE_METHODS = [fuse.value for fuse in Fuse]
EQUAL_LENGTHS = [equal.value for equal in EqualLength]
WIDE_WINDOWS = [wide.value for wide in WideWindows]
COUNTED_STEPS = [counted.value for counted in CountedSteps]


def windowing(
    length: int, overlap: int, schedule: str = SCHEDULES[0], fuse: str = FUSE_METHODS[0], stride: int = 1,
    closed_loop: bool = False, equal_length: str = EQUAL_LENGTHS[0], wide: str = WIDE_WINDOWS[0],
    counted: str = COUNTED_STEPS[0],
) -> Windowing:  # fmt: skip
    """Make a ``Windowing`` of a node's inputs; raises its errors."""
    return Windowing(
        length, overlap, Schedule(schedule), Fuse(fuse), stride, closed_loop, EqualLength(equal_length), WideWindows(wide),
        CountedSteps(counted),
    )  # fmt: skip


def set_windows(model: ModelPatcher, windowing: Windowing) -> None:
    """Cut what ``model``, the caller's own clone, samples into windows; others that were set are replaced."""
    model.model_options["context_handler"] = FrameWindowsHandler(windowing)
    publish_frames(model)
    estimate_memory_of_a_window(model)


def estimate_memory_of_a_window(model: ModelPatcher) -> None:
    """Let ComfyUI make room for the frames of one window, where there is a handler; ``model`` is the caller's own clone."""
    model.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, "ContextWindows_prepare_sampling")  # an earlier one
    core.create_prepare_sampling_wrapper(model)


def automatic_windows(model: ModelPatcher, model_options: dict[str, Any], total_frames: int) -> FrameWindowsHandler | None:
    """Static windows of as many frames as a motion model was trained on, if there are more and no others are set.

    They overlap by a quarter. Of several motion models, the one that was trained on the fewest frames counts.
    """
    if model_options.get("context_handler") is not None or evolved_decides(model, total_frames):
        return None
    seen = frames_in_view(model, total_frames)
    too_many = [patcher for patcher in model.get_additional_models_with_key(KEY) if not fits_at_once(patcher, seen)]
    length = min(map(_window_length, too_many), default=total_frames)
    if length >= total_frames:
        return None  # all fit, or it is the positions that don't fit, for which windows are no help
    return FrameWindowsHandler(Windowing(length, length // 4))


def set_automatic_windows(model: ModelPatcher, model_options: dict[str, Any], total_frames: int) -> None:
    """Let a run that begins, of these ``model_options``, have ``automatic_windows`` where it needs them, and say so."""
    handler = automatic_windows(model, model_options, total_frames)
    if handler is None:
        return
    model_options["context_handler"] = handler
    length, overlap = handler.context_length, handler.context_overlap
    shortest = next(patcher for patcher in model.get_additional_models_with_key(KEY) if _window_length(patcher) == length)
    logger.info(
        "%d frames are more than the %d that motion model '%s' was trained on. They are sampled in windows of %d frames that "
        "overlap by %d; use Context Windows (Loom) for other settings.",
        total_frames, length, file_name(shortest), length, overlap, extra=NOTE,
    )  # fmt: skip


def frames_at_a_time(model: ModelPatcher, model_options: dict[str, Any], total_frames: int) -> int:
    """Number of frames that a motion model sees at once, as far as settings tell: another pack's handler may say nothing."""
    if evolved_cuts(model, total_frames):
        return 1
    handler = model_options.get("context_handler")
    seen = total_frames if handler is None else min(total_frames, getattr(handler, "context_length", 1))
    return frames_in_view(model, seen)


def _window_length(motion_patcher: ModelPatcher) -> int:
    config = motion_patcher.model.config
    return min(config.trained_frames, config.max_frames)


class FrameWindow(core.IndexListContextWindow):
    """A window whose frames are taken out and put back without waiting for the device."""

    def __init__(self, window: Window, total_frames: int, overlap: int, noise_levels: Callable[[], list[float]]):
        super().__init__(list(window.frames), dim=0, total_frames=total_frames, context_overlap=overlap)
        self.placed, self.noise_levels = window, noise_levels

    def get_tensor(self, full: Tensor, device=None, dim: int | None = None, retain_index_list=()) -> Tensor:
        if retain_index_list:
            return super().get_tensor(full, device, dim, retain_index_list)
        dim = self.dim if dim is None else dim
        if dim == 0 and full.shape[0] == 1:
            return full
        return self.placed.take(full, dim).to(device)

    def add_window(self, full: Tensor, to_add: Tensor, dim: int | None = None) -> Tensor:
        self.placed.add_to(full, to_add, self.dim if dim is None else dim)
        return full


class FrameWindowsHandler(core.IndexListContextHandler):
    """ComfyUI's handler for windows, without what is wrong in it for animations.

    No frame from before a window is put in front of it. ControlNet's hints, prompts' masks and prompts for each frame
    follow the window, whatever their number. As it holds no tensors, clones of a MODEL on several devices may share it.
    """

    def __init__(self, windowing: Windowing):
        # ComfyUI's own functions are not called, and it knows fewer names; it reserves memory for ``context_length`` frames.
        length = sys.maxsize if windowing.schedule is Schedule.NONE else windowing.length
        super().__init__(
            core.get_matching_context_schedule(core.ContextSchedules.STATIC_STANDARD),
            core.get_matching_fuse_method(core.ContextFuseMethods.PYRAMID),
            length, windowing.overlap, windowing.stride, windowing.closed_loop, causal_window_fix=False,
        )  # fmt: skip
        self.windowing = windowing

    def should_use_context(self, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]) -> bool:
        cuts = self.windowing.cuts(x_in.shape[0])
        patches = model_options.get("sampler_post_cfg_function", ())
        if cuts and any(_module_of(patch) == "comfy_extras.nodes_sag" for patch in patches):
            raise InvalidInput(
                "Self-Attention Guidance does not work with context windows: it compares all frames with the attention of the last "
                f"window. Remove it, use Perturbed-Attention Guidance, or make no more than {self.context_length} frames."
            )
        if cuts and evolved_decides(model.current_patcher, x_in.shape[0]):
            raise InvalidInput(
                "AnimateDiff-Evolved's motion models and context options would take each of these context windows for a whole clip. "
                "Remove Context Windows (Loom) and use AnimateDiff-Evolved's Context Options, which Loom's motion models "
                "follow, or use one of the packs alone."
            )
        return cuts

    def execute(self, calc_cond_batch, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]):
        conds = [cond and [_for_all_frames(entry, x_in.shape[0]) for entry in cond] for cond in conds]
        # On a copy: the step, and ComfyUI's handler keeps the model on itself, too.
        run = copy.copy(self)
        try:
            return super(FrameWindowsHandler, run).execute(calc_cond_batch, model, conds, x_in, timestep, model_options)
        finally:
            model_options["transformer_options"].pop("context_window", None)

    def set_step(self, timestep: Tensor, model_options: dict[str, Any]) -> None:
        self._noise_levels = functools.cache(lambda: read_noise_levels(timestep, model_options["transformer_options"]))
        if self.windowing.schedule in (Schedule.UNIFORM, Schedule.LOOPED):
            sigma, *levels = self._noise_levels()
            if self.windowing.counted is CountedSteps.RUN:
                self._step = steps_of_run(sigma, levels)
                return
            # ComfyUI's handler has the model from its execute on; a plan asks for the first step without.
            schedule = getattr(getattr(self, "_model", None), "model_sampling", None)
            before = steps_before(levels, schedule.sigmas.tolist()) if hasattr(schedule, "sigmas") else 0
            self._step = before + step_of(sigma, levels)

    def get_context_windows(self, model, x_in: Tensor, model_options: dict[str, Any]) -> list[FrameWindow]:
        frames = x_in.shape[0]
        windows = self.windowing.windows(frames, core.ordered_halving(self._step))
        placed = place_windows(windows, self.windowing.weights(windows, frames), x_in.device)
        return [FrameWindow(window, frames, self.context_overlap, self._noise_levels) for window in placed]

    def evaluate_context_windows(
        self, calc_cond_batch, model, x_in, conds, timestep, enumerated_context_windows, model_options, window_state,
        total_windows=None, device=None, first_device=None,
    ) -> list[core.ContextResults]:  # fmt: skip
        results = []
        for number, window in enumerated_context_windows:
            comfy.model_management.throw_exception_if_processing_interrupted()
            for callback in get_all_callbacks(core.IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS, self.callbacks):
                callback(self, model, x_in, conds, timestep, model_options, number, window, model_options, device, first_device)
            logger.debug("Window %d of %s: frames %s.", number + 1, total_windows, window.index_list)
            model_options["transformer_options"]["context_window"] = window
            sub_conds = [self.get_resized_cond(cond, x_in, window) for cond in conds]
            controls = controls_of(entry for cond in conds for entry in cond or ())
            controls = [control for control in controls if not cuts_for_itself(control)]
            with (
                changed_hints(controls, functools.partial(take_hints, frames=window.index_list)),
                _blame_patches(model_options["transformer_options"], window),
            ):
                out = calc_cond_batch(model, sub_conds, window.get_tensor(x_in), window.get_tensor(timestep), model_options)
            results.append(core.ContextResults(number, [[part] for part in out], sub_conds, window))
        return results

    def combine_context_window_results(
        self, x_in, sub_conds_out, sub_conds, window, window_idx, total_windows, timestep, conds_final, counts_final, biases_final
    ) -> None:
        weights = window.placed.weights.view(-1, *[1] * (x_in.ndim - 1))
        for out, total, counts in zip(sub_conds_out, conds_final, counts_final, strict=True):
            window.add_window(total, out * weights)
            window.add_window(counts, weights)
        for callback in get_all_callbacks(core.IndexListCallbacks.COMBINE_CONTEXT_WINDOW_RESULTS, self.callbacks):
            callback(
                self, x_in, sub_conds_out, sub_conds, window, window_idx, total_windows, timestep, conds_final, counts_final,
                biases_final,
            )  # fmt: skip


def _for_all_frames(cond: dict[str, Any], frames: int) -> dict[str, Any]:
    """Give a prompt whose tensors are for another number of frames as many as there are, as ComfyUI does without windows.

    Too few are taken again from the first, too many left out. ComfyUI's handler would give each window the first ones.
    Masks whose number does not divide that of the frames, which ComfyUI can't repeat, are refused.
    """
    cond = cond.copy()
    mask = cond.get("mask")
    if mask is not None and len(mask) not in (1, frames):
        if len(mask) < frames and frames % len(mask):
            wrong = f"A prompt's mask has {len(mask)} frames, but the clip has {frames}."
            raise InvalidInput(f"{wrong} Give it 1 or {frames} frames.")
        cond["mask"] = comfy.utils.repeat_to_batch_size(mask, frames)
    cond["model_conds"] = cond["model_conds"].copy()
    for name, value in cond["model_conds"].items():
        is_batch = isinstance(value, CONDRegular) and not isinstance(value, (CONDConstant, CONDList))
        if is_batch and len(value.cond) not in (1, frames):
            cond["model_conds"][name] = value._copy_with(comfy.utils.repeat_to_batch_size(value.cond, frames))
    return cond


@contextmanager
def _blame_patches(options: dict[str, Any], window: FrameWindow) -> Iterator[None]:
    """Say of shapes that don't fit which other packs' patches may be made for all frames; none of these can be cut."""
    try:
        yield
    except RuntimeError as error:
        patches = [patch for kind, patches in options.get("patches", {}).items() if kind != "forward_timestep_embed_patch" for patch in patches]
        patches += [patch for replaced in options.get("patches_replace", {}).values() for patch in replaced.values()]
        if not patches or not re.search("size|shape|dimension", str(error)):
            raise
        raise InvalidInput(
            f"A window of {len(window.index_list)} of {window.total_frames} frames failed: {error} The model has patches from "
            f"{', '.join(sorted(set(map(_module_of, patches))))}. If one is made for all frames, it does not work with context "
            "windows: remove it, or make as many frames as a window has."
        ) from error


def _module_of(patch: Any) -> str:
    return getattr(patch, "__module__", type(patch).__module__)
