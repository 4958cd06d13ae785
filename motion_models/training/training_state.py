"""A training run's checkpoint: all it takes to go on as if it had not stopped, in one file that is whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointNotSaved, OtherTrainingRun, TrainingError

FILE_NAME = "training_state.pt"
_FORMAT = 1
_GIB = 1024**3

# What PyTorch's reader raises for a damaged file, depending on where it is damaged.
_UNREADABLE = (
    OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError
)  # fmt: skip

Fingerprint = dict[str, Any]
"""What a run depends on, by names for the user: a checkpoint is resumed only if all of it is the same."""


@dataclass
class TrainingState:
    """What changes while a run goes on: steps done and their losses, weights, their running average, state dicts."""

    fingerprint: Fingerprint
    step: int
    losses: list[float]
    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the folder's checkpoint; the one before stays until it is complete, or if it raises CheckpointNotSaved."""
        path = folder / FILE_NAME
        partial = path.with_suffix(".partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save({"format": _FORMAT, **vars(self)}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            if isinstance(error, (OSError, RuntimeError)):  # torch's writer turns a full disk into a RuntimeError
                raise CheckpointNotSaved(_not_saved(path, error, self.step)) from error
            raise

    @classmethod
    def load(cls, folder: Path) -> TrainingState | None:
        """Read a folder's checkpoint, if there is one; TrainingError if it cannot be read or is something else."""
        path = folder / FILE_NAME
        if not path.is_file():
            return None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            raise TrainingError(
                f"The training checkpoint '{path}' cannot be read ({error}). Delete it to train from the start, or choose "
                "another folder."
            ) from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise TrainingError(
                f"'{path}' is not a training checkpoint of this version of AnimateDiff Loom. Choose another folder."
            )
        return cls(**content)

    def check_same_run(self, fingerprint: Fingerprint, folder: Path) -> None:
        """Raise OtherTrainingRun, naming what differs, unless the checkpoint is of the run with this fingerprint."""
        names = [*fingerprint, *(name for name in self.fingerprint if name not in fingerprint)]
        different = [
            f"{name} is {_shown(fingerprint.get(name))}, in the checkpoint {_shown(self.fingerprint.get(name))}"
            for name in names
            if fingerprint.get(name) != self.fingerprint.get(name)
        ]
        if different:
            raise OtherTrainingRun(
                f"'{folder}' holds the checkpoint of another training run, at step {self.step}: {'; '.join(different)}. "
                "Choose another folder, delete that checkpoint to train from the start, or set everything as it was."
            )


def check_disk_space(folder: Path, state_bytes: int) -> None:
    """Raise CheckpointNotSaved if a new checkpoint does not fit beside the one before."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < state_bytes:
        raise CheckpointNotSaved(
            f"The disk of '{folder}' has {free / _GIB:.1f} GB left, but each checkpoint of this training takes "
            f"{state_bytes / _GIB:.1f} GB. Free some space, or choose a folder on another disk."
        )


def hash_of(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Hash names, shapes and a sample of the values of weights, quick enough for any model.

    Values are rounded to bfloat16 first, so a model that is kept in another dtype is still the same one.
    """
    digest = hashlib.sha256()
    for name, tensor in weights:
        values = tensor.detach().flatten()
        values = values[:: max(1, values.numel() // 256)].to("cpu", torch.float32).to(torch.bfloat16)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _not_saved(path: Path, error: BaseException, step: int) -> str:
    kept = "; the previous one is kept" if path.is_file() else ""
    message = f"The training checkpoint of step {step} could not be written to '{path}' ({error}){kept}."
    with contextlib.suppress(OSError):
        message += (
            f" The disk has {shutil.disk_usage(path.parent).free / _GIB:.1f} GB left. Free some space, then run the same "
            "training again: it continues from the last checkpoint."
        )
    return message


def _shown(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
