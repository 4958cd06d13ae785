"""Frames out of files: videos, animated images, folders of images. Nothing is decoded before it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from .errors import ClipSkipped

VIDEO_ENDINGS = frozenset({".mp4", ".webm", ".gif", ".mov", ".mkv", ".avi", ".m4v"})
IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp"})

# Pillow's readers raise whatever their format's parsing runs into.
_IMAGE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)

Frame = Callable[[], Tensor]
"""A frame that decodes itself when called: ``(3, h, w)`` uint8 RGB. Only valid until the next one is asked for."""


def frames_of(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video, an animated image or a folder of images; raises ClipSkipped while iterating."""
    if path.is_dir():
        return (partial(_read_image, image) for image in images_in(path))
    if path.suffix.lower() == ".webp":
        return _frames_of_webp(path)  # FFmpeg, and so PyAV, reads no animated WebP
    return _frames_of_video(path)


def frame_rate_of(path: Path) -> Fraction | None:
    """Frames a second of a video or GIF; None if it does not say so. Raises ClipSkipped."""
    import av

    if path.is_dir() or path.suffix.lower() == ".webp":
        return None
    unreadable = partial(_skipping, "cannot be read as a video", av.FFmpegError, OSError, ValueError)
    with unreadable(), av.open(str(path)) as container:
        return container.streams.video[0].average_rate if container.streams.video else None


def images_in(folder: Path) -> list[Path]:
    """The frames of a frame folder, by the numbers in their names: ``frame2`` comes before ``frame10``."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")]
    return sorted(images, key=lambda path: natural(path.name))


def natural(name: str) -> list[str | int]:
    """Sort key by which numbers count as numbers."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", name)]


def is_animated(path: Path) -> bool:
    """Whether a WebP file can be read and holds more than one frame."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except _IMAGE_ERRORS:
        return False


def resize_and_crop(frame: Tensor, width: int, height: int) -> Tensor:
    """Scale a frame ``(3, h, w)`` uint8 to just cover the size, and cut out its centre, as float from 0 to 1."""
    old_height, old_width = frame.shape[-2:]
    scale = max(width / old_width, height / old_height)
    size = (max(height, round(old_height * scale)), max(width, round(old_width * scale)))
    pixels = frame.float()[None] / 255
    if size != (old_height, old_width):
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return pixels[0, :, top : top + height, left : left + width]


def _frames_of_video(path: Path) -> Iterator[Frame]:
    import av

    unreadable = partial(_skipping, "cannot be read as a video", av.FFmpegError, OSError, ValueError)
    with unreadable(), av.open(str(path)) as container:
        if not container.streams.video:
            raise ClipSkipped("holds no video.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield unreadable()(partial(_video_frame, frame))


def _video_frame(frame) -> Tensor:
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).movedim(-1, 0)
    # Phones film sideways and note by how much; the angle is counter-clockwise, as rot90 turns.
    quarter_turns = round(frame.rotation / 90) % 4
    return torch.rot90(pixels, quarter_turns, (1, 2)) if quarter_turns else pixels


def _frames_of_webp(path: Path) -> Iterator[Frame]:
    unreadable = partial(_skipping, "cannot be read as an animated image", *_IMAGE_ERRORS)
    with unreadable(), Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            yield unreadable()(partial(_image_frame, image))


def _read_image(path: Path) -> Tensor:
    with _skipping(f"its frame '{path.name}' cannot be read", *_IMAGE_ERRORS), Image.open(path) as image:
        return _image_frame(ImageOps.exif_transpose(image))


def _image_frame(image) -> Tensor:
    if image.mode.startswith("I"):  # 16-bit grey, which convert would cut off at 255
        grey = torch.from_numpy(np.asarray(image).astype(np.float32) / 257).round().clamp(0, 255).to(torch.uint8)
        return grey.expand(3, -1, -1)
    return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0)


@contextmanager
def _skipping(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn a reader's errors into the reason to skip the clip; a decorator, too."""
    try:
        yield
    except ClipSkipped:
        raise
    except errors as error:
        raise ClipSkipped(f"{what} ({error}).") from error
