"""Looking at a weights file before a byte of it is trusted."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from .errors import UnreadableFile

SAFETENSORS = frozenset({".safetensors", ".sft"})
PICKLES = frozenset({".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl"})

# Format limit of the reference implementation: a larger header is refused by every reader.
_MAX_HEADER_BYTES = 100_000_000


def check_weights_file(path: str | Path) -> None:
    """Check that a file can hold tensors and is whole, by its first bytes and its size.

    A pickle's contents are not looked at: only a loader that refuses code (``weights_only``) may open it.

    Raises:
        UnreadableFile: the file is missing, empty, a web page, cut short, or not what its ending says.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile(f"'{path.name}' does not exist. Refresh the node list and choose a file that is there.")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
        _refuse_non_weights(path, start, size)
        looks_safe = len(start) > 8 and start[8:9] == b"{"
        if path.suffix.lower() in SAFETENSORS:
            if not looks_safe:
                raise UnreadableFile(
                    f"'{path.name}' is not a safetensors file, whatever its name says. Download it again; "
                    "if it is a .ckpt or .pth file that was renamed, give it its own ending back."
                )
            file.seek(0)
            _check_safetensors_size(path, file, size)
        elif looks_safe and start[:1] != b"\x80" and start[:2] != b"PK":
            raise UnreadableFile(f"'{path.name}' holds safetensors data. Rename it so that it ends in .safetensors.")
        elif start[:2] == b"PK":
            _check_zip_end(path, file, size)


def _refuse_non_weights(path: Path, start: bytes, size: int) -> None:
    if size == 0:
        raise UnreadableFile(f"'{path.name}' is empty. Download it again.")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UnreadableFile(
            f"'{path.name}' is a web page, not a weights file: the download saved the site's page instead of the "
            "file. Download it again with the site's own download button."
        )
    if text.startswith(b"version https://git-lfs"):
        raise UnreadableFile(
            f"'{path.name}' is a Git LFS pointer of {size} bytes, not the weights. Download the file itself."
        )


def _check_safetensors_size(path: Path, file, size: int) -> None:
    (header_bytes,) = struct.unpack("<Q", file.read(8))
    if header_bytes > _MAX_HEADER_BYTES:
        raise UnreadableFile(f"'{path.name}' has a safetensors header of {header_bytes} bytes: it is damaged.")
    if 8 + header_bytes > size:
        raise UnreadableFile(_cut_short(path, size, 8 + header_bytes))
    try:
        header = json.loads(file.read(header_bytes))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UnreadableFile(f"'{path.name}' has a damaged safetensors header ({error}). Download it again.") from error
    expected = 8 + header_bytes + max(ends, default=0)
    if size < expected:
        raise UnreadableFile(_cut_short(path, size, expected))


def _check_zip_end(path: Path, file, size: int) -> None:
    # A zip's directory stands at its end (within 64 KiB of comment), so a cut one has none.
    file.seek(max(0, size - 65_557))
    if b"PK\x05\x06" not in file.read():
        raise UnreadableFile(
            f"'{path.name}' is cut short: its {size:,} bytes end in the middle of the data. Download it again."
        )


def _cut_short(path: Path, size: int, expected: int) -> str:
    return f"'{path.name}' is cut short: it has {size:,} bytes of at least {expected:,}. Download it again."
