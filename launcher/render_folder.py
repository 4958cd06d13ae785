"""What a render keeps beside its output until it is finished: a video for each finished chunk, and what the next one needs.

Each file is written under another name and then renamed, and a chunk's video comes last. So wherever the program is
stopped, a chunk whose video is there is finished, and all that the next one needs is there, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import safetensors.torch
from torch import Tensor

from .errors import LoomError
from .render_config import LOSSLESS

_BT709 = 1  # in the numbers of ITU-T H.273


class RenderFolder:
    """The folder beside a video file that is being made."""

    def __init__(self, output: Path):
        self.output = output
        self.path = output.with_name(f"{output.name}.parts")

    def claim(self, job: dict[str, Any]) -> None:
        """Begin a job, or go on with it.

        Raises:
            LoomError: the output is there already, or what is there is of another job.
        """
        file = self.path / "job.json"
        if self.finished():
            other = json.loads(file.read_text(encoding="utf-8"))
            if differing := [name for name in {**other, **job} if other.get(name) != job.get(name)]:
                raise LoomError(
                    f"'{self.path}' is what another job has done so far: {', '.join(differing)} differ. Give this job another "
                    "output.file, or delete that folder to begin anew."
                )
            return
        if self.output.exists():
            raise LoomError(f"'{self.output}' is there already. Delete it, or give the job another output.file.")
        self.path.mkdir(parents=True, exist_ok=True)
        with _written(file) as new:
            new.write_text(json.dumps(job, indent=1), encoding="utf-8")

    def finished(self) -> int:
        """How many chunks are finished."""
        number = 0
        while self._segment(number).is_file():
            number += 1
        return number

    def carried(self, number: int) -> dict[str, Tensor]:
        """What a finished chunk left to the next one."""
        return safetensors.torch.load_file(self._carried(number))

    def finish(self, number: int, frames: Iterable[np.ndarray], carried: dict[str, Tensor], rate: Fraction, quality: int) -> None:
        """Keep a chunk: its frames ``(h, w, 3)`` uint8, and what it leaves to the next one."""
        with _written(self._carried(number)) as new:
            safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in carried.items()}, new)
        with _written(self._segment(number)) as new:
            encode_video(new, self.output.suffix, frames, rate, quality)
        self._carried(number - 1).unlink(missing_ok=True)

    def join(self, rate: Fraction, frames: list[int]) -> None:
        """Make the output of all chunks, which have so many ``frames``, without encoding them again, and remove the folder."""
        segments = [self._segment(number) for number in range(len(frames))]
        with _written(self.output) as new:
            join_videos(new, segments, frames, rate)
        shutil.rmtree(self.path)

    def _segment(self, number: int) -> Path:
        return self.path / f"chunk_{number:06d}{self.output.suffix}"

    def _carried(self, number: int) -> Path:
        return self.path / f"chunk_{number:06d}.safetensors"


def encode_video(path: Path, ending: str, frames: Iterable[np.ndarray], rate: Fraction, quality: int) -> None:
    """Write frames ``(h, w, 3)`` uint8 as H.264, or as FFV1 where the file is to end in ``LOSSLESS``."""
    is_lossless, frames = ending.lower() == LOSSLESS, iter(frames)
    first = next(frames)
    with av.open(str(path), "w", format=_container(ending)) as container:
        if is_lossless:
            stream = container.add_stream("ffv1", rate=rate, options={"level": "3", "g": "1"})
            stream.pix_fmt = "bgr0"
        else:  # without B-frames, whose decoding times would not go on evenly from one chunk to the next
            stream = container.add_stream("libx264", rate=rate, options={"crf": str(quality), "bf": "0"})
            stream.pix_fmt, context = "yuv420p", stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709
        stream.height, stream.width = first.shape[:2]
        for pixels in chain([first], frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if not is_lossless:
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def join_videos(path: Path, segments: list[Path], frames: list[int], rate: Fraction) -> None:
    """Put videos of so many frames one behind the other, as they are encoded; all are as ``encode_video`` writes them."""
    before, stream = 0, None
    with av.open(str(path), "w", format=_container(segments[0].suffix)) as container:
        for segment, count in zip(segments, frames, strict=True):
            with av.open(str(segment)) as source:
                (part,) = source.streams.video
                stream = stream or container.add_stream_from_template(part)
                offset = round(before / rate / Fraction(part.time_base or 1))
                for packet in source.demux(part):
                    if packet.dts is None or packet.pts is None:  # the end
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    container.mux(packet)
            before += count


def _container(ending: str) -> str:
    return "matroska" if ending.lower() == LOSSLESS else "mp4"


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A new file in whose place there is nothing, or what was, until the block is left without an error."""
    new = path.with_name(f"{path.name}.new")
    yield new
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)
