"""What can be wrong with what a user gave, each error a sentence a user can act on."""

from __future__ import annotations

from collections.abc import Iterable


def one_line(text: object) -> str:
    """Escape what no log or terminal can show: line breaks, control characters, bytes of a name that are no UTF-8."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


def shorten(text: object, most: int = 80) -> str:
    """Make text one line of at most so many characters, without its middle where it is longer."""
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - most // 2 + 1 :]}"


def quote(names: Iterable[object]) -> str:
    """Quote the first names, three or as many as a short message can hold, and count the others."""
    names = list(names)
    quoted = [f"'{shorten(name, 130)}'" for name in names[:3]]
    shown = next(count for count in (3, 2, 1) if count == 1 or sum(map(len, quoted[:count])) < 160)
    return ", ".join(quoted[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")


class UserError(ValueError):
    """Base of all errors that say to a user what was wrong; always one line, whatever names and texts it quotes."""

    def __init_subclass__(cls) -> None:
        cls.__module__ = "animatediff_loom"  # shown in ComfyUI's dialog; the real one holds the server's folders

    def __str__(self) -> str:
        return one_line(super().__str__())


class InvalidInput(UserError):
    """What a node was given besides models: a number out of its range, values for another number of frames."""


class MotionModelError(UserError):
    """Base of all errors about motion models and their files."""


class UnreadableFile(MotionModelError):
    """The file cannot be read as tensors at all: truncated, no checkpoint, or carrying code."""


class UnknownMotionModelFormat(MotionModelError):
    """The file can be read, but it is not a motion model that Loom knows."""


class IncompatibleMotionModel(MotionModelError):
    """The motion model and the base model, or another motion model or LoRA, do not go together."""
