"""Every node holds its inputs to its schema, over links, too, which ComfyUI does not check."""

from __future__ import annotations

import asyncio
import inspect
import math
from unittest.mock import MagicMock

import pytest
from comfy_api.latest import io
from pack.nodes import LoomExtension, loaders
from pack.nodes.host.files import folders

NODES = asyncio.run(LoomExtension().get_node_list())
NUMBERS = [
    (node, part) for node in NODES for part in node.define_schema().inputs if isinstance(part, (io.Int.Input, io.Float.Input))
]


def execute(node, **given):
    """As ComfyUI does, with something that passes for anything in the other inputs."""
    return node.EXECUTE_NORMALIZED(**{**{part.id: MagicMock() for part in node.define_schema().inputs}, **given})


def fine(node) -> dict:
    """A value for every number, text and choice."""
    files = {part.id: "file" for part in node.define_schema().inputs if isinstance(part, io.Combo.Input)}
    defaults = {part.id: getattr(part, "default", None) for part in node.define_schema().inputs}
    return {**files, **{name: default for name, default in defaults.items() if default is not None}}


def bad_numbers(part) -> list:
    beyond = part.max * 2 + 1, part.min - 1
    default = part.min if part.default is None else part.default
    wrong = [*beyond, math.nan, math.inf, -math.inf, "", "abc", str(default), None, [default], {}]
    return [*wrong, default + 0.5] if isinstance(part, io.Int.Input) else [*wrong, 10**400]


def test_there_are_numbers_to_check():
    assert len(NUMBERS) > 50


def test_numbers_are_held_to_their_range_whichever_way_they_come():
    for node, part in NUMBERS:
        for bad in bad_numbers(part):
            with pytest.raises(ValueError, match=rf"^{part.id} is .* but it must be a (whole )?number from .* to .*\.$") as caught:
                execute(node, **{**fine(node), part.id: bad})
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 200


def test_what_validation_names_keeps_its_range():
    for node, part in NUMBERS:
        if part.id not in inspect.getfullargspec(node.validate_inputs).args:
            continue
        for bad in (part.max * 2 + 1, part.min - 1, math.nan, math.inf):
            assert str(node.validate_inputs(**{part.id: bad})).startswith(f"{part.id} is {bad}, but it must be "), node
        # ComfyUI has said what is wrong with a text; over a link nothing is known yet.
        assert node.validate_inputs(**{part.id: "abc"}) is True
        assert node.validate_inputs(**{part.id: None}) is True


def test_texts_and_choices_are_texts():
    checked = 0
    for node in NODES:
        for part in node.define_schema().inputs:
            if not isinstance(part, (io.String.Input, io.Combo.Input)) or part.optional:
                continue
            for bad in (5, None, {}, [1], *(["no such choice"] if isinstance(part, io.Combo.Input) and part.default else [])):
                with pytest.raises(ValueError, match=f"^{part.id} is .* but it must be "):
                    execute(node, **{**fine(node), part.id: bad})
                checked += 1
    assert checked > 50


def test_what_other_nodes_make_is_of_its_type():
    """Constants in a prompt of the API; a checkpoint without a text encoder."""
    checked = 0
    for node in NODES:
        for part in node.define_schema().inputs:
            if isinstance(part, (io.WidgetInput, io.MultiType.Input)):
                continue
            for bad in ("x", 5, True, math.nan, {}, {"samples": 5}, *([] if part.optional else [None])):
                with pytest.raises(ValueError, match=f"^{part.id} is .* but it must be of type {part.get_io_type()}. Connect "):
                    execute(node, **{**fine(node), part.id: bad})
                checked += 1
    assert checked > 100


def test_a_new_file_is_taken_without_a_restart(monkeypatch):
    """Though the schema is read once."""
    load = next(node for node in NODES if node.define_schema().node_id == "LoomLoadMotionModel")
    paths = {"new.safetensors": "/models/new.safetensors"}
    monkeypatch.setattr(folders.folder_paths, "get_filename_list", lambda folder: list(paths))
    monkeypatch.setattr(folders.folder_paths, "get_full_path", lambda folder, name: paths.get(name))
    monkeypatch.setattr(loaders, "load_motion_model", lambda path: path)
    assert execute(load, **{**fine(load), "motion_model_name": "new.safetensors"}).result == ("/models/new.safetensors",)
    paths["newer.safetensors"] = "/models/newer.safetensors"
    assert execute(load, **{**fine(load), "motion_model_name": "newer.safetensors"}).result == ("/models/newer.safetensors",)
    with pytest.raises(ValueError, match="was not found"):
        execute(load, **{**fine(load), "motion_model_name": "older.safetensors"})


def test_a_whole_number_may_come_as_a_float():
    latents = next(node for node in NODES if node.define_schema().node_id == "LoomEmptyAnimationLatent")
    assert execute(latents, width=64.0, height=64, frames=3.0)[0]["samples"].shape == (3, 4, 8, 8)


def test_comfyui_sees_the_inputs_that_validation_names_and_no_others():
    for node in NODES:
        spec = inspect.getfullargspec(node.validate_inputs)
        if node.validate_inputs.__func__ is not io.ComfyNode.validate_inputs.__func__:
            assert spec.args[0] == "cls"
            assert len(spec.args) > 1
            assert spec.varkw is None
