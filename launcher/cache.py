"""Loom's folder in the user's cache: where it is, who may write to it, what is half made."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import LoomError

NAME = "animatediff-loom"
GIB = 1024**3
_PARTIAL = ".partial-"
# Windows locks bytes, and locked bytes can't be read: so lock one far behind the text.
_LOCK_POSITION = 1 << 30

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        file.seek(_LOCK_POSITION)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def cache_folder() -> Path:
    """``LOOM_CACHE``, or Loom's folder where the platform keeps caches; made if missing."""
    if named := os.environ.get("LOOM_CACHE"):
        folder = Path(named).expanduser().absolute()
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / NAME
    elif sys.platform == "darwin":
        folder = Path.home() / "Library/Caches" / NAME
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoomError(
            f"The cache folder '{folder}' can't be made ({error.strerror}); "
            "set LOOM_CACHE to a folder that can."
        ) from error
    return folder


def require_disk_space(folder: Path, gibibytes: float, purpose: str) -> None:
    """Say so before the work rather than in the middle of it.

    Raises:
        LoomError: The disk of ``folder`` has less space left.
    """
    free = shutil.disk_usage(folder).free / GIB
    if free < gibibytes:
        raise LoomError(
            f"{purpose} needs about {gibibytes:.0f} GB of free disk space, but the disk of "
            f"'{folder}' has {free:.1f} GB; free some or set LOOM_CACHE to another disk."
        )


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Let one process at a time make ``target``; the others wait for it.

    The operating system holds the lock and drops it when its holder ends, however it ends, so a
    lock file that was left behind doesn't keep anybody waiting. The pid in it is for the message.
    """
    path = target.with_name(f"{target.name}.lock")
    with path.open("a+", encoding="utf-8") as file:
        if not _try_lock(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            print(f"Waiting for another set-up (process {holder}) ...", flush=True)
            while not _try_lock(file):
                time.sleep(0.2)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """Make a folder under another name and rename it when it is complete.

    Yields:
        The empty folder to fill. On any exception, Ctrl-C included, it is removed again. What a
        killed process left behind is removed first; so call this only under ``lock(target)``.
    """
    for left_behind in target.parent.glob(f"{target.name}{_PARTIAL}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    partial = target.with_name(f"{target.name}{_PARTIAL}{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder for what making ``target`` takes; like ``made_whole`` it leaves nothing behind."""
    prefix = f"{target.name}{_PARTIAL}work-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        yield Path(folder)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new one, never half of it."""
    partial = path.with_name(f"{path.name}{_PARTIAL}{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
