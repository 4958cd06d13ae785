"""What can go wrong in training, each error a sentence a user can act on."""

from ..errors import UserError


class TrainingError(UserError):
    """Base of all errors about training."""


class InvalidSettings(TrainingError):
    """A setting is out of its range, or settings contradict each other."""


class OtherTrainingRun(TrainingError):
    """The checkpoint in the folder is another run's: of other settings, another model or other clips."""


class TrainingDiverged(TrainingError):
    """The loss or its gradient is no finite number any more."""


class CheckpointNotSaved(TrainingError):
    """A checkpoint could not be written, for example to a full disk."""


class TrainingDataError(TrainingError):
    """The clips to train on cannot be used, or their latents cannot be kept."""


class ClipSkipped(TrainingDataError):
    """One clip cannot be used; the others can."""
