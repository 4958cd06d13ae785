"""Clips as latents with text embeddings, on disk: encoded once, read piece by piece.

A folder of them holds ``clips/<key>.safetensors``, a clip's latents at the training stride (and mirrored ones);
``texts/<key>.safetensors``, a caption's embedding; and ``clips.json``, which of them make up the set. Keys are hashes of
what the contents depend on, so a file never has to be checked against anything, and other settings find other files.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files import readable_path
from .clips import Clip
from .errors import ClipSkipped, TrainingDataError

_LAYOUT = 1
_INDEX = "clips.json"
_NAMES_A_SIDE = re.compile(r"\b(left|right|leftwards?|rightwards?|(counter|anti)?-?clockwise)\b", re.IGNORECASE)


@dataclass(frozen=True)
class LatentClip:
    """One training sample: latents ``(f, c, h, w)``, the caption or "" and its text embeddings ``(t, d)`` and ``(p,)``.

    All are float32, the latents as the encoder gave them or ``map_latents`` makes them.
    """

    latents: Tensor
    context: Tensor
    caption: str
    pooled: Tensor | None = None


@dataclass(frozen=True)
class SkippedClip:
    name: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    """A clip in the index; ``count`` frames are on disk."""

    name: str
    caption: str
    file: str
    sha256: str
    count: int
    mirrored: bool


@dataclass(frozen=True)
class _Text:
    file: str
    sha256: str
    pooled: bool = False


class LatentClips:
    """Clips in a folder that ``write_latent_clips`` wrote; opened, not loaded.

    ``latent_size`` is ``(c, h, w)``, ``skipped`` the clips that were left out. ``data_hash`` is of the contents: latents,
    embeddings, captions and their order, wherever they lie.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            index = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
            if index["layout"] != _LAYOUT:
                raise TrainingDataError(f"'{self.folder}' was written by another version. Delete it; it will be created again.")
            self.frames: int = index["frames"]
            self.latent_size: tuple[int, int, int] = tuple(index["latent_size"])
            self.skipped = tuple(SkippedClip(**entry) for entry in index["skipped"])
            self._entries = [_Entry(**entry) for entry in index["clips"]]
            self._texts = {caption: _Text(**entry) for caption, entry in index["texts"].items()}
        except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            message = f"'{self.folder}' has no finished latents of clips ({error}). Load the clips again."
            raise TrainingDataError(message) from error
        contents = [[entry.sha256, entry.caption, self._texts[entry.caption].sha256] for entry in self._entries]
        text = json.dumps([self.frames, self._texts[""].sha256, contents])
        self.data_hash = hashlib.sha256(text.encode()).hexdigest()
        self._map: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self._entries)

    @property
    def captions(self) -> tuple[str, ...]:
        return tuple(entry.caption for entry in self._entries)

    @property
    def starts(self) -> int:
        """How many different samples there are, mirrored ones not counted."""
        return sum(entry.count - self.frames + 1 for entry in self._entries)

    @property
    def mirrored(self) -> int:
        """How many of the clips have mirrored samples, too."""
        return sum(entry.mirrored for entry in self._entries)

    def map_latents(self, function: Callable[[Tensor], Tensor]) -> LatentClips:
        """The same clips with ``function`` between disk and sample, such as a model's latent scale factor."""
        view = copy.copy(self)
        view._map = function
        return view

    def sample(self, position: int, seed: int, text_dropout: float = 0.0) -> LatentClip:
        """Read the clip at a place in an endless shuffled order; a pure function of its arguments.

        Each run of ``len(self)`` positions is an epoch, in an order drawn from seed and epoch. Start, mirroring and
        text dropout are drawn from seed and position. So a resumed training sees the same samples, and processes that
        share the positions among them see what one would. ``text_dropout`` is the share whose caption counts as "".

        Raises:
            TrainingDataError: a file is gone or damaged.
        """
        epoch, place = divmod(position, len(self))
        order = torch.randperm(len(self), generator=_generator("epoch", seed, epoch))
        entry = self._entries[int(order[place])]
        draws = torch.rand(3, generator=_generator("sample", seed, position), dtype=torch.float64).tolist()
        first = int(draws[0] * (entry.count - self.frames + 1))
        name = "mirrored" if entry.mirrored and draws[1] < 0.5 else "latents"
        caption = "" if draws[2] < text_dropout else entry.caption
        latents = self._read(f"clips/{entry.file}", name, slice(first, first + self.frames))
        text = self._texts[caption]
        context = self._read(f"texts/{text.file}", "context")
        pooled = self._read(f"texts/{text.file}", "pooled") if text.pooled else None
        return LatentClip(latents if self._map is None else self._map(latents), context, caption, pooled)

    def _read(self, file: str, name: str, part: slice = slice(None)) -> Tensor:
        try:
            with readable_path(self.folder / file) as path, safe_open(path, framework="pt") as tensors:
                return tensors.get_slice(name)[part].to(torch.float32, copy=True)
        except (OSError, SafetensorError) as error:
            raise TrainingDataError(
                f"'{self.folder / file}' cannot be read ({error}). Load the clips again: missing ones will be encoded again."
            ) from error


Text = Tensor | tuple[Tensor, Tensor]
"""What a text encoder makes of a caption: its embedding ``(t, d)``, or that and the pooled one ``(p,)``."""


def _generator(*parts: object) -> torch.Generator:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def write_latent_clips(
    folder: str | Path,
    clips: Iterable[Clip],
    encode_frames: Callable[[Tensor], Tensor],
    encode_text: Callable[[str], Text],
    *,
    frames: int = 16,
    flip: bool = False,
    dtype: torch.dtype = torch.float16,
    vae_id: str = "",
    text_encoder_id: str = "",
    progress: Callable[[int], None] | None = None,
) -> LatentClips:
    """Encode clips into a folder. What is there already is not encoded again, so a stopped run goes on where it was.

    Each file is written whole or not at all. The folder may hold other sets, too; the last one written is opened.

    ``encode_frames`` turns frames ``(n, 3, h, w)``, 0 to 1, into latents ``(n, c, h', w')``; ``encode_text`` gives
    embeddings of one size for all captions. Each encoder needs an id of its own, one that gives pooled embeddings
    another than one that does not. ``flip`` keeps mirrored latents, too, except of clips whose caption names a side or a
    sense of rotation. ``progress`` is called with the number of clips done, also within one; it may raise to stop.

    Raises:
        TrainingDataError: no clip can be used, the encoders don't fit, or the disk is full.
    """
    writer = _Writer(Path(folder), dtype, frames, flip, progress or (lambda done: None))
    texts = {"": writer.text("", encode_text, text_encoder_id)}
    entries: list[_Entry] = []
    skipped: list[SkippedClip] = []
    for done, clip in enumerate(clips):
        try:
            entries.append(writer.clip(clip, done, encode_frames, vae_id))
        except ClipSkipped as error:
            skipped.append(SkippedClip(clip.name, str(error)))
        writer.progress(done + 1)
    if not entries:
        reasons = " ".join(f"'{clip.name}' {clip.reason}" for clip in skipped[:5]) or "There are none."
        more = f" And {len(skipped) - 5} more." if len(skipped) > 5 else ""
        raise TrainingDataError(f"None of the {len(skipped)} clips can be used. {reasons}{more}")
    for caption in dict.fromkeys(entry.caption for entry in entries):
        texts[caption] = writer.text(caption, encode_text, text_encoder_id)
        writer.progress(len(entries) + len(skipped))
    writer.index(entries, skipped, texts)
    return LatentClips(folder)


class _Writer:
    def __init__(self, folder: Path, dtype: torch.dtype, frames: int, flip: bool, progress: Callable[[int], None]):
        self.folder, self.dtype, self.frames, self.flip, self.progress = folder, dtype, frames, flip, progress
        self._sizes: dict[str, tuple[int, ...]] = {}

    def clip(self, clip: Clip, done: int, encode_frames: Callable[[Tensor], Tensor], vae_id: str) -> _Entry:
        mirrored = self.flip and not _NAMES_A_SIDE.search(clip.caption)
        file = self._file_name("clip", vae_id, mirrored, clip.identity)
        path = self.folder / "clips" / file
        found = _look(path, "latents")
        if found is None:
            found = self._write(path, self._encode(clip, done, encode_frames, mirrored), "latents")
        sha256, shape = found
        if shape[0] < self.frames:
            raise ClipSkipped(f"has {shape[0]} frames; at least {self.frames} are needed.")
        self._check_size("latents", clip.name, shape[1:])
        return _Entry(clip.name, clip.caption, file, sha256, shape[0], mirrored)

    def _encode(
        self, clip: Clip, done: int, encode_frames: Callable[[Tensor], Tensor], mirrored: bool
    ) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {"latents": [], "mirrored": []} if mirrored else {"latents": []}
        for chunk in clip.read():
            for name, latents in parts.items():
                self.progress(done)
                encoded = encode_frames(chunk.flip(-1) if name == "mirrored" else chunk)
                if encoded.ndim != 4 or len(encoded) != len(chunk):
                    raise TrainingDataError(
                        f"The VAE encoded {len(chunk)} frames to latents of shape {tuple(encoded.shape)}. Use the VAE of an "
                        "image model, such as SD1.5's own."
                    )
                latents.append(encoded.detach().to("cpu", self.dtype))
        tensors = {name: torch.cat(latents) for name, latents in parts.items() if latents}
        if not tensors:
            raise ClipSkipped("has no frames.")
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ClipSkipped("gives latents that are NaN or infinite: the VAE needs more precision (start ComfyUI with --fp32-vae).")
        return tensors

    def text(self, caption: str, encode_text: Callable[[str], Text], text_encoder_id: str) -> _Text:
        file = self._file_name("text", text_encoder_id, caption)
        path = self.folder / "texts" / file
        found = _look(path, "context")
        if found is None:
            encoded = encode_text(caption)
            parts = encoded if isinstance(encoded, tuple) else (encoded,)
            tensors = {name: part.detach().to("cpu", self.dtype) for name, part in zip(("context", "pooled"), parts, strict=False)}
            context = tensors["context"]
            if context.ndim != 2 or not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise TrainingDataError(f"The text encoder gives no usable embedding of '{caption}': {tuple(context.shape)}.")
            found = self._write(path, tensors, "context")
        sha256, shape = found
        self._check_size("text embedding", caption, shape)
        return _Text(file, sha256, pooled=_look(path, "pooled") is not None)

    def index(self, entries: list[_Entry], skipped: list[SkippedClip], texts: dict[str, _Text]) -> None:
        contents = {
            "layout": _LAYOUT, "frames": self.frames, "latent_size": self._sizes["latents"],
            "texts": {caption: asdict(text) for caption, text in texts.items()},
            "clips": [asdict(entry) for entry in entries], "skipped": [asdict(clip) for clip in skipped],
        }  # fmt: skip
        _replace(self.folder / _INDEX, json.dumps(contents, indent=1).encode())

    def _file_name(self, *parts: object) -> str:
        key = json.dumps([_LAYOUT, str(self.dtype), *parts])
        return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def _check_size(self, what: str, name: str, shape: tuple[int, ...]) -> None:
        expected = self._sizes.setdefault(what, shape)
        if shape != expected:
            raise TrainingDataError(f"The {what} of '{name}' has size {shape}, but those before it have {expected}. All must match.")

    def _write(self, path: Path, tensors: dict[str, Tensor], name: str) -> tuple[str, tuple[int, ...]]:
        """Write a file; what ``_look`` then says of it."""
        tensors = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
        contents = safetensors.torch.save(tensors)
        sha256 = hashlib.sha256(contents).hexdigest()
        _replace(path, safetensors.torch.save(tensors, metadata={"sha256": sha256}))
        return sha256, tuple(tensors[name].shape)


def _look(path: Path, name: str) -> tuple[str, tuple[int, ...]] | None:
    """Hash and shape of what a file holds; None if it isn't there or is damaged, so that it is made anew."""
    try:
        with readable_path(path) as readable, safe_open(readable, framework="pt") as tensors:
            return tensors.metadata()["sha256"], tuple(tensors.get_slice(name).get_shape())
    except (OSError, SafetensorError, KeyError, TypeError):
        return None


def _replace(path: Path, contents: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(contents)
        os.replace(part, path)
    except OSError as error:
        raise TrainingDataError(
            f"'{path}' cannot be written ({error.strerror or error}). Free some space or choose another folder, then run "
            "it again: finished clips are kept."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
