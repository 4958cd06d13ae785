"""Subgraphs and group nodes with AnimateDiff nodes inside: what they become is what the flat graph becomes."""

from __future__ import annotations

import copy

import pytest
from pack.migration.migrate import migrate, needs_migration
from pack.migration.report import Word

from .workflows import Workflow, fed_by, node_of, wrong_links

V3, LINEAR = "v3_sd15_mm.ckpt", "sqrt_linear (AnimateDiff)"


def flat() -> Workflow:
    """Nodes 1 to 6: checkpoint, windows, motion model, node that applies, node that animates, sampler."""
    made = Workflow()
    checkpoint = made.add("CheckpointLoaderSimple", ["a.safetensors"])
    context = made.add("ADE_StandardStaticContextOptions", [20, 5, "flat"])
    loaded = made.add("ADE_LoadAnimateDiffModel", [V3])
    applied = made.add("ADE_ApplyAnimateDiffModel", [0.1, 0.9], motion_model=loaded)
    evolved = made.add("ADE_UseEvolvedSampling", [LINEAR], model=checkpoint, m_models=applied, context_options=context)
    made.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=evolved)
    return made


def kinds(workflow: dict) -> list:
    return sorted((node["type"], node["widgets_values"]) for node in workflow["nodes"])


def assert_animates(result: dict) -> None:
    """From the sampler up, it is the chain that the flat graph becomes."""
    windows = fed_by(result, node_of(result, "KSampler"), "model")
    applied = fed_by(result, windows, "model")
    assert [windows["type"], applied["type"]] == ["LoomContextWindows", "LoomApplyMotionModel"]
    assert fed_by(result, applied, "model")["type"] == "CheckpointLoaderSimple"
    assert fed_by(result, applied, "motion_model")["widgets_values"][0] == V3


def in_subgraph(workflow: Workflow, *inside: int, id: str = "of-settings") -> dict:
    """The workflow with nodes of those ids in a subgraph, as the editor saves it."""
    made = copy.deepcopy(workflow.json)
    nodes = {node["id"]: node for node in made["nodes"]}
    links, inner, ends = [], [], {"inputs": [], "outputs": []}
    host = {
        "id": 100, "type": id, "pos": [0, 500], "size": [200, 100], "flags": {}, "order": 9, "mode": 0, "inputs": [], "outputs": [],
        "properties": {}, "widgets_values": [],
    }  # fmt: skip
    for link in made["links"]:
        number, origin, slot, target, place, kind = link
        if (origin in inside) == (target in inside):
            (inner if origin in inside else links).append(link)
            continue
        side = "inputs" if target in inside else "outputs"
        slot_at_border = len(ends[side])
        name = f"{kind}_{slot_at_border}"
        ends[side].append({"id": f"{side}{number}", "name": name, "type": kind, "linkIds": [number]})
        if target in inside:
            host["inputs"].append({"name": name, "type": kind, "link": number})
            links.append([number, origin, slot, 100, slot_at_border, kind])
            inner.append([number, -10, slot_at_border, target, place, kind])
        else:
            host["outputs"].append({"name": name, "type": kind, "links": [number]})
            links.append([number, 100, slot_at_border, target, place, kind])
            inner.append([number, origin, slot, -20, slot_at_border, kind])
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    made["nodes"] = [node for key, node in nodes.items() if key not in inside] + [host]
    made["links"] = links
    made["definitions"] = {
        "subgraphs": [{
            "id": id, "name": "Settings", "inputNode": {"id": -10}, "outputNode": {"id": -20}, **ends,
            "nodes": [nodes[key] for key in inside], "links": [dict(zip(keys, link, strict=True)) for link in inner],
        }],
    }  # fmt: skip
    return made


@pytest.mark.parametrize("inside", [(2,), (3, 4), (2, 5), (2, 3, 4), (3,)])
def test_settings_that_pass_a_subgraphs_border_are_translated(inside):
    workflow = in_subgraph(flat(), *inside)
    before = copy.deepcopy(workflow)
    result, report = migrate(workflow)
    assert workflow == before
    assert wrong_links(result) == []
    assert kinds(result) == kinds(migrate(flat().json)[0])
    assert_animates(result)
    assert report.word is Word.SAME
    assert "Settings (node 100) -> its nodes" in str(report)
    assert result["definitions"]["subgraphs"] == []
    assert migrate(result)[0] == result


def test_a_subgraph_with_the_whole_motion_inside_stays():
    result, report = migrate(in_subgraph(flat(), 2, 3, 4, 5))
    (graph,) = result["definitions"]["subgraphs"]
    assert {node["type"] for node in graph["nodes"]} == {"LoomContextWindows", "LoomLoadMotionModel", "LoomApplyMotionModel"}
    assert [node["type"] for node in result["nodes"]] == ["CheckpointLoaderSimple", "KSampler", "of-settings"]
    assert report.word is Word.SAME


def test_a_bypassed_subgraph_leaves_its_nodes_bypassed():
    workflow = in_subgraph(flat(), 2)
    workflow["nodes"][-1]["mode"] = 4
    result, _ = migrate(workflow)
    assert node_of(result, "LoomContextWindows")["widgets_values"][2] == "none"  # without those options


def test_a_subgraph_that_would_hold_itself_comes_to_an_end():
    workflow = in_subgraph(flat(), 2)
    (graph,) = workflow["definitions"]["subgraphs"]
    graph["nodes"].append(copy.deepcopy(workflow["nodes"][-1]))
    migrate(workflow)


def in_group_node(workflow: Workflow, sign: str = ">") -> dict:
    """The workflow with the motion model, the node that applies it and its windows as a group node."""
    made = copy.deepcopy(workflow.json)
    nodes = {node["id"]: node for node in made["nodes"]}
    inside = [{key: value for key, value in nodes[number].items() if key != "id"} for number in (2, 3, 4)]
    inside[0]["inputs"].append({"name": "context_length", "type": "INT", "link": None, "widget": {"name": "context_length"}})
    number = made["last_node_id"] + 1
    primitive = number + 1
    made["nodes"] = [nodes[key] for key in (1, 5, 6)] + [
        {
            "id": number, "type": f"workflow{sign}Motion", "pos": [0, 500], "size": [300, 300], "flags": {}, "order": 1, "mode": 0,
            "inputs": [
                {"name": name, "type": kind, "link": None}
                for name, kind in (
                    ("prev_context", "CONTEXT_OPTIONS"), ("view_opts", "VIEW_OPTS"), ("ad_settings", "AD_SETTINGS"),
                    ("motion_lora", "MOTION_LORA"), ("scale_multival", "MULTIVAL"), ("effect_multival", "MULTIVAL"),
                    ("ad_keyframes", "AD_KEYFRAMES"), ("prev_m_models", "M_MODELS"),
                )
            ] + [{"name": "context_length", "type": "INT", "link": 50, "widget": {"name": "context_length"}}],
            "outputs": [
                {"name": "CONTEXT_OPTS", "type": "CONTEXT_OPTIONS", "links": [51]},
                {"name": "M_MODELS", "type": "M_MODELS", "links": [52]},
            ],
            "properties": {}, "widgets_values": [5, "flat", V3, 0.2, 0.8, 24],
        },
        {
            "id": primitive, "type": "PrimitiveNode", "pos": [0, 0], "size": [200, 80], "flags": {}, "order": 0, "mode": 0,
            "inputs": [], "outputs": [{"name": "INT", "type": "INT", "links": [50]}], "properties": {}, "widgets_values": [24, "fixed"],
        },
    ]  # fmt: skip
    kept = [link for link in made["links"] if link[1] in (1, 5)]
    made["links"] = [*kept, [50, primitive, 0, number, 8, "INT"], [51, number, 0, 5, 2, "CONTEXT_OPTIONS"], [52, number, 1, 5, 1, "M_MODELS"]]
    for entry, link in zip(nodes[5]["inputs"], (None, 52, 51, None), strict=True):
        entry["link"] = link if link else entry["link"]
    made["extra"]["groupNodes"] = {"Motion": {"nodes": inside, "links": [[1, 0, 2, 0, 3, "MOTION_MODEL_ADE"]], "external": []}}
    return made


@pytest.mark.parametrize("sign", ["/", ">"])
def test_group_nodes_are_unpacked_with_the_values_of_the_node(sign):
    workflow = in_group_node(flat(), sign)
    assert needs_migration(workflow)
    result, report = migrate(workflow)
    assert wrong_links(result) == []
    assert_animates(result)
    assert node_of(result, "LoomContextWindows")["widgets_values"][:4] == [24, 5, "standard_static", "flat"]
    assert node_of(result, "LoomApplyMotionModel")["widgets_values"][3:5] == [0.2, 0.8]
    assert report.word is Word.SAME
    assert result["extra"]["groupNodes"] == {}
    assert not needs_migration(result)


def test_a_group_node_of_other_values_than_its_nodes_have_says_so():
    workflow = in_group_node(flat())
    workflow["nodes"][3]["widgets_values"] = [5]
    result, report = migrate(workflow)
    assert "Its nodes have the values that they had when the group was made" in str(report)
    assert node_of(result, "LoomApplyMotionModel")["widgets_values"][3:5] == [0.1, 0.9]
