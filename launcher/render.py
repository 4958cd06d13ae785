"""Render a video of any length: what ``loom.py render JOB.toml`` has ComfyUI's Python run.

Frames are read, encoded, sampled, decoded and written chunk by chunk, so memory does not grow with the video; see
``render_folder`` for how a run goes on where another was stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .comfy_device import choose_device
from .errors import LoomError, exit_code
from .pack import pack_module
from .progress_bar import ProgressBar
from .render_config import RenderJob, read_job

_OF_MOTION_MODELS = 8  # frames a second that AnimateDiff's motion models were trained on


def main() -> None:
    sys.exit(exit_code(lambda: render(Path(sys.argv[1]))))


def render(path: Path) -> None:
    """Do a job, or what is left of it.

    Raises:
        LoomError: the job can't be done; says why.
    """
    job = read_job(path)
    for name, file in job.files().items():
        if not file.exists():
            raise LoomError(f"{name}: there is no file '{file}'.")
    choose_device()
    try:
        _render(job)
    except pack_module("motion_models.training.errors").ClipSkipped as error:
        raise LoomError(f"video.file: '{job.video and job.video.file}' {error}") from error
    except pack_module("motion_models.errors").UserError as error:
        raise LoomError(str(error)) from error


def _render(job: RenderJob) -> None:
    import torch

    from .render_folder import RenderFolder
    from .render_models import Renderer, check_samplers

    check_samplers(job)
    plan = plan_job(job)
    folder, chunks = RenderFolder(job.output.file), plan.chunks
    folder.claim({**_settings(job), "frames": plan.frames, "frame rate": str(plan.rate)})
    first = folder.finished()
    begin = f"goes on with chunk {first + 1}" if first else "starts"
    print(f"Rendering {begin} of {len(chunks)}: {plan.frames} frames. Ctrl-C stops it; the same command goes on.", flush=True)
    if first < len(chunks):
        with torch.inference_mode():
            render_chunks(Renderer(job, plan.frames), plan, first, folder)
    folder.join(plan.rate, [chunk.finished for chunk in chunks])
    print(f"Saved '{job.output.file}'.", flush=True)


class RenderPlan(NamedTuple):
    """How many frames there will be, how many a second, and in which chunks they are made."""

    frames: int
    rate: Fraction
    chunks: list[Any]


def plan_job(job: RenderJob) -> RenderPlan:
    """Look at a job's video and motion model; raises LoomError and the errors of their readers."""
    from .render_models import window_of

    frames, chunks = _count_frames(job), job.chunks
    config, _, _ = pack_module("nodes.host.files.loading").read_motion_model(str(job.model.motion_model))
    least = min(chunks.chunk, window_of(job, config)[0])
    planned = pack_module("animation.chunks").plan_chunks(frames, chunks.chunk, chunks.overlap, least)
    return RenderPlan(frames, _frame_rate(job), planned)


def render_chunks(renderer: Any, plan: RenderPlan, first: int, folder: Any) -> None:
    """Make all chunks from the ``first`` on, and keep them in a ``RenderFolder``."""
    import torch

    chunks = plan.chunks
    carried = folder.carried(first - 1) if first else {}
    video = _video_frames(renderer.job, chunks[first].start + chunks[first].overlap)
    progress = _Progress(chunks, first, renderer.job.sampling.steps)
    for number in range(first, len(chunks)):
        chunk = chunks[number]
        new = chunk.frames - chunk.overlap
        latents = renderer.empty(new) if video is None else renderer.encode(islice(video, new))
        latents = torch.cat([carried["latents"], latents]) if carried else latents
        sampled, carried = renderer.sample(latents, chunk, carried, progress.callback(number))
        folder.finish(number, renderer.decode(sampled[: chunk.finished]), carried, plan.rate, renderer.job.output.quality)
        progress.finished(number)
    progress.bar.clear()


class _Progress:
    """How far a run is and how long it will take, in steps of frames; only what this run does counts."""

    def __init__(self, chunks: list[Any], first: int, steps: int):
        self.chunks, self.steps, self.bar = chunks, steps, ProgressBar()
        self._before = sum(chunk.frames for chunk in chunks[:first])
        self._total = sum(chunk.frames for chunk in chunks)
        self._began = time.monotonic()

    def callback(self, number: int) -> Any:
        """ComfyUI's callback for the steps of a chunk."""
        done = sum(chunk.frames for chunk in self.chunks[:number])

        def show(step: int, denoised: Any, x: Any, total_steps: int) -> None:
            if sys.stdout.isatty():
                frames = done + self.chunks[number].frames * (step + 1) / total_steps
                self.bar.show(f"chunk {number + 1} of {len(self.chunks)}, {self._left(frames)}", frames / self._total, 1.0)

        return show

    def finished(self, number: int) -> None:
        if not sys.stdout.isatty():
            left = self._left(sum(chunk.frames for chunk in self.chunks[: number + 1]))
            print(f"chunk {number + 1}/{len(self.chunks)}, {left}", flush=True)

    def _left(self, frames: float) -> str:
        seconds = (time.monotonic() - self._began) * (self._total - frames) / (frames - self._before)
        return f"{time_in_words(seconds)} left"


def time_in_words(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


# --- the video ------------------------------------------------------------------------------------


def _video_frames(job: RenderJob, skipped: int) -> Iterator[Any] | None:
    """The job's video in the size of the output, ``(3, h, w)`` from 0 to 1, without its first frames; None without a video."""
    if job.video is None:
        return None
    files = pack_module("motion_models.training.frame_files")
    frames = files.frames_of(job.video.file)
    chosen = islice(frames, job.video.first_frame + skipped * job.video.stride, None, job.video.stride)
    return (files.resize_and_crop(frame(), job.output.width, job.output.height) for frame in chosen)


def _count_frames(job: RenderJob) -> int:
    """How many frames there will be. All of a video is decoded for that: what its header says is not always so."""
    if job.video is None:
        assert job.output.frames is not None  # the configuration sees to it
        return job.output.frames
    files = pack_module("motion_models.training.frame_files")
    chosen = islice(files.frames_of(job.video.file), job.video.first_frame, None, job.video.stride)
    count = sum(1 for _ in islice(chosen, job.output.frames))
    if not count:
        raise LoomError(f"video.file: '{job.video.file}' has no frame {job.video.first_frame} (video.first_frame) or later ones.")
    return count


def _frame_rate(job: RenderJob) -> Fraction:
    """The job's, or that of the video's frames that are taken."""
    if job.output.frame_rate is not None:
        return Fraction(job.output.frame_rate).limit_denominator(1001)
    rate = job.video and pack_module("motion_models.training.frame_files").frame_rate_of(job.video.file)
    return rate / job.video.stride if rate and job.video else Fraction(_OF_MOTION_MODELS)


def _settings(job: RenderJob) -> dict[str, Any]:
    """All that decides what the frames will be, by the names of the job's keys, to tell another job by."""
    sections = job.model_dump(mode="json", exclude={"output": {"file"}})
    settings = {f"{section}.{key}": value for section, keys in sections.items() for key, value in (keys or {}).items()}
    states = {name: (file, file.stat()) for name, file in job.files().items()}
    return settings | {name: [str(file), state.st_size, state.st_mtime_ns] for name, (file, state) in states.items()}
