"""Paths as users write them, and their home folder, which not every user has."""

from __future__ import annotations

from pathlib import Path

from .errors import LoomError


def home() -> Path | None:
    """The home folder; None without one, as in a container that runs under an arbitrary user id."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def with_home(path: str | Path) -> Path:
    """Expand ``~``; raise LoomError if it is the home folder of nobody."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise LoomError(f"'{path}' begins with a home folder that can't be found; write out the whole path.") from error


def absolute(path: str | Path) -> Path:
    """Expand ``~`` and make the path absolute.

    Raises:
        LoomError: It begins with the home folder of nobody, or is relative to a folder that was deleted.
    """
    try:
        return with_home(path).absolute()
    except FileNotFoundError as error:
        raise LoomError("The current folder does not exist any more; change to another one.") from error
