"""Clips to train on: what a clip is, and finding them in a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..errors import quote
from .captions import CaptionTable, read_caption_file, read_caption_table
from .errors import ClipSkipped, TrainingDataError
from .frame_files import IMAGE_ENDINGS, VIDEO_ENDINGS, frames_of, images_in, is_animated, natural, resize_and_crop

_READING = 1  # counted up whenever the same file comes to give other pixels


class Clip(Protocol):
    """A video to train on. Its ``identity`` differs whenever its frames may: cached latents go by it."""

    @property
    def name(self) -> str: ...

    @property
    def caption(self) -> str: ...

    @property
    def identity(self) -> str: ...

    def read(self) -> Iterator[Tensor]:
        """Yield the frames at the training stride in chunks ``(n, 3, h, w)`` from 0 to 1, all of one size.

        Raises:
            ClipSkipped: it cannot be read, or is too short.
        """


@dataclass(frozen=True)
class FramesClip:
    """A clip in memory: ``frames`` is ``(f, 3, h, w)`` from 0 to 1, at the training stride."""

    name: str
    caption: str
    frames: Tensor

    @cached_property
    def identity(self) -> str:
        frames = self.frames.detach().cpu().contiguous()
        return hashlib.sha256(str((frames.dtype, tuple(frames.shape))).encode() + frames.numpy().tobytes()).hexdigest()

    def read(self) -> Iterator[Tensor]:
        yield self.frames


@dataclass(frozen=True)
class ClipSettings:
    """How videos become training samples of so many ``frames``, each the ``stride``-th after the one before.

    They are scaled to cover the size in pixels, and their centre is cut out. Videos count up to ``max_source_frames``,
    so that one cannot fill the disk.
    """

    width: int = 256
    height: int = 256
    frames: int = 16
    stride: int = 4
    max_source_frames: int = field(default=1024, metadata={"is_hidden": True})

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise TrainingDataError(f"{name} is {value}; it must be 1 or more.")
        if self.span > self.max_source_frames:
            raise TrainingDataError(
                f"{self.frames} frames at a stride of {self.stride} span {self.span} frames of a video; at most "
                f"{self.max_source_frames} are read. Choose fewer frames or a smaller stride."
            )

    @property
    def span(self) -> int:
        """How many frames of a video a training sample spans."""
        return (self.frames - 1) * self.stride + 1


@dataclass(frozen=True)
class FileClip:
    """A video, an animated image or a folder of images; ``name`` is its path relative to the folder of all clips."""

    path: Path
    name: str
    caption: str
    settings: ClipSettings

    @property
    def identity(self) -> str:
        try:
            files = images_in(self.path) if self.path.is_dir() else [self.path]
            states = [(file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
        except OSError as error:
            raise ClipSkipped(f"cannot be read ({error}).") from error
        text = json.dumps([_READING, self.name, states, asdict(self.settings)])
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self) -> Iterator[Tensor]:
        """Yield the frames at the stride, at most a sample's worth at a time.

        A video that is too short for the stride but has enough frames gives as many as a sample needs, evenly spaced
        (as AnimateDiff's own training does).
        """
        settings = self.settings
        count = sum(1 for _ in islice(frames_of(self.path), settings.span))
        if count < settings.frames:
            raise ClipSkipped(f"has {count} frames; at least {settings.frames} are needed.")
        if count < settings.span:
            wanted: Sequence[int] = [i * (count - 1) // (settings.frames - 1) for i in range(settings.frames)]
        else:
            wanted = range(0, settings.max_source_frames, settings.stride)
        chunk: list[Tensor] = []
        for number, frame in enumerate(islice(frames_of(self.path), wanted[-1] + 1)):
            if number in wanted:
                chunk.append(resize_and_crop(frame(), settings.width, settings.height))
            if len(chunk) == settings.frames:
                yield torch.stack(chunk)
                chunk = []
        if chunk:
            yield torch.stack(chunk)


@dataclass(frozen=True)
class FolderClips:
    """The clips of a folder in the order of their names, and notes to the user."""

    clips: tuple[FileClip, ...]
    notes: tuple[str, ...]


def find_clips(folder: Path, settings: ClipSettings, default_caption: str = "") -> FolderClips:
    """Find the clips in a folder and its subfolders, with their captions; opens no video.

    A clip is a video, an animated GIF or WebP, or a folder of images (PNG, JPEG, WebP) in the order of the numbers in
    their names. Its caption is the first of these that says anything: its row in the csv file that lies in the folder, a
    text file beside it that bears its name, ``caption.txt`` in a folder of images, the default.

    Raises:
        TrainingDataError: there are no clips, no captions at all, or the csv file is wrong.
    """
    if not folder.is_dir():
        raise TrainingDataError(f"The folder '{folder}' does not exist.")
    found, notes = _find(folder)
    if not found:
        raise TrainingDataError(
            f"'{folder}' holds no clips. Put videos in it ({', '.join(sorted(VIDEO_ENDINGS | {'.webp'}))}), or one "
            f"folder of numbered images per clip ({', '.join(sorted(IMAGE_ENDINGS))})."
        )
    table = _caption_table(folder)
    names = {path: path.relative_to(folder).as_posix() if path != folder else folder.name for path in found}
    captions = {path: table.find(name) or _caption_beside(path, folder) for path, name in names.items()}
    uncaptioned = [names[path] for path, caption in captions.items() if not caption]
    if len(uncaptioned) == len(found) and not default_caption:
        raise TrainingDataError(
            f"None of the {len(found)} clips in '{folder}' has a caption. Write what '{names[found[0]]}' shows into "
            f"'{_caption_files(found[0], folder)[0].relative_to(folder).as_posix()}', and so on; or into a csv file with the "
            "columns file,caption; or give a default caption for all."
        )
    if uncaptioned:
        instead = f'"{default_caption}"' if default_caption else "an empty caption"
        notes.append(f"Clips without a caption: {quote(uncaptioned)}. They use {instead}.")
    if unused := table.unused(names.values()):
        notes.append(f"In the csv file, but not in the folder: {quote(unused)}.")
    clips = [FileClip(path, names[path], captions[path] or default_caption, settings) for path in found]
    return FolderClips(tuple(clips), tuple(notes))


def _find(folder: Path) -> tuple[list[Path], list[str]]:
    """Sorted paths of the clips, and notes."""
    found: list[Path] = []
    notes: list[str] = []
    for place, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__MACOSX"))]
        paths = [Path(place, name) for name in files if not name.startswith(".")]
        videos = [path for path in paths if _is_video(path)]
        images = [path for path in paths if path.suffix.lower() in IMAGE_ENDINGS and path not in videos]
        found += videos
        if images and not videos:
            found.append(Path(place))
        elif images:
            notes.append(
                f"Images next to videos are not used: {quote(sorted(path.name for path in images))}. "
                "Put the frames of a clip into a folder of their own."
            )
    return sorted(found, key=lambda path: natural(path.relative_to(folder).as_posix())), notes


def _is_video(path: Path) -> bool:
    ending = path.suffix.lower()
    return ending in VIDEO_ENDINGS or (ending == ".webp" and is_animated(path))


def _caption_table(folder: Path) -> CaptionTable:
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith("."))
    if len(tables) > 1:
        raise TrainingDataError(
            f"'{folder}' holds {len(tables)} csv files: {quote(path.name for path in tables)}. Keep the one with the captions."
        )
    return read_caption_table(tables[0]) if tables else CaptionTable()


def _caption_beside(path: Path, folder: Path) -> str:
    return next((read_caption_file(file) for file in _caption_files(path, folder) if file.is_file()), "")


def _caption_files(path: Path, folder: Path) -> list[Path]:
    """Where the caption of a clip may stand."""
    if not path.is_dir():
        return [path.parent / f"{path.stem}.txt"]
    beside = [path.parent / f"{path.name}.txt"] if path != folder else []
    return [*beside, path / "caption.txt"]
