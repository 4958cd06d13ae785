"""Workflows out of files: JSON, and the pictures and videos that ComfyUI and its packs write them into."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .forms import UnknownWorkflow, is_editor_graph, is_prompt

_MOST_BYTES = 512 * 2**20
_MOST_TEXT = 64 * 2**20
"""Of one compressed text in a PNG, once unpacked."""

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""Of NaN, which ComfyUI writes into prompts and which no other reader of JSON takes, it makes null."""


def workflow_in(path: Path) -> Any:
    """Read the workflow in a file; see ``workflow_of``.

    Raises:
        UnknownWorkflow: it holds none, or cannot be read; the message names the file.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UnknownWorkflow(f"'{path.name}' has over {_MOST_BYTES >> 20} MiB: too much for a file with a workflow.")
        data = path.read_bytes()
    except OSError as error:
        raise UnknownWorkflow(f"'{path.name}' cannot be read ({error.strerror}).") from error
    return workflow_of(data, f"'{path.name}'")


def workflow_of(data: bytes, name: str) -> Any:
    """Read the workflow of a .json file, or the one in the metadata of a PNG, WEBP, MP4 or other file.

    The editor's form is preferred to the API's, where a file holds both.

    Args:
        data: the file.
        name: of it, for messages.

    Raises:
        UnknownWorkflow: it holds none.
    """
    found = [value for text in _texts(data) for value in _workflows(text)]
    found.sort(key=is_prompt)
    if not found:
        raise UnknownWorkflow(f"{name} holds no workflow of ComfyUI's.")
    return found[0]


def _texts(data: bytes) -> Iterator[str]:
    """The texts of a file in which a workflow may stand."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        yield from _png_texts(data)
    else:
        yield data.decode("utf-8", "replace")


def _png_texts(data: bytes) -> Iterator[str]:
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"tEXt":
            yield chunk.partition(b"\0")[2].decode("latin-1")
        elif kind == b"zTXt":
            yield _unpacked(chunk.partition(b"\0")[2][1:]).decode("latin-1")
        elif kind == b"iTXt":
            _, _, rest = chunk.partition(b"\0")
            text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
            yield (_unpacked(text) if rest[:1] == b"\1" else text).decode("utf-8", "replace")


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MOST_TEXT)
    except zlib.error:
        return b""


def _workflows(text: str) -> Iterator[Any]:
    """The workflows in a text: the text itself, one wrapped in another object or string, or ones between other bytes."""
    try:
        yield from _unwrapped(_DECODER.decode(text), 4)
        return
    except (ValueError, RecursionError):
        pass
    place = text.find("{")
    tries = 0
    while place >= 0 and tries < 1000:
        tries += 1
        try:
            value, place = _DECODER.raw_decode(text, place)
            yield from _unwrapped(value, 4)
        except (ValueError, RecursionError):
            place += 1
        place = text.find('{"', place)


def _unwrapped(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, str) and value.lstrip().startswith("{") and depth:
        try:
            value = _DECODER.decode(value)
        except (ValueError, RecursionError):
            return
    if is_editor_graph(value) or is_prompt(value):
        yield value
    elif isinstance(value, dict) and depth:
        for inner in value.values():
            if isinstance(inner, (dict, str)):
                yield from _unwrapped(inner, depth - 1)
