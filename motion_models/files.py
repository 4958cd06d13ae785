"""Looking at a weights file before a byte of it is trusted."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import UnreadableFile, shorten

SAFETENSORS = frozenset({".safetensors", ".sft"})

_MAX_HEADER_BYTES = 10_000_000  # ten times as much is allowed, but takes minutes; 100,000 tensors need no more


@contextmanager
def readable_path(path: str | Path) -> Iterator[str]:
    """A path that safetensors can open. It refuses one that is not UTF-8, so then this is a link to the file."""
    path = os.path.abspath(path)
    if path.encode("utf-8", "replace") == os.fsencode(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = os.path.join(folder, f"link{Path(path).suffix}")
        os.symlink(path, link)
        yield link


def check_weights_file(path: str | Path) -> None:
    """Raise ``UnreadableFile`` unless first bytes, size and table of contents are those of a whole file of tensors.

    A pickle's contents are not looked at: only a loader that refuses code (``weights_only``) may open it.
    """
    path = Path(path)
    name = f"'{shorten(path.name)}'"
    if not path.is_file():
        raise UnreadableFile(f"{name} does not exist. Press R in the editor to refresh the list, and choose again.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
        text = start.lstrip().lower()
        if size == 0:
            raise UnreadableFile(f"{name} is empty. Download it again.")
        if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
            raise UnreadableFile(
                f"{name} is a web page, not a weights file: the download saved the site's page instead of the "
                "file. Download it again with the site's own download button."
            )
        if text.startswith(b"version https://git-lfs"):
            raise UnreadableFile(
                f"{name} is a Git LFS pointer of {size} bytes, not the weights. Download the file itself."
            )
        looks_safe = len(start) > 8 and start[8:9] == b"{"
        if path.suffix.lower() in SAFETENSORS:
            if not looks_safe:
                raise UnreadableFile(
                    f"{name} is not a safetensors file, despite its name. Download it again; "
                    "if it is a renamed .ckpt or .pth file, restore its original extension."
                )
            file.seek(0)
            _check_safetensors(name, file, size)
        elif looks_safe and start[:1] != b"\x80" and start[:2] != b"PK":
            raise UnreadableFile(f"{name} contains safetensors data. Rename it so that it ends in .safetensors.")
        elif start[:2] == b"PK":
            _check_zip(name, file, size)


def _check_safetensors(name: str, file: BinaryIO, size: int) -> None:
    (header_bytes,) = struct.unpack("<Q", file.read(8))
    if header_bytes > _MAX_HEADER_BYTES:
        raise UnreadableFile(
            f"{name} has a header of {header_bytes:,} bytes, of which Loom reads up to {_MAX_HEADER_BYTES:,}: it is "
            "damaged, or holds far more tensors than a model has."
        )
    if 8 + header_bytes > size:
        raise UnreadableFile(_cut_short(name, size, 8 + header_bytes))
    try:
        header = json.loads(file.read(header_bytes))
        ends = (int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__")
        expected = 8 + header_bytes + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        why = shorten(error)
        raise UnreadableFile(f"{name} has a damaged safetensors header ({why}). Download it again.") from error
    if size < expected:
        raise UnreadableFile(_cut_short(name, size, expected))


def _check_zip(name: str, file: BinaryIO, size: int) -> None:
    # A zip's directory stands at its end (within 64 KiB of comment), so a cut one has none.
    file.seek(max(0, size - 65_557))
    end = file.read()
    place = end.rfind(b"PK\x05\x06")
    if place < 0 or len(end) < place + 16:
        raise UnreadableFile(
            f"{name} is cut short: its {size:,} bytes end in the middle of the data. Download it again."
        )
    (directory_bytes,) = struct.unpack_from("<I", end, place + 12)
    # Readers unpack whatever the directory promises; what PyTorch saves is not compressed, so no more than the file.
    if directory_bytes > _MAX_HEADER_BYTES or sum(one.file_size for one in zipfile.ZipFile(file).infolist()) > size:
        raise UnreadableFile(f"{name} is a compressed archive, not a checkpoint. Download it again.")


def _cut_short(name: str, size: int, expected: int) -> str:
    least = f"at least {expected:,}" if expected < 2**63 else "more than any disk holds"
    return f"{name} is cut short: it has {size:,} bytes of {least}. Download it again."
