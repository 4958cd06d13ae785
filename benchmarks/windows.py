"""What context windows cost: memory against frames, time beside the windows' own, and against ComfyUI's handler, in one run.

    python3 loom.py run benchmarks.windows [--channels 64] [--pixels 64] [--frames 64] [--repeats 3] [--memory-only]

An SD1.5 and a v3 motion model of random weights, as deep as in full size but with fewer channels, unless --channels is 320.
All clips are sampled in static windows of 16 frames that overlap by 4, one step of Euler's, cond and uncond. Columns:

- memory: bytes of all tensors that operations made and that were alive at the same time, at the most; the
  clip's latents, which ComfyUI's samplers hold several times, are among them.
- overhead: (time of the handler - time in its windows) / time in its windows, the two taken in the same calls.
- against ComfyUI: time of the run with Loom's handler over that with ComfyUI's, in turns, the best of each.

On a CPU, times are the process's own, so that what else the machine does counts less.
"""

from __future__ import annotations

import argparse
import time
import weakref
from collections.abc import Callable

from . import full_size  # first: it chooses the CPU where there is no graphics card  # isort: skip

import comfy.context_windows
import comfy.sample
import comfy.samplers
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..animation.windowing import Windowing
from ..nodes.host.motion.context_windows import FrameWindowsHandler
from ..nodes.host.motion.steered import MotionSettings
from ..nodes.host.runs.applying import apply_motion_model

LENGTH, OVERLAP = 16, 4


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, and their most at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._known.add(tensor.untyped_storage()._cdata)  # was there before
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class TimedHandler(FrameWindowsHandler):
    """Takes the time of the whole and of its windows."""

    whole = windows = 0.0

    def execute(self, calc_cond_batch, *args):
        def timed(*window):
            start = now()
            out = calc_cond_batch(*window)
            TimedHandler.windows += now() - start
            return out

        start = now()
        out = super().execute(timed, *args)
        TimedHandler.whole += now() - start
        return out


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def animated_model(channels: int):
    """A MODEL with a motion model, random."""
    model = full_size.make_sd15(torch.float32, channels)
    return apply_motion_model(model, full_size.make_motion_model(channels), MotionSettings())


def with_handler(model, handler):
    model = model.clone()
    model.model_options["context_handler"] = handler
    return model


def core_handler(**options):
    return comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=LENGTH, context_overlap=OVERLAP, dim=0, **options,
    )  # fmt: skip


def run(model, frames: int, pixels: int) -> None:
    latent = torch.zeros(frames, 4, pixels // 8, pixels // 8)
    prompts = ([[torch.randn(1, 77, 768), {"pooled_output": None}]] for _ in range(2))
    comfy.sample.sample_custom(
        model, torch.randn_like(latent), 7.5, comfy.samplers.sampler_object("euler"), torch.tensor([14.6, 0.0]), *prompts,
        latent, disable_pbar=True, seed=0,
    )  # fmt: skip


def measure_memory(options) -> None:
    model = animated_model(options.channels)

    def peak(frames: int, length: int, overlap: int) -> int:
        with PeakMemory() as memory:
            run(with_handler(model, FrameWindowsHandler(Windowing(length, overlap))), frames, options.pixels)
        return memory.peak

    few, many = options.frames // 2, options.frames * 2
    peaks = {frames: peak(frames, LENGTH, OVERLAP) for frames in (few, many)}
    for frames, bytes_at_most in peaks.items():
        print(f"  memory, {frames} frames: {bytes_at_most / 1e6:.1f} MB", flush=True)
    print(f"  memory, {many} : {few} frames = {peaks[many] / peaks[few]:.3f}")
    print(f"  memory, {few} frames in one piece: {peak(few, few, 0) / 1e6:.1f} MB", flush=True)


def measure_time(options) -> None:
    model = animated_model(options.channels)
    timed = with_handler(model, TimedHandler(Windowing(LENGTH, OVERLAP)))
    runs: dict[str, Callable[[], None]] = {
        name: lambda source=source: run(source, options.frames, options.pixels)
        for name, source in {
            "Loom": with_handler(model, FrameWindowsHandler(Windowing(LENGTH, OVERLAP))),
            "ComfyUI": with_handler(model, core_handler(causal_window_fix=False)),
            "ComfyUI as set by default": with_handler(model, core_handler()),
        }.items()
    }
    best = dict.fromkeys(runs, float("inf"))
    for turn in range(options.repeats + 1):
        run(timed, options.frames, options.pixels)
        if turn == 0:
            TimedHandler.whole = TimedHandler.windows = 0.0  # the first warms up
        for name, function in runs.items():
            start = now()
            function()
            if turn:
                best[name] = min(best[name], now() - start)
    print(f"  overhead of windows, {options.frames} frames: {TimedHandler.whole / TimedHandler.windows - 1:.4f}")
    for name in list(best)[1:]:
        print(f"  Loom : {name} = {best['Loom'] / best[name]:.3f} ({best['Loom']:.2f} s, {best[name]:.2f} s)", flush=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=64, help="of the outermost level; 320 is full size")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--frames", type=int, default=64, help="memory is counted for half and for twice as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-only", action="store_true", help="leave the times out")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {options.channels} channels, {options.pixels} px")
    if not options.memory_only:
        measure_time(options)
    measure_memory(options)


if __name__ == "__main__":
    main()
