"""The file that ``loom.py train`` is told what to do by: sections and keys, each checked and named in errors."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, BeforeValidator, ValidationError, ValidationInfo, create_model
from pydantic_core import PydanticCustomError

from .errors import LoomError
from .paths import with_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _resolve(value: Any, info: ValidationInfo) -> Path:
    """A path, which is relative to the folder of the file that names it."""
    if not isinstance(value, (str, Path)):
        raise PydanticCustomError("path", "")
    folder: Any = info.context
    try:
        return folder / with_home(value)
    except LoomError as error:
        raise ValueError(str(error)) from error


File = Annotated[Path, BeforeValidator(_resolve)]


class _Section(BaseModel, strict=True, extra="forbid", validate_default=True):
    """A section of the file: other keys and other kinds of values are errors."""


class Lora(_Section):
    """A LoRA of the base: a file, and how strong."""

    file: File
    strength: float = 1.0


FileOrLora = Annotated[Lora, BeforeValidator(lambda value: value if isinstance(value, dict) else {"file": value})]


class ModelSection(_Section):
    """The base, and the motion model to train on from or the family of a new one."""

    checkpoint: File
    loras: list[FileOrLora] = []
    motion_model: File | None = None
    family: Literal["v1", "v2", "v3"] = "v3"


class DataSection(_Section):
    """A folder of clips, or latents that are ready; besides these keys, it has those of ``ClipSettings``."""

    folder: File | None = None
    latents: File | None = None
    flip: bool = True
    default_caption: str = ""


class OutputSection(_Section):
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


class TrainingConfig(_Section):
    """All of the file; ``training`` is the trainer's ``TrainingSettings``."""

    model: ModelSection
    data: Any
    training: Any
    output: OutputSection


_EXPECTED = {
    "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "a text in quotes",
    "path": "a path in quotes", "list_type": "a list of files",
}  # fmt: skip


def read_config(path: Path, training: type, clips: type) -> TrainingConfig:
    """Read a configuration; paths in it are relative to the file.

    ``training`` and ``clips`` are ``TrainingSettings`` and ``ClipSettings``, whose fields are keys of the file.

    Raises:
        LoomError: it is missing, no TOML, or has unknown keys or wrong values; the message names the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoomError(f"There is no configuration '{path}'.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LoomError(f"'{path}' is no valid TOML: {error}.") from error
    data, settings = _with_fields_of(clips, DataSection), _with_fields_of(training, _Section)
    whole = create_model("Whole", __base__=TrainingConfig, data=(data, ...), training=(settings, ...))
    try:
        read = whole.model_validate({name: {} for name in whole.model_fields} | content, context=path.absolute().parent)
    except ValidationError as error:
        raise LoomError(f"'{path}': {_in_words(error, {'data': data, 'training': settings})}") from error
    if read.data.folder is None and read.data.latents is None:
        raise LoomError(
            f"'{path}': [data] names no clips. Give it folder (of videos), or latents (that were made before)."
        )
    if Path(read.output.name).name != read.output.name:
        raise LoomError(f"'{path}': output.name is '{read.output.name}'. Expected a name without folders.")
    try:
        return read.model_copy(update={"training": training(**dict(read.training))})
    except ValueError as error:  # out of its range
        raise LoomError(f"'{path}': training.{error}") from error


def _with_fields_of(settings: type, section: type[_Section]) -> type[_Section]:
    """A section with a dataclass's fields as keys, too, but for hidden ones."""
    kinds = get_type_hints(settings)
    keys: dict[str, Any] = {
        part.name: (kinds[part.name], part.default)
        for part in dataclasses.fields(settings)
        if not part.metadata.get("is_hidden")
    }
    return create_model(settings.__name__, __base__=section, **keys)


def _in_words(errors: ValidationError, sections: dict[str, type[_Section]]) -> str:
    """What is wrong first, in a sentence that names the key."""
    sections |= {"": TrainingConfig, "model": ModelSection, "loras": Lora, "output": OutputSection}
    error = errors.errors()[0]
    kind, place = error["type"], error["loc"]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    if kind == "extra_forbidden":
        known = sections[next((part for part in place[-2::-1] if isinstance(part, str)), "")].model_fields
        return f"'{name}' is unknown. Known are: {', '.join(known)}."
    if kind == "missing":
        return f"{name} is missing. Expected {'a LoRA' if 'loras' in place else 'an SD1.5 or SDXL checkpoint'} file."
    if kind == "model_type":
        return f"'{name}' is no section. Expected a line [{name}]."
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    choices = error.get("ctx", {}).get("expected", "").replace("'", "")
    return f"{name} is {error['input']!r}. Expected {f'one of: {choices}' if choices else _EXPECTED[kind]}."
