"""What can be wrong with what a user gave, each error a sentence a user can act on."""


def one_line(text: object) -> str:
    """Escape whatever no log or terminal can show: line breaks, control characters, bytes of a file name that are no UTF-8."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


class UserError(ValueError):
    """Base of all errors that say to a user what was wrong; always one line, whatever file names and texts it quotes."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class InvalidInput(UserError):
    """What a node was given besides models: a number out of its range, values for another number of frames, no curve."""


class MotionModelError(UserError):
    """Base of all errors about motion models and their files."""


class UnreadableFile(MotionModelError):
    """The file cannot be read as tensors at all: truncated, no checkpoint, or carrying code."""


class UnknownMotionModelFormat(MotionModelError):
    """The file can be read, but it is not a motion model that Loom knows."""


class IncompatibleMotionModel(MotionModelError):
    """The motion model and the base model, or another motion model or LoRA, do not go together."""
