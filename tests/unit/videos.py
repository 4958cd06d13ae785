"""Videos, animated images and frame folders whose frames show their own numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
from PIL import Image

STEP = 5  # grey levels from one frame to the next, far more than a codec changes a flat area by

WIDTH, HEIGHT = 96, 64


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """``(h, w, 3)``: the number as a grey level, and a white bar along the left side."""
    pixels = np.full((height, width, 3), number * STEP, np.uint8)
    pixels[:, : width // 8] = 255
    return pixels


def numbers(frames) -> list[int]:
    """What the frames ``(n, 3, h, w)`` show, read in their middle."""
    middle = frames[:, :, frames.shape[2] // 2, frames.shape[3] // 2].mean(1)
    return [round(level * 255 / STEP) for level in middle.tolist()]


def write(path: Path, count: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write a video, an animated image, or (if the name has no ending) a folder of PNG frames; ``count`` up to 51."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [picture(number, width, height) for number in range(count)]
    if not path.suffix:
        path.mkdir()
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(path / f"frame{number}.png")
    elif path.suffix in (".gif", ".webp"):
        first, *rest = [Image.fromarray(pixels) for pixels in pictures]
        first.save(path, save_all=True, append_images=rest, duration=40, lossless=True)
    else:
        _write_video(path, pictures)
    return path


def _write_video(path: Path, pictures: list[np.ndarray]) -> None:
    codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "cpu-used": "8"} if path.suffix == ".webm" else {"crf": "10", "preset": "ultrafast"}
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_sound(path: Path) -> Path:
    """Write an mp4 file without any picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path) -> Path:
    """Mark an mp4 file as filmed sideways: to be shown turned by 90 degrees clockwise.

    Source: ISO/IEC 14496-12, 8.3.2: the matrix (a b u; c d v; x y w) near the end of a track header, 16.16 fixed point
    (u v w 2.30), takes a pixel (p, q) to (a p + c q + x, b p + d q + y).
    """
    contents = bytearray(path.read_bytes())
    start = contents.index(b"tkhd") + 4 + 40  # version, flags, times, id, duration, layer, group, volume
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert contents[start : start + 36] == identity
    contents[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    path.write_bytes(contents)
    return path
