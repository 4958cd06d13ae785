"""The file that ``loom.py train`` is told what to do by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import Field, create_model

from .config_file import File, FileOrLora, Lora, Section, check_name, read_file
from .errors import LoomError


class ModelSection(Section):
    """The base, and the motion model to train on from or the family of a new one."""

    checkpoint: File
    loras: list[FileOrLora] = Field(default_factory=list)
    motion_model: File | None = None
    family: Literal["v1", "v2", "v3"] = "v3"


class DataSection(Section):
    """A folder of clips, or latents that are ready; besides these keys, it has those of ``ClipSettings``."""

    folder: File | None = None
    latents: File | None = None
    flip: bool = True
    default_caption: str = ""


class OutputSection(Section):
    """Where the trained file goes; checkpoints lie beside it."""

    folder: File = Path("output")
    name: str = "motion_model"
    dtype: Literal["fp32", "bf16", "fp16"] = "fp16"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    @property
    def checkpoints(self) -> Path:
        return self.folder / f"{self.name}_checkpoint"

    @property
    def losses(self) -> Path:
        return self.folder / f"{self.name}_losses.csv"


class TrainingConfig(Section):
    """All of the file; ``training`` is the trainer's ``TrainingSettings``."""

    model: ModelSection
    data: Any
    training: Any
    output: OutputSection


def read_config(path: Path, training: type, clips: type) -> TrainingConfig:
    """Read a configuration; paths in it are relative to the file.

    ``training`` and ``clips`` are ``TrainingSettings`` and ``ClipSettings``, whose fields are keys of the file.

    Raises:
        LoomError: it is missing, no TOML, or has unknown keys or wrong values; the message names the key.
    """
    data, settings = _with_fields_of(clips, DataSection), _with_fields_of(training, Section)
    whole = create_model("Whole", __base__=TrainingConfig, data=(data, ...), training=(settings, ...))
    known: dict[str, type[Section]] = {
        "data": data, "training": settings, "model": ModelSection, "loras": Lora, "output": OutputSection,
    }  # fmt: skip
    read = read_file(path, whole, known, {"model.checkpoint": "an SD1.5 or SDXL checkpoint file"})
    if read.data.folder is None and read.data.latents is None:
        raise LoomError(
            f"'{path}': [data] names no clips. Give it folder (of videos), or latents (that were made before)."
        )
    check_name(path, "output.name", read.output.name)
    try:
        return read.model_copy(update={"training": training(**dict(read.training))})
    except ValueError as error:  # out of its range
        raise LoomError(f"'{path}': training.{error}") from error


def _with_fields_of(settings: type, section: type[Section]) -> type[Section]:
    """A section with a dataclass's fields as keys, too, but for hidden ones."""
    kinds = get_type_hints(settings)
    keys: dict[str, Any] = {
        part.name: (kinds[part.name], part.default)
        for part in dataclasses.fields(settings)
        if not part.metadata.get("is_hidden")
    }
    return create_model(settings.__name__, __base__=section, **keys)
