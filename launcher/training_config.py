"""The file that ``loom.py train`` is told what to do by: sections and keys, each checked and named in errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import LoomError
from .paths import with_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Lora:
    """A LoRA of the base: a file, and how strong."""

    file: Path
    strength: float = 1.0


@dataclass(frozen=True)
class ModelSection:
    """The base, and the motion model to train on from or the family of a new one."""

    checkpoint: Path
    loras: list[Lora] = field(default_factory=list)
    motion_model: Path | None = None
    family: str = "v3"


@dataclass(frozen=True)
class DataSection:
    """A folder of clips, or latents that are ready."""

    folder: Path | None = None
    latents: Path | None = None
    width: int = 256
    height: int = 256
    frames: int = 16
    stride: int = 4
    flip: bool = True
    default_caption: str = ""


@dataclass(frozen=True)
class OutputSection:
    """Where the trained file goes; checkpoints lie beside it."""

    folder: Path = Path("output")
    name: str = "motion_model"
    dtype: str = "fp16"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    @property
    def checkpoints(self) -> Path:
        return self.folder / f"{self.name}_checkpoint"

    @property
    def losses(self) -> Path:
        return self.folder / f"{self.name}_losses.csv"


@dataclass(frozen=True)
class TrainingConfig:
    """All of the file; ``training`` is the trainer's ``TrainingSettings``."""

    model: ModelSection
    data: DataSection
    training: Any
    output: OutputSection


_CHOICES = {"family": ("v1", "v2", "v3"), "dtype": ("fp32", "bf16", "fp16")}
_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text in quotes",
    "Path": "a path in quotes",
    "Path | None": "a path in quotes",
}


def read_config(path: Path, settings: type) -> TrainingConfig:
    """Read a configuration; paths in it are relative to the file. ``settings`` is the trainer's ``TrainingSettings``.

    Raises:
        LoomError: it is missing, no TOML, or has unknown keys or wrong values; the message names the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoomError(f"There is no configuration '{path}'.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LoomError(f"'{path}' is no valid TOML: {error}.") from error
    kinds = {"model": ModelSection, "data": DataSection, "training": settings, "output": OutputSection}
    _check_names(path, "", content, list(kinds))
    sections = {
        name: _read_section(path, name, kind, content.get(name, {})) for name, kind in kinds.items()
    }
    config = TrainingConfig(**sections)
    if config.data.folder is None and config.data.latents is None:
        raise LoomError(
            f"'{path}': [data] names no clips. Give it folder (of videos), or latents (that were made before)."
        )
    if Path(config.output.name).name != config.output.name:
        raise LoomError(
            f"'{path}': output.name is '{config.output.name}'. Expected a name without folders."
        )
    return config


def _read_section(path: Path, section: str, kind: type, content: Any) -> Any:
    if not isinstance(content, dict):
        raise LoomError(f"'{path}': '{section}' is no section. Expected a line [{section}].")
    # What has a text of help to it is for the user to set.
    kinds = {item.name: str(item.type) for item in fields(kind) if item.metadata.get("help", True)}
    _check_names(path, f"{section}.", content, list(kinds))
    values = {
        name: _read_value(path, f"{section}.{name}", kinds[name], value)
        for name, value in content.items()
    }
    if kind is ModelSection and "checkpoint" not in values:
        raise LoomError(f"'{path}': model.checkpoint is missing. Expected an SD1.5 or SDXL checkpoint file.")
    if kind is OutputSection and "folder" not in values:
        values["folder"] = path.absolute().parent / OutputSection.folder
    try:
        return kind(**values)
    except ValueError as error:  # a setting of the training out of its range
        raise LoomError(f"'{path}': {section}.{error}") from error


def _check_names(path: Path, prefix: str, content: dict[str, Any], allowed: list[str]) -> None:
    unknown = [f"'{prefix}{name}'" for name in content if name not in allowed]
    if unknown:
        raise LoomError(f"'{path}': {', '.join(unknown)} is unknown. Known are: {', '.join(allowed)}.")


def _read_value(path: Path, name: str, kind: str, value: Any) -> Any:
    """Check a value against the type of its field, and resolve paths."""
    key = name.rpartition(".")[2]
    if kind == "list[Lora]":
        return _read_loras(path, name, value)
    if kind == "float" and type(value) is int:
        value = float(value)
    wanted = "str" if kind.startswith("Path") else kind
    if type(value).__name__ != wanted:
        raise LoomError(f"'{path}': {name} is {value!r}. Expected {_TYPE_NAMES[kind]}.")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise LoomError(f"'{path}': {name} is '{value}'. Expected one of: {', '.join(_CHOICES[key])}.")
    if not kind.startswith("Path"):
        return value
    try:
        return path.absolute().parent / with_home(value)
    except LoomError as error:
        raise LoomError(f"'{path}': {name}: {error}") from error


def _read_loras(path: Path, name: str, value: Any) -> list[Lora]:
    if not isinstance(value, list):
        raise LoomError(f"'{path}': {name} is {value!r}. Expected a list of files.")
    loras = []
    for place, entry in enumerate(value):
        place_name = f"{name}[{place}]"
        if not isinstance(entry, dict):
            entry = {"file": entry}
        _check_names(path, f"{place_name}.", entry, ["file", "strength"])
        file = _read_value(path, f"{place_name}.file", "Path", entry.get("file"))
        strength = _read_value(path, f"{place_name}.strength", "float", entry.get("strength", 1.0))
        loras.append(Lora(file, strength))
    return loras
