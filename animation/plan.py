"""What a run of an animation will do, in words, from plain facts about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

Window = tuple[int, ...]  # numbers of a clip's frames that are seen together


class SamplingAdvice(NamedTuple):
    """What a motion model was made to be sampled with: names of ComfyUI's, fewest and most steps, lowest and highest cfg."""

    sampler: str
    scheduler: str
    steps: tuple[int, int]
    cfg: tuple[float, float]

    def __str__(self) -> str:
        steps = f"{_range(*self.steps)} step{'' if self.steps == (1, 1) else 's'}"
        return f"the sampler {self.sampler}, the scheduler {self.scheduler}, {steps} and cfg {_range(*self.cfg)}"


class PlannedLora(NamedTuple):
    """A motion LoRA on a motion model: its file, how strong it is in words, and what of it was left out."""

    file_name: str
    strength: str = "1"
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedModel:
    """A motion model that takes part."""

    file_name: str
    family: str
    betas: str  # name of the noise schedule that it was trained on
    max_frames: int = 32  # that it has positions for
    positions: tuple[float, float] | None = None  # first and last that frames get; None where frames count from 0
    may_extend: bool = False  # to positions past its own
    trained_frames: int = 16  # frames in a training clip
    trained_side: int | None = None  # pixels of a side in training, if much smaller pictures come out badly
    distilled_timesteps: int | None = None
    norm_over_frames: bool = False  # whether norms see all frames that are seen at a time
    advice: SamplingAdvice | None = None
    motion_scale: str = "1"
    strength: str = "1"
    start_percent: float = 0.0
    end_percent: float = 1.0
    has_no_steps: bool = False  # between start_percent and end_percent
    loras: tuple[PlannedLora, ...] = ()
    images: tuple[str, ...] = ()  # that it animates, in words
    lacks_image: bool = False  # though it was trained to animate one
    camera: str = ""  # whose path it follows, in words


class PlannedImages(NamedTuple):
    """Images that a SparseCtrl has at some frames: its file, and how strong it is from when to when."""

    file_name: str
    frames: tuple[int, ...]
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    unguided: str = ""  # what a window without an image sees


class ContextWindows(NamedTuple):
    """Context windows that are in use."""

    length: int
    by_step: tuple[tuple[Window, ...], ...]  # of the first step only, where the number of steps is not known
    has_anchor: bool = False  # whether a window may begin with one frame more, from before it
    is_automatic: bool = False


class Memory(NamedTuple):
    """Bytes of the model's weights, of the motion models' weights, and of what one call works with."""

    model: int
    motion_models: int
    call: int


@dataclass(frozen=True)
class Plan:
    """A run. Its ``steps``, ``cfg`` and ``sampler``, by ComfyUI's name, are None where they are not known."""

    frames: int
    size: tuple[int, int]  # width and height in pixels
    models: tuple[PlannedModel, ...]  # in the order in which they run
    betas: str | None  # name of the noise schedule in force; None if no motion models were trained on it
    timesteps: int = 1000  # of that schedule
    changed_after: bool = False  # whether a node after Apply Motion Model replaced the schedule that it had set
    windows: ContextWindows | None = None
    view_length: int | None = None  # frames that motion modules see at a time, if fewer than the UNet gets
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    noise: tuple[str, ...] = ()  # what makes the noise that the run starts from, in words
    runs: tuple[int, ...] = ()  # steps of each of several runs, where FreeInit repeats it
    prompt_frames: tuple[int, ...] = ()  # numbers of frames that prompts are for, other than one and the clip's
    memory: Memory | None = None
    images: tuple[PlannedImages, ...] = ()

    @property
    def windows_by_step(self) -> tuple[tuple[Window, ...], ...]:
        """The windows of each step; one of all frames where there are none."""
        return self.windows.by_step if self.windows else ((tuple(range(self.frames)),),) * (self.steps or 1)

    @property
    def frames_at_once(self) -> int:
        """Frames that a motion model sees at a time, at the most."""
        if self.view_length is not None:
            return self.view_length
        return self.frames if self.windows is None else self.windows.length + self.windows.has_anchor

    @property
    def conds(self) -> int:
        """Prompts in a call: guidance at 1 leaves the negative one out."""
        return 1 if self.cfg == 1.0 else 2

    @property
    def relative_cost(self) -> float:
        """Frames that go through the UNet in a step, over the clip's frames; the mean of all steps."""
        by_step = self.windows_by_step
        return sum(len(window) for windows in by_step for window in windows) / len(by_step) / self.frames

    def positions_of(self, model: PlannedModel) -> tuple[float, float]:
        """First and last position that a motion model gives to the frames it sees."""
        return model.positions or (0.0, self.frames_at_once - 1.0)


def text_of(plan: Plan, warnings: Sequence[str] = ()) -> str:
    """All of a plan in words, the warnings last."""
    width, height = plan.size
    lines = [f"{_count(plan.frames, 'frame')} of {width} x {height} pixels", "", *_models(plan), ""]
    lines += [*_images(plan), *_noise(plan), *_windows(plan), *_cost(plan), *_memory(plan)]
    if warnings:
        lines += ["", "Warnings:", *(f"- {warning}" for warning in warnings)]
    return "\n".join(lines)


def _models(plan: Plan) -> list[str]:
    if not plan.models:
        return ["No motion model: each frame will be an independent image."]
    lines = ["Motion models, in the order in which they run:"]
    for number, model in enumerate(plan.models, 1):
        first, last = plan.positions_of(model)
        lines += [
            f"{number}. {model.file_name} ({model.family})",
            f"   trained on {model.trained_frames} frames, positions for {model.max_frames}; "
            f"here it sees {plan.frames_at_once} at a time, at positions {first:g} to {last:g}",
            f"   motion_scale {model.motion_scale}; strength {model.strength}; "
            f"from {model.start_percent:.0%} to {model.end_percent:.0%} of the sampling",
        ]
        lines += [f"   motion LoRA {lora.file_name}: strength {lora.strength}" for lora in model.loras]
        lines += [f"   {text}" for text in (*model.images, model.camera) if text]
        if model.advice is not None:
            lines.append(f"   made for {model.advice}")
    return lines


def _images(plan: Plan) -> list[str]:
    lines = []
    for each in plan.images:
        frames = ", ".join(map(str, each.frames))
        lines.append(
            f"SparseCtrl {each.file_name}: {_count(len(each.frames), 'image')} at {'frame' if len(each.frames) == 1 else 'frames'} "
            f"{frames}; strength {each.strength:g}; from {each.start_percent:.0%} to {each.end_percent:.0%} of the sampling"
        )
        without = [window for window in plan.windows_by_step[0] if not set(window) & set(each.frames)] if plan.windows else []
        if without:
            lines.append(f"   windows without an image, which see {each.unguided}: {', '.join(map(window_in_words, without))}")
    return [*lines, ""] if lines else []


def _noise(plan: Plan) -> list[str]:
    timesteps = f", on {plan.timesteps} timesteps" if plan.timesteps != 1000 else ""
    schedule = f"Noise schedule: {plan.betas or 'none that motion models were trained on'}{timesteps}"
    return [schedule, f"Noise: {'; '.join(plan.noise)}"] if plan.noise else [schedule]


def _windows(plan: Plan) -> list[str]:
    if plan.windows is None:
        return ["Context windows: none; all frames are sampled at once"]
    first = plan.windows.by_step[0]
    differ = any(windows != first for windows in plan.windows.by_step)
    each = " at the first step; they move from step to step" if differ else ""
    each += ", set automatically because there are more frames than in training" if plan.windows.is_automatic else ""
    windows = ", ".join(map(window_in_words, first))
    return [f"Context windows: {len(first)} of {plan.windows.length} frames{each}", f"   {windows}"]


def _cost(plan: Plan) -> list[str]:
    counts = [len(windows) for windows in plan.windows_by_step]
    # Each run begins with the windows of the first step.
    total = f", {sum(sum(counts[:steps]) for steps in plan.runs or (plan.steps,))} in all" if plan.steps else ""
    total += f" in {len(plan.runs)} runs of {', '.join(map(str, plan.runs))} steps" if plan.runs else ""
    return [
        f"UNet calls: {_range(min(counts), max(counts))} per step{total}, each with {_count(plan.conds, 'prompt')}; "
        "some samplers call twice per step",
        f"Cost: {plan.relative_cost:.2f} times that of one pass over all {plan.frames} frames",
    ]


def _memory(plan: Plan) -> list[str]:
    if plan.memory is None:
        return []
    total, model, motion_models, call = (f"{size / 2**30:.1f}" for size in (sum(plan.memory), *plan.memory))
    return [
        f"Estimated memory: {total} GB = {model} model + {motion_models} motion models + {call} activations. "
        "With less, ComfyUI loads the models in parts, which is slower."
    ]


def window_in_words(window: Window) -> str:
    """As ``0-15``; the pieces of a window that goes on from the beginning or leaves frames out have a + between."""
    return "+".join(f"{first}-{last}" if first != last else f"{first}" for first, last in stretches(window))


def stretches(window: Window) -> list[tuple[int, int]]:
    """First and last frames of a window's pieces that have no gaps."""
    breaks = [i for i, (frame, after) in enumerate(pairwise(window), 1) if after != frame + 1]
    return [(window[begin], window[end - 1]) for begin, end in pairwise([0, *breaks, len(window)])]


def _range(lowest: float, highest: float) -> str:
    return f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
