"""The base of Loom's nodes: it gives them their texts, and holds every input to its schema."""

from __future__ import annotations

import functools
import inspect
import json
import math
import operator
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .host.types import InvalidInput

_NUMBERS = (io.Int.Input, io.Float.Input)
_SOCKETS = {  # what is used of each kind of value: other packs' classes need not be ComfyUI's
    "MODEL": "model_options", "LOOM_MOTION_MODEL": "model_options", "CLIP": "tokenize", "VAE": "decode",
    "IMAGE": "ndim", "LATENT": "is_nested", "CONDITIONING": "append", "LOOM_BLOCK_VALUES": "at", "LOOM_TRAINING_CLIPS": "sample",
    "LOOM_CAMERA_CONTROL": "model_options", "LOOM_CAMERA_PATH": "and_then", "CONTROL_NET": "set_cond_hint",
}  # fmt: skip
_ALIASES = ["animatediff", "animate diff"]


@functools.cache
def _texts() -> dict[str, dict[str, Any]]:
    """What nodes, inputs and outputs are called and what is said of them, as the editor takes it for its languages."""
    return json.loads((Path(__file__).parents[1] / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))


class LoomNode(io.ComfyNode):
    """A node with its texts from ``locales/en/nodeDefs.json``, whose inputs are what its schema says, wherever they come from.

    ComfyUI checks constants only: what comes over a link reaches ``execute`` as it is, NaN passes for any number, and an input
    that ``validate_inputs`` names loses its range. So both methods check the schema first, and ``validate_inputs`` runs only
    when everything it names is known. A ``ValueError`` there is its answer.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        checks = {"define_schema": _with_texts, "execute": _checked_execute, "validate_inputs": _checked_validation}
        for name, checked in checks.items():
            method = cls.__dict__.get(name)
            if method is not None and not hasattr(method.__func__, "__wrapped__"):  # ComfyUI makes copies of a node's class
                setattr(cls, name, classmethod(checked(method.__func__)))


def _with_texts(define_schema: Callable) -> Callable:
    @functools.wraps(define_schema)
    def complete(cls) -> io.Schema:
        schema = define_schema(cls)
        texts = _texts()[schema.node_id]
        schema.display_name, schema.description = texts["display_name"], texts["description"]
        schema.search_aliases = [*_ALIASES, *schema.search_aliases]
        for part in schema.inputs:
            part.tooltip = texts["inputs"][part.id]["tooltip"]
        for number, part in enumerate(schema.outputs):
            part.display_name, part.tooltip = (texts["outputs"][str(number)][word] for word in ("name", "tooltip"))
        return schema

    return complete


@functools.cache
def _inputs(define_schema: Callable) -> dict[str, io.Input]:
    """A node's inputs, read once: its lists of files, which would have changed since, are not checked here."""
    return {part.id: part for part in define_schema(LoomNode).inputs}


def _checked_execute(execute: Callable) -> Callable:
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def checked(cls, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(cls, *args, **kwargs)
        for name, part in _inputs(cls.define_schema.__func__).items():
            if name in given.arguments:
                given.arguments[name] = _as_schema_says(part, given.arguments[name])
        return execute(*given.args, **given.kwargs)

    return checked


def _checked_validation(validate: Callable) -> Callable:
    signature = inspect.signature(validate)

    @functools.wraps(validate)
    def checked(cls, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(cls, *args, **kwargs)
        inputs = _inputs(cls.define_schema.__func__)
        known = {name: value for name, value in given.arguments.items() if name in inputs and value is not None}
        if any(isinstance(inputs[name], _NUMBERS) and not isinstance(value, Real) for name, value in known.items()):
            return True  # ComfyUI could not convert it, and says so itself
        try:
            for name, value in known.items():
                _as_schema_says(inputs[name], value)
            return True if None in given.arguments.values() else validate(*given.args, **given.kwargs)
        except ValueError as error:
            return str(error)

    # ComfyUI reads off the signature which inputs to pass; a wrapper's own, which names none, would take all of them.
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def _as_schema_says(part: io.Input, value: Any) -> Any:
    """An input's value, or ``InvalidInput`` if the schema does not allow it; a whole number may come as a float."""
    if value is None and part.optional and not isinstance(part, io.WidgetInput):
        return None
    if isinstance(part, _NUMBERS):
        return _number(part, value)
    if isinstance(part, io.String.Input) and not isinstance(value, str):
        raise InvalidInput(f"{part.id} is {_shown(value)}, but it must be text.")
    if isinstance(part, io.Combo.Input):
        # A list of files has no default. Its node knows better what to say of a file that is not there.
        choices = [] if part.default is None else part.options
        if not isinstance(value, str) or (choices and value not in choices):
            allowed = f"one of: {', '.join(choices)}" if choices else "a file name"
            raise InvalidInput(f"{part.id} is {_shown(value)}, but it must be {allowed}.")
    kind = part.get_io_type()
    content = value.get("samples") if kind == "LATENT" and isinstance(value, dict) else value
    if not hasattr(content, _SOCKETS.get(kind, "__class__")):
        shown = "empty" if value is None else _shown(value)
        often_lacks = f" Some checkpoints come without one: Load {kind} loads one." if kind in ("CLIP", "VAE") else ""
        raise InvalidInput(f"{part.id} is {shown}, but it must be of type {kind}. Connect a node that gives one.{often_lacks}")
    return value


def _number(part: io.Input, value: Any) -> int | float:
    is_whole = isinstance(part, io.Int.Input)
    try:
        if is_whole:
            number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
        else:
            number = float(value) if isinstance(value, Real) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not part.min <= number <= part.max:
        kind = "a whole number" if is_whole else "a number"
        raise InvalidInput(f"{part.id} is {_shown(value)}, but it must be {kind} from {part.min} to {part.max}.")
    return number


def _shown(value: Any) -> str:
    shown = repr(value) if isinstance(value, (str, Real, type(None))) else f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
