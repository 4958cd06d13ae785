"""What can be wrong with a motion model, each error a sentence a user can act on."""


class MotionModelError(ValueError):
    """Base of all errors about motion models and their files."""


class UnreadableFile(MotionModelError):
    """The file cannot be read as tensors at all: truncated, no checkpoint, or carrying code."""


class UnknownMotionModelFormat(MotionModelError):
    """The file can be read, but it is not a motion model that Loom knows."""


class IncompatibleMotionModel(MotionModelError):
    """The motion model and the base model, or the number of frames, do not go together."""
