"""The nodes' schemas: complete, equal to the Python defaults, and the same as what help and locales say."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from comfy_api.latest import io
from comfy_config.config_parser import extract_node_configuration
from pack.nodes import LoomExtension
from pack.nodes.host.motion.model_sampling import BETA_CHOICES

ROOT = Path(__file__).resolve().parents[2]
NODES = {node.define_schema().node_id: node for node in asyncio.run(LoomExtension().get_node_list())}
ALIASES = {"animatediff", "animate diff"}
OUTPUT_NODES = {"LoomAnimationMetrics", "LoomInspectFile", "LoomPlan", "LoomSaveMotionModel"}  # these run with nothing behind them


SCHEMAS = {node_id: node.define_schema() for node_id, node in NODES.items()}
ENGLISH = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))


def found_in_schemas(find: Callable[[io.Schema], Iterable[str]]) -> list[str]:
    """What ``find`` finds in each schema, behind the node's id."""
    return [f"{node_id}: {found}" for node_id, schema in SCHEMAS.items() for found in find(schema)]


def test_nodes_are_named_and_found():
    def wrong(schema: io.Schema) -> Iterable[str]:
        if not schema.node_id.startswith("Loom"):
            yield "the id does not begin with 'Loom'"
        if schema.category.split("/")[0] != "AnimateDiff Loom":
            yield f"category '{schema.category}'"
        if not schema.display_name:
            yield "has no display name"
        if not schema.description.endswith("."):
            yield f"description '{schema.description}'"
        yield from (f"is not found as '{alias}'" for alias in sorted(ALIASES - set(schema.search_aliases)))

    assert found_in_schemas(wrong) == []


def test_inputs_and_outputs_are_explained():
    def wrong(schema: io.Schema) -> Iterable[str]:
        for part in (*schema.inputs, *schema.outputs):
            if not (part.tooltip or "").endswith("."):
                yield f"{part.id}: tooltip '{part.tooltip}'"
        yield from (f"output {output.id} has no name" for output in schema.outputs if not output.display_name)

    assert found_in_schemas(wrong) == []


def test_python_defaults_are_the_schemas():
    """ComfyUI never fills a schema's default in: what a prompt leaves out gets the one of `execute`."""

    def default_of(part: io.Input) -> object:
        default = getattr(part, "default", None)
        without = None if part.optional else inspect.Parameter.empty
        return without if default is None else default

    def wrong(schema: io.Schema) -> Iterable[str]:
        parameters = inspect.signature(NODES[schema.node_id].execute).parameters
        names = [part.id for part in schema.inputs]
        if list(parameters) != names:
            yield f"execute takes {list(parameters)}, not {names}"
            return
        for part in schema.inputs:
            found, expected = parameters[part.id].default, default_of(part)
            if found is not expected and (type(found), found) != (type(expected), expected):
                yield f"{part.id} is {found!r} in execute, {expected!r} in the schema"

    assert found_in_schemas(wrong) == []


def test_defaults_are_allowed():
    def wrong(schema: io.Schema) -> Iterable[str]:
        for part in schema.inputs:
            default = getattr(part, "default", None)
            if default is None and part.optional and getattr(part, "force_input", None):
                continue  # a socket that may be left free
            is_number = isinstance(part, (io.Int.Input, io.Float.Input))
            if isinstance(part, io.Combo.Input) and default is not None and default not in part.options:
                yield f"{part.id} is {default!r}, not one of {part.options}"
            elif is_number and (default is None or not part.min <= default <= part.max):
                yield f"{part.id} is {default}, not in {part.min} to {part.max}"

    assert found_in_schemas(wrong) == []


def test_validation_takes_inputs_by_their_names():
    def unknown(schema: io.Schema) -> Iterable[str]:
        for method in (NODES[schema.node_id].validate_inputs, NODES[schema.node_id].fingerprint_inputs):
            names = {name for name, p in inspect.signature(method).parameters.items() if p.kind is not p.VAR_KEYWORD}
            yield from (f"{method.__name__} of {name}" for name in sorted(names - {part.id for part in schema.inputs}))

    assert found_in_schemas(unknown) == []


def test_fingerprints_take_every_input():
    """ComfyUI passes them all, and takes an error for "has changed": the node would run each time."""

    def wrong(schema: io.Schema) -> Iterable[str]:
        fingerprint = inspect.signature(NODES[schema.node_id].fingerprint_inputs)
        try:
            fingerprint.bind(**dict.fromkeys(part.id for part in schema.inputs))
        except TypeError as error:
            yield str(error)

    assert found_in_schemas(wrong) == []


def test_comfyui_can_list_them():
    infos = {node_id: node.GET_NODE_INFO_V1() for node_id, node in NODES.items()}
    json.dumps(infos)
    assert {node_id for node_id, info in infos.items() if info["output_node"] is not False} == OUTPUT_NODES
    assert [node_id for node_id, info in infos.items() if info["deprecated"] or info["experimental"]] == []


def texts(tree: dict, path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from texts(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def test_english_locale_is_the_schema():
    def differences(schema: io.Schema) -> Iterable[str]:
        inputs = {part.id: {"name": part.display_name or part.id, "tooltip": part.tooltip} for part in schema.inputs}
        outputs = {str(i): {"name": part.display_name, "tooltip": part.tooltip} for i, part in enumerate(schema.outputs)}
        expected = {
            "display_name": schema.display_name, "description": schema.description, "inputs": inputs, "outputs": outputs,
        }
        found = ENGLISH[schema.node_id]
        if found != expected:
            there, wanted = dict(texts(found)), dict(texts(expected))
            yield ", ".join(name for name in {**wanted, **there} if there.get(name) != wanted.get(name)) or "other keys"

    assert found_in_schemas(differences) == []


def test_help_page_names_every_choice_of_our_own():
    page = (ROOT / "web" / "docs" / "LoomApplyMotionModel.md").read_text(encoding="utf-8")
    assert [choice for choice in BETA_CHOICES if f"`{choice}`" not in page] == []


def test_comfyui_reads_the_project_file():
    config = extract_node_configuration(str(ROOT))
    assert config.project.name == "comfyui-animatediff-loom"
    assert config.project.license.text == "Apache-2.0"
    assert config.project.supported_os == ["OS Independent"]
    assert config.project.supported_comfyui_version == ">=0.30.0"
    assert config.project.urls.repository.startswith("https://")
    assert (config.tool_comfy.publisher_id, config.tool_comfy.display_name) == ("animatediff-loom", "AnimateDiff Loom")
    assert config.tool_comfy.web is None  # beside WEB_DIRECTORY it would be served twice
