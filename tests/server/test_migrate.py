"""Workflows of other AnimateDiff packs on a real server: the route that translates them, and what then runs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
import torch
from migration.targets import BOUNDS, TARGETS

from .world import CHECKPOINT, MOTION_MODEL, animation, node, rerun, still

LINEAR = "sqrt_linear (AnimateDiff)"


def post(server, body: Any, query: str = "") -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/loom/migrate{query}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def evolved(**inputs: Any) -> dict:
    """The animation of this folder's other tests as AnimateDiff-Evolved's users write it."""
    prompt = {
        **still(),
        "context": node("ADE_StandardStaticContextOptions", context_length=16, context_overlap=4, fuse_method="pyramid"),
        "animated": node(
            "ADE_AnimateDiffLoaderWithContext", model=["checkpoint", 0], context_options=["context", 0],
            **{"model_name": f"somewhere/{MOTION_MODEL.upper()}", "beta_schedule": LINEAR, "motion_scale": 1.0} | inputs,
        ),
    }  # fmt: skip
    return prompt | {name: animation()[name] for name in ("sampled", "saved")}


def test_targets_are_the_schemas_of_the_server(server):
    with urllib.request.urlopen(f"{server.url}/object_info", timeout=60) as response:
        known = json.load(response)
    wrong = []
    for name, target in TARGETS.items():
        schema = known[name]
        inputs = {**schema["input"].get("required", {}), **schema["input"].get("optional", {})}
        widgets = [entry.name for entry in target.inputs if entry.is_widget]
        sockets = [entry.name for entry in target.inputs if not entry.is_widget]
        kinds = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
        is_widget = {
            key: (isinstance(entry[0], list) or entry[0] in kinds) and not (len(entry) > 1 and entry[1].get("forceInput"))
            for key, entry in inputs.items()
        }
        order = [key for part in ("required", "optional") for key in schema["input_order"].get(part, [])]
        expected = [key for key in order if is_widget[key]], [key for key in order if not is_widget[key]]
        if (widgets, sockets) != expected or [kind for _, kind in target.outputs] != schema["output"]:
            wrong.append(f"{name}: {expected} -> {schema['output']}")
        for entry in target.inputs:
            options = inputs[entry.name][1] if len(inputs[entry.name]) > 1 else {}
            if entry.is_widget and "default" in options and options["default"] != entry.default:
                wrong.append(f"{name}.{entry.name} is {options['default']!r} by default")
            bounds = (options.get("min"), options.get("max"))
            if entry.is_widget and entry.type in ("INT", "FLOAT") and BOUNDS[name].get(entry.name) != bounds:
                wrong.append(f"{name}.{entry.name} goes from {bounds[0]} to {bounds[1]}")
    assert wrong == []


def test_a_translated_prompt_runs_to_the_same_frames(client, server, good_latents):
    status, answer = post(server, evolved())
    assert status == 200
    assert answer["word"] == "same"
    assert answer["workflow"]["animated"]["class_type"] == "LoomApplyMotionModel"
    assert MOTION_MODEL in json.dumps(answer["workflow"])  # found, whatever folder and capitals
    assert torch.equal(rerun(client, answer["workflow"]).latents(), good_latents)


def test_what_is_near_and_lost_is_said(server):
    _, answer = post(server, evolved(beta_schedule="squaredcos_cap_v2"))
    assert (answer["word"], answer["summary"]) == ("lost", "1 same, 1 lost")
    (entry,) = [entry for entry in answer["entries"] if entry["word"] == "lost"]
    assert entry["node"] == "animated"
    assert "'squaredcos_cap_v2' has no counterpart" in entry["why"][0]


def test_a_note_goes_into_an_editors_graph(server):
    graph = {
        "last_node_id": 1, "last_link_id": 0, "links": [],
        "nodes": [{"id": 1, "type": "ADE_EmptyLatentImageLarge", "pos": [0, 0], "size": [300, 100], "widgets_values": [64, 64, 8]}],
    }  # fmt: skip
    assert [entry["type"] for entry in post(server, graph)[1]["workflow"]["nodes"]] == ["LoomEmptyAnimationLatent"]
    translated = post(server, graph, "?note=1")[1]["workflow"]
    assert [entry["type"] for entry in translated["nodes"]] == ["LoomEmptyAnimationLatent", "MarkdownNote"]
    assert "ADE_EmptyLatentImageLarge" in translated["nodes"][1]["widgets_values"][0]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b"5", b"{}", b'{"nodes": 5}', b'{"nodes": [{"type": "ADE_UseEvolvedSampling"}]}', b"\xff\xfe"]
)
def test_what_is_no_workflow_gets_a_sentence(server, body):
    status, answer = post(server, body)
    assert status == 400
    assert answer["error"].endswith(".")


def test_a_workflow_of_too_many_nodes_gets_a_sentence(server):
    status, answer = post(server, {str(i): node("ADE_UseEvolvedSampling") for i in range(3001)})
    assert (status, answer["error"]) == (400, "This workflow has 3001 nodes; at most 3000 are translated.")


def test_prompts_that_are_queued_are_left_alone(client):
    """Only who asks gets a translation: without the other pack, its nodes stay unknown."""
    with pytest.raises(Exception, match="ADE_"):
        client.queue(evolved())


def test_checkpoints_stay_named(server):
    assert post(server, evolved())[1]["workflow"]["checkpoint"]["inputs"] == {"ckpt_name": CHECKPOINT}


def test_the_editor_is_told_on_how_many_frames_a_motion_model_was_trained(server):
    for query, frames in ((f"?file={MOTION_MODEL}", 16), ("?file=../../nothing.safetensors", None), ("", None)):
        with urllib.request.urlopen(f"{server.url}/loom/trained_frames{query}", timeout=60) as response:
            assert json.load(response) == {"trained_frames": frames}


def ask(server, what: str, body: object) -> dict:
    request = urllib.request.Request(f"{server.url}/loom/{what}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_timelines_are_told_what_formulas_come_to(server):
    settings = {"frames": 4, "easing": "linear", "hold": 0, "closed_loop": False, "inside": False}
    assert ask(server, "values", settings | {"text": "0: t * 2, 2: (max_f)"}) == {"values": [0, 2, 3, 3]}
    assert ask(server, "values", settings | {"text": "0: what"}) == {"values": None}
    for wrong in (settings | {"text": "0: t", "frames": 10**9}, {"text": "0: t"}, [1], "0: t"):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(server, "values", wrong)


def test_timelines_are_told_where_windows_lie(server):
    settings = {"frames": 24, "context_length": 16, "context_overlap": 4, "context_schedule": "standard_static"}
    assert ask(server, "windows", settings) == {"windows": [[[0, 15]], [[8, 23]]]}
    closed = settings | {"context_schedule": "looped_uniform", "context_stride": 1, "closed_loop": True}
    assert ask(server, "windows", closed)["windows"][-1] == [[12, 23], [0, 3]]
    for change in ({"frames": 16}, {"context_overlap": 16}):
        assert ask(server, "windows", settings | change) == {"windows": []}
    for wrong in (settings | {"context_schedule": "what"}, settings | {"frames": "many"}, {}):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(server, "windows", wrong)
