"""Memory that ``loom.py render`` takes beyond its models, over the length of a video.

    python3 loom.py run benchmarks.render_memory --models FOLDER [--frames 64 2000] [--size 64] [--steps 1]

A video of moving bars is rendered, in one process for all lengths, with the first checkpoint and motion model in a folder that
has ``checkpoints`` and ``animatediff_models``, such as the demo's. Memory is what the process holds (resident set), looked at
fifty times a second, less what it held when the models were loaded.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import torch

from ..launcher.comfy_device import choose_device

choose_device()  # before anything asks for a device

from ..launcher.render import plan_job, render_chunks
from ..launcher.render_config import (
    ChunksSection,
    ModelSection,
    OutputSection,
    RenderJob,
    SamplingSection,
    VideoSection,
)
from ..launcher.render_folder import RenderFolder, encode_video
from ..launcher.render_models import Renderer

MB = 1e6


class PeakResident:
    """The most memory that the process holds while the block runs, in bytes, beyond what it held before."""

    def __enter__(self) -> PeakResident:
        self._process, self._done = psutil.Process(), threading.Event()
        self.before = self._peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def above(self) -> int:
        return self._peak - self.before

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._peak = max(self._peak, self._process.memory_info().rss)


def bars(frames: int, size: int) -> Iterator[np.ndarray]:
    """Frames ``(size, size, 3)`` uint8 in which bars move to the right."""
    ramp = (np.arange(size) * 4 % 256).astype(np.uint8)
    for number in range(frames):
        yield np.broadcast_to(np.roll(ramp, number)[None, :, None], (size, size, 3)).copy()


def measure(models: Path, frames: int, size: int, steps: int, chunk: int) -> tuple[int, int, float]:
    """Bytes held by the models' process, bytes beyond, and seconds, for a video of so many frames."""
    first = [next(path for path in sorted((models / kind).iterdir())) for kind in ("checkpoints", "animatediff_models")]
    with tempfile.TemporaryDirectory() as folder:
        encode_video(source := Path(folder, "source.mp4"), ".mp4", bars(frames, size), Fraction(8), 12)
        job = RenderJob(
            model=ModelSection(checkpoint=first[0], motion_model=first[1]), video=VideoSection(file=source),
            sampling=SamplingSection(prompt="a blue square moving right", steps=steps, cfg=1.0),
            chunks=ChunksSection(chunk=chunk, overlap=min(8, chunk // 2)),
            output=OutputSection(file=Path(folder, "out.mp4"), width=size, height=size),
        )  # fmt: skip
        plan = plan_job(job)
        renderer, kept = Renderer(job, frames), RenderFolder(job.output.file)
        kept.claim({})
        began = time.monotonic()
        with PeakResident() as memory:
            render_chunks(renderer, plan, 0, kept)
            kept.join(plan.rate, [part.finished for part in plan.chunks])
        return memory.before, memory.above, time.monotonic() - began


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 2000])
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=64, help="frames of a chunk")
    options = parser.parse_args()
    for frames in options.frames:
        before, above, seconds = measure(options.models, frames, options.size, options.steps, options.chunk)
        print(f"{frames} frames: {above / MB:.0f} MB beyond {before / MB:.0f} MB with the models, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
