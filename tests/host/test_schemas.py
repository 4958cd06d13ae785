"""The nodes' schemas: complete, equal to the Python defaults, and the same as what help and locales say."""

from __future__ import annotations

import asyncio
import inspect
import json
from pathlib import Path

import pytest
from comfy_api.latest import io
from comfy_config.config_parser import extract_node_configuration
from pack.nodes import LoomExtension
from pack.nodes.host.motion.model_sampling import BETA_CHOICES

ROOT = Path(__file__).resolve().parents[2]
NODES = {node.define_schema().node_id: node for node in asyncio.run(LoomExtension().get_node_list())}
ALIASES = {"animatediff", "animate diff", "motion module"}
OUTPUT_NODES = {"LoomAnimationMetrics", "LoomInspectFile", "LoomPlan", "LoomSaveMotionModel"}  # these run with nothing behind them


@pytest.fixture(params=NODES)
def node(request) -> type[io.ComfyNode]:
    return NODES[request.param]


@pytest.fixture
def schema(node) -> io.Schema:
    return node.define_schema()


def english(node_id: str) -> dict:
    return json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]


def test_node_is_named_and_found(schema):
    assert schema.node_id.startswith("Loom")
    assert schema.category.split("/")[0] == "AnimateDiff Loom"
    assert schema.display_name
    assert schema.description.endswith(".")
    assert set(schema.search_aliases) >= ALIASES


def test_inputs_and_outputs_are_explained(schema):
    for part in (*schema.inputs, *schema.outputs):
        assert part.tooltip, f"{part.id} has no tooltip"
        assert part.tooltip.endswith("."), part.id
    assert all(output.display_name for output in schema.outputs)


def test_python_defaults_are_the_schemas(node, schema):
    """ComfyUI never fills a schema's default in: what a prompt leaves out gets the one of `execute`."""
    parameters = inspect.signature(node.execute).parameters
    assert list(parameters) == [part.id for part in schema.inputs]
    for part in schema.inputs:
        if part.optional:
            expected = None
        else:
            expected = getattr(part, "default", None)
            expected = inspect.Parameter.empty if expected is None else expected
        found = parameters[part.id].default
        assert found is expected or (type(found), found) == (type(expected), expected), part.id


def test_defaults_are_allowed(schema):
    for part in schema.inputs:
        default = getattr(part, "default", None)
        if isinstance(part, io.Combo.Input) and default is not None:
            assert default in part.options
        elif isinstance(part, (io.Int.Input, io.Float.Input)):
            assert part.min <= default <= part.max, part.id


def test_validation_takes_inputs_by_their_names(node, schema):
    for method in (node.validate_inputs, node.fingerprint_inputs):
        names = {name for name, p in inspect.signature(method).parameters.items() if p.kind is not p.VAR_KEYWORD}
        assert names <= {part.id for part in schema.inputs}


def test_fingerprints_take_every_input(node, schema):
    """ComfyUI passes them all, and takes an error for "has changed": the node would run each time."""
    inspect.signature(node.fingerprint_inputs).bind(**dict.fromkeys(part.id for part in schema.inputs))


def test_comfyui_can_list_it(node):
    info = node.GET_NODE_INFO_V1()
    json.dumps(info)
    assert info["output_node"] is (info["name"] in OUTPUT_NODES)
    assert not info["deprecated"]
    assert not info["experimental"]


def test_english_locale_is_the_schema(schema):
    inputs = {part.id: {"name": part.display_name or part.id, "tooltip": part.tooltip} for part in schema.inputs}
    outputs = {str(i): {"name": part.display_name, "tooltip": part.tooltip} for i, part in enumerate(schema.outputs)}
    assert english(schema.node_id) == {
        "display_name": schema.display_name, "description": schema.description, "inputs": inputs, "outputs": outputs,
    }


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
