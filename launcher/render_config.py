"""The file that ``loom.py render`` is told what to do by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from .config_file import File, FileOrLora, Lora, Section, between, read_file
from .errors import LoomError

LOSSLESS = ".mkv"
ENDINGS = (".mp4", LOSSLESS)

_Pixels = Annotated[int, between(16, 8192)]
_Count = Annotated[int, between(1, 10_000_000)]
_WITH_VIDEO, _WITHOUT = 0.5, 1.0


class ModelSection(Section):
    """What is sampled with."""

    checkpoint: File
    vae: File | None = None
    loras: list[FileOrLora] = Field(default_factory=list)
    motion_model: File
    motion_scale: Annotated[float, between(0, 10)] = 1.0


class VideoSection(Section):
    """The video to begin with; without this section, the animation is made from text alone."""

    file: File
    first_frame: Annotated[int, between(0, 10_000_000)] = 0
    stride: Annotated[int, between(1, 1000)] = 1


class SamplingSection(Section):
    """The sampler's inputs, under their names."""

    prompt: str = ""
    negative: str = ""
    prompt_schedule: str = ""
    seed: Annotated[int, between(0, 2**64 - 1)] = 0
    steps: Annotated[int, between(1, 10_000)] = 20
    cfg: Annotated[float, between(0, 100)] = 7.5
    sampler: str = "euler"
    scheduler: str = "normal"
    denoise: Annotated[float, between(0.01, 1)] | None = None


class ChunksSection(Section):
    """How many frames are in memory at a time, and in windows of how many they are sampled."""

    chunk: Annotated[int, between(2, 4096)] = 64
    overlap: Annotated[int, between(0, 4095)] = 8
    context_length: Annotated[int, between(1, 4096)] | None = None
    context_overlap: Annotated[int, between(0, 4095)] | None = None
    freenoise: bool = False
    shared_noise: Annotated[float, between(0, 1)] | None = None


class OutputSection(Section):
    """The file that is made."""

    file: File
    width: _Pixels = 512
    height: _Pixels = 512
    frames: _Count | None = None
    frame_rate: Annotated[float, between(0.1, 1000)] | None = None
    quality: Annotated[int, between(0, 51)] = 12


class RenderJob(Section):
    """All of the file."""

    model: ModelSection
    video: VideoSection | None = None
    sampling: SamplingSection
    chunks: ChunksSection = Field(default_factory=ChunksSection)
    output: OutputSection

    @property
    def denoise(self) -> float:
        if self.sampling.denoise is not None:
            return self.sampling.denoise
        return _WITHOUT if self.video is None else _WITH_VIDEO

    def files(self) -> dict[str, Path]:
        """All files that are read, by the keys that name them."""
        files = {"model.checkpoint": self.model.checkpoint, "model.motion_model": self.model.motion_model}
        files |= {f"model.loras[{place}]": lora.file for place, lora in enumerate(self.model.loras)}
        if self.model.vae is not None:
            files["model.vae"] = self.model.vae
        if self.video is not None:
            files["video.file"] = self.video.file
        return files


def read_job(path: Path) -> RenderJob:
    """Read a job; paths in it are relative to the file.

    Raises:
        LoomError: it is missing, no TOML, has unknown keys, or values that are wrong or don't fit one another.
    """
    known: dict[str, type[Section]] = {
        "model": ModelSection, "loras": Lora, "video": VideoSection, "sampling": SamplingSection, "chunks": ChunksSection,
        "output": OutputSection,
    }  # fmt: skip
    missing = {
        "model.checkpoint": "an SD1.5 or SDXL checkpoint file",
        "model.motion_model": "a motion model's file",
        "video.file": "a video's file; without the line [video], the animation is made from text alone",
        "output.file": "the file to make, NAME.mp4 or NAME.mkv",
    }  # fmt: skip
    job: RenderJob = read_file(path, RenderJob, known, missing)
    wrong = _what_does_not_fit(job)
    if wrong:
        raise LoomError(f"'{path}': {wrong}")
    return job


def _what_does_not_fit(job: RenderJob) -> str | None:
    sampling, chunks, output = job.sampling, job.chunks, job.output
    if output.file.suffix.lower() not in ENDINGS:
        return f"output.file is '{output.file.name}'. Expected a name that ends in .mp4 (H.264) or {LOSSLESS} (FFV1, lossless)."
    for name in ("width", "height"):
        if getattr(output, name) % 8:
            return f"output.{name} is {getattr(output, name)}. Expected a multiple of 8."
    if chunks.overlap > chunks.chunk // 2:
        return f"chunks.overlap is {chunks.overlap}. Expected at most half of chunks.chunk, {chunks.chunk // 2}."
    if (chunks.context_overlap or 0) >= (chunks.context_length or 4096):
        return f"chunks.context_overlap is {chunks.context_overlap}. Expected less than context_length, {chunks.context_length}."
    if sampling.prompt_schedule and (sampling.prompt or sampling.negative):
        return "sampling has prompt_schedule and prompt or negative. Give one of them; a schedule writes negative prompts after --neg."
    if job.video is None and output.frames is None:
        return "output.frames is missing. Expected how many frames to make, as there is no [video] that says it."
    return None
