"""Loom's folder in the user's cache: where it is, who may write to it, what in it is damaged or half made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from .errors import LoomError, os_error_text
from .paths import absolute, home

NAME = "animatediff-loom"
GIB = 1024**3
_PARTIAL = ".partial-"
_SIZES = ".sizes.json"  # what create_atomically knows its files by later
_ABANDONED_SECONDS = 60  # a small file is written in less
# Windows locks bytes, and locked bytes can't be read: so lock one far beyond the text.
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
    folder = absolute(named) if (named := os.environ.get("LOOM_CACHE")) else _platform_caches() / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LoomError(
            f"Can't create the cache folder '{folder}' ({error.strerror}). Set LOOM_CACHE to another folder."
        ) from error
    return folder


def _platform_caches() -> Path:
    if sys.platform == "win32":
        named, below_home = os.environ.get("LOCALAPPDATA"), "AppData/Local"
    elif sys.platform == "darwin":
        named, below_home = None, "Library/Caches"
    else:
        named, below_home = os.environ.get("XDG_CACHE_HOME"), ".cache"
    if named:
        return Path(named)
    if (folder := home()) is None:
        raise LoomError("There is no home folder to keep a cache in. Set LOOM_CACHE to a writable folder.")
    return folder / below_home


def require_disk_space(folder: Path, gibibytes: float, purpose: str) -> None:
    """Fail before the work rather than in the middle of it.

    Raises:
        LoomError: The disk of ``folder`` has less space left.
    """
    free = shutil.disk_usage(folder).free / GIB
    if free < gibibytes:
        raise LoomError(
            f"{purpose} needs about {gibibytes:.1f} GB of free disk space, but the disk of "
            f"'{folder}' has {free:.1f} GB. Free some space, or set LOOM_CACHE to a folder on another disk."
        )


def ensure_complete(target: Path, damage: Callable[[], str], make: Callable[[], None]) -> None:
    """Make what is missing from the cache or damaged there; one process at a time.

    Args:
        target: A folder.
        damage: Says what is wrong with it where it exists; empty if it is whole.
        make: Replaces whatever is in its place.
    """
    if target.exists() and not damage():
        return
    with lock(target):
        if target.exists():
            if not (found := damage()):
                return  # another process has made it meanwhile
            print(f"'{target}' is damaged ({found}); making it again.", flush=True)
        make()


def missing_or_changed(folder: Path) -> str:
    """The first file of a folder from ``create_atomically`` that is not as it was made, by its size; empty if there is none."""
    try:
        sizes = json.loads((folder / _SIZES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""  # an earlier Loom made it
    except (OSError, ValueError):
        sizes = None
    if not isinstance(sizes, dict):
        return f"'{_SIZES}' is damaged"
    for name, size in sizes.items():
        try:
            if (folder / name).stat().st_size != size:
                return f"'{name}' has another size"
        except OSError:
            return f"'{name}' is missing"
    return ""


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Let one process at a time make ``target``; the others wait for it.

    The operating system holds the lock and drops it when its holder ends, however it ends, so a
    lock file that was left behind doesn't keep anybody waiting. The pid in it is for the message.
    """
    path = _lock_path(target)
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        remedy = "Remove that folder" if path.is_dir() else "Set LOOM_CACHE to a writable folder"
        raise LoomError(f"Can't create '{target.name}' in the cache ({os_error_text(error)}). {remedy}.") from error
    with file:
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


def _lock_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.lock")


def remove_unless_locked(path: Path, target: Path) -> None:
    """Remove what a killed process left of ``target``, if that is possible and nobody is making it now."""
    with contextlib.suppress(OSError), _lock_path(target).open("r+", encoding="utf-8") as file:
        if _try_lock(file):
            remove(path)


def remove_leftovers() -> None:
    """Remove what killed processes left half made, which may be gigabytes."""
    folder = cache_folder()
    for path in folder.glob(f"*{_PARTIAL}*"):
        if path.is_dir():
            remove_unless_locked(path, folder / path.name.split(_PARTIAL)[0])
            continue
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                path.unlink()


def remove(path: Path) -> None:
    """Remove a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def create_atomically(target: Path) -> Iterator[Path]:
    """Make a folder under another name and rename it when it is complete.

    Yields:
        The empty folder to fill. On any exception, Ctrl-C included, it is removed again. What a
        killed process left behind is removed first; so call this only under ``lock(target)``.

    Raises:
        LoomError: It can't be written.
    """
    for left_behind in target.parent.glob(f"{target.name}{_PARTIAL}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    partial = target.with_name(f"{target.name}{_PARTIAL}{os.getpid()}")
    try:
        partial.mkdir()
        yield partial
        (partial / _SIZES).write_text(json.dumps(_sizes(partial), indent=1), encoding="utf-8")
        remove(target)
        partial.rename(target)
    except OSError as error:
        message = f"Can't create '{target}' ({os_error_text(error)}). Set LOOM_CACHE to another folder."
        raise LoomError(message) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sizes(folder: Path) -> dict[str, int]:
    """Of all files but git's own, which git may change."""
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name.as_posix(): path.stat().st_size for name, path in files.items() if name.parts[0] != ".git"}


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder for what making ``target`` takes; like ``create_atomically`` it leaves nothing behind."""
    prefix = f"{target.name}{_PARTIAL}work-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        yield Path(folder)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new one, never half of it."""
    partial = path.with_name(f"{path.name}{_PARTIAL}{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
