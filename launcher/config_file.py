"""TOML files that a program is told what to do by: sections and keys, each checked and named in errors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError, ValidationInfo
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
    folder: Any = info.context or Path()
    try:
        return folder / with_home(value)
    except LoomError as error:
        raise ValueError(str(error)) from error


File = Annotated[Path, BeforeValidator(_resolve)]


def between(least: float, most: float) -> AfterValidator:
    """Hold a number to a range, both ends included."""

    def check(value: float) -> float:
        if not least <= value <= most:  # NaN is in no range
            raise PydanticCustomError("range", "", {"range": f"{least} to {most}"})
        return value

    return AfterValidator(check)


class Section(BaseModel, strict=True, extra="forbid", validate_default=True):
    """A section of a file: other keys and other kinds of values are errors."""


class Lora(Section):
    """A LoRA of the base: a file, and how strong."""

    file: File
    strength: float = 1.0


FileOrLora = Annotated[Lora, BeforeValidator(lambda value: value if isinstance(value, dict) else {"file": value})]

_EXPECTED = {
    "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "a text in quotes",
    "path": "a path in quotes", "list_type": "a list of files",
}  # fmt: skip


def read_file(path: Path, whole: type[Section], known: Mapping[str, type[Section]], missing: Mapping[str, str]) -> Any:
    """Read a file as a ``whole``; paths in it are relative to it, and sections that it leaves out have their defaults.

    ``known`` are the models of sections and lists, by name, for keys that do not exist; ``missing`` says what is
    expected of required keys, by their whole names.

    Raises:
        LoomError: it is missing, no TOML, or has unknown keys or wrong values; the message names the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LoomError(f"There is no configuration '{path}'.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LoomError(f"'{path}' is no valid TOML: {error}.") from error
    empty: dict[str, Any] = {name: {} for name, field in whole.model_fields.items() if field.is_required()}
    try:
        return whole.model_validate(empty | content, context=path.absolute().parent)
    except ValidationError as error:
        raise LoomError(f"'{path}': {_in_words(error, {'': whole, **known}, missing)}") from error


def check_name(path: Path, key: str, name: str) -> None:
    """Refuse a name of a file that leads elsewhere."""
    if Path(name).name != name:
        raise LoomError(f"'{path}': {key} is '{name}'. Expected a name without folders.")


def _in_words(errors: ValidationError, sections: Mapping[str, type[Section]], missing: Mapping[str, str]) -> str:
    """What is wrong first, in a sentence that names the key."""
    error = errors.errors()[0]
    kind, place = error["type"], error["loc"]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    if kind == "extra_forbidden":
        known = sections[next((part for part in place[-2::-1] if isinstance(part, str)), "")].model_fields
        return f"'{name}' is unknown. Known are: {', '.join(known)}."
    if kind == "missing":
        return f"{name} is missing. Expected {'a LoRA file' if 'loras' in place else missing[name]}."
    if kind == "model_type":
        return f"'{name}' is no section. Expected a line [{name}]."
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    context = error.get("ctx", {})
    choices = context.get("expected", "").replace("'", "")
    expected = context.get("range") or (f"one of: {choices}" if choices else _EXPECTED[kind])
    return f"{name} is {error['input']!r}. Expected {expected}."
