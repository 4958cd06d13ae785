"""What ComfyUI tells clients about the pack's nodes: saved workflows and other programs rely on it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from launcher.client import ComfyClient
from launcher.pack import PACK_NAME

from .world import MOTION_MODEL

SNAPSHOT = Path(__file__).with_name("object_info.json")
UPDATE = "LOOM_UPDATE_SNAPSHOTS"
NODES = ("LoomLoadMotionModel", "LoomApplyMotionModel", "LoomEmptyAnimationLatent", "LoomSampler")
# Lists that are not the pack's own: files on this machine, and core's samplers and schedulers.
FOREIGN_OPTIONS = ("motion_model_name", "file", "sampler_name", "scheduler")


@pytest.fixture(scope="module")
def schemas(server) -> dict[str, Any]:
    with ComfyClient(server.url) as client:
        nodes = client.object_info()
    return {name: node for name, node in nodes.items() if node["python_module"] == f"custom_nodes.{PACK_NAME}"}


def inputs_of(schema: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: spec for kind in ("required", "optional") for name, spec in schema["input"].get(kind, {}).items()}


def frozen(schema: dict[str, Any]) -> dict[str, Any]:
    """What must not change by accident."""

    def spec(name: str, kind: str, options: dict[str, Any]) -> list[Any]:
        kept = {key: options[key] for key in ("default", "min", "max", "step") if key in options}
        if "options" in options and name not in FOREIGN_OPTIONS:
            kept["options"] = options["options"]
        return [kind, kept]

    return {
        "display_name": schema["display_name"],
        "category": schema["category"],
        "inputs": {
            kind: {name: spec(name, *schema["input"][kind][name]) for name in names}
            for kind, names in schema["input_order"].items()
            if kind in ("required", "optional")
        },
        "outputs": [list(output) for output in zip(schema["output_name"], schema["output"], strict=True)],
    }


def test_the_nodes_are_there(schemas):
    assert set(NODES) <= schemas.keys()
    assert all(name.startswith("Loom") for name in schemas)


def test_the_interface_is_the_recorded_one(schemas):
    """Run with LOOM_UPDATE_SNAPSHOTS=1 to record a change that is meant."""
    # The order of inputs and outputs counts: saved workflows hold widget values by position.
    text = json.dumps({name: frozen(schema) for name, schema in sorted(schemas.items())}, indent=2) + "\n"
    recorded = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    more = {
        name: added
        for name in recorded.keys() & schemas.keys()
        if (added := schemas[name]["input"].get("required", {}).keys() - recorded[name]["inputs"].get("required", {}).keys())
    }
    assert more == {}, "prompts of before lack them, so ComfyUI refuses these: make new inputs optional"
    if os.environ.get(UPDATE):
        SNAPSHOT.write_text(text, encoding="utf-8")
        pytest.skip(f"recorded {SNAPSHOT.name}; look at its diff and run again without {UPDATE}")
    assert text == SNAPSHOT.read_text(encoding="utf-8"), f"if this change is meant, run again with {UPDATE}=1"


def test_everything_is_explained(schemas):
    for name, schema in schemas.items():
        assert schema["description"].strip(), name
        for input_name, (_, options) in inputs_of(schema).items():
            assert options.get("tooltip", "").strip(), f"{name}.{input_name}"
        assert len(schema["output_tooltips"]) == len(schema["output"]), name
        assert all(tooltip and tooltip.strip() for tooltip in schema["output_tooltips"]), name


def test_the_nodes_are_found_under_the_words_people_know(schemas):
    for name in NODES:
        assert {"animatediff", "animate diff"} <= set(schemas[name]["search_aliases"]), name


def test_lists_come_from_the_machine(schemas):
    _, options = inputs_of(schemas["LoomLoadMotionModel"])["motion_model_name"]
    assert MOTION_MODEL in options["options"]
    _, options = inputs_of(schemas["LoomSampler"])["sampler_name"]
    assert {"euler", "dpmpp_2m", "lcm"} <= set(options["options"])
