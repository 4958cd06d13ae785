"""What holds of every translation, whatever the graph: its links fit together, and a second one changes nothing."""

from __future__ import annotations

import copy
import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pack.migration.graph import BYPASSED, MUTED
from pack.migration.migrate import migrate
from pack.migration.rules import is_foreign
from pack.migration.targets import BOUNDS, TARGETS

from .workflows import SOCKETS, Workflow, wrong_links

WIDGETS = {
    "CheckpointLoaderSimple": ["a.safetensors"],
    "CheckpointLoaderSimpleWithNoiseSelect": ["a.safetensors", "sqrt_linear (AnimateDiff)"],
    "EmptyLatentImage": [64, 64, 16],
    "ModelSamplingDiscrete": ["lcm", False],
    "FreeU_V2": [1.0, 1.0, 1.0, 1.0],
    "KSampler": [5, "fixed", 20, 7.0, "lcm", "normal", 1.0],
    "PrimitiveFloat": [0.5],
    "PrimitiveInt": [9],
    "SetNode": ["name"],
    "GetNode": ["name"],
    "ADE_AnimateDiffLoaderWithContext": ["mm_sd_v15_v2.ckpt", "lcm >> sqrt_linear", 1.0, False],
    "ADE_AnimateDiffLoaderGen1": ["v3_sd15_mm.ckpt", "autoselect"],
    "ADE_UseEvolvedSampling": ["lcm[100_ots]"],
    "ADE_ApplyAnimateDiffModel": [0.1, 0.9],
    "ADE_ApplyAnimateDiffModelWithPIA": [0.0, 0.8],
    "ADE_InputPIA_PaperPresets": ["Loop (Small Motion)", -1, False],
    "ADE_PIA_AnimateDiffKeyframe": [0.3, True, 1],
    "ADE_InjectPIAIntoAnimateDiffModel": ["v3.ckpt"],
    "ADE_LoadAnimateDiffModel": ["hsxl_temporal_layers.safetensors"],
    "ADE_AnimateDiffLoRALoader": ["zoom.ckpt", 0.5],
    "ADE_MultivalDynamic": [1.2],
    "ADE_AnimateDiffKeyframe": [0.4, True, 1],
    "ADE_AnimateDiffUniformContextOptions": [16, 2, 4, "uniform", True, "pyramid", False, 0.0, 1],
    "ADE_StandardStaticContextOptions": [16, 4, "gauss-sigma"],
    "ADE_StandardStaticViewOptions": [12, 3, "flat"],
    "ADE_AnimateDiffSamplingSettings": [0, "empty", "auto1111", 4, True],
    "ADE_IterationOptsFreeInit": [2, "ideal", 0.2, 0.3, 4, 999, False],
    "ADE_CustomCFGSimple": [2.0],
    "ADE_SigmaSchedule": ["lcm avg(sqrt_linear,linear)"],
    "ADE_AdjustPESweetspotStretch": [16, 24, False],
    "ADE_AdjustWeightAllMult": [1.01, False],
    "ADE_EmptyLatentImageLarge": [64, 64, 32],
    "ADE_AnimateDiffCombine": [8, 0, "film", "video/h264-mp4", True, True],
    "AnimateDiffModuleLoader": ["mm_sd_v14.ckpt"],
    "AnimateDiffLoraLoader": ["zoom.ckpt", 0.5],
    "AnimateDiffSampler": ["legacy", 16, 5, "fixed", 20, 7.0, "euler", "normal", 1.0],
}


ODD_VALUES = [None, True, "", "words", "0.5", -3, 10**30, 1e300, float("inf"), [1], {"a": 1}]


def any_graph(seed: int, size: int) -> dict:
    """A graph of so many nodes; most inputs are linked to whatever node before them gives that type."""
    choose = random.Random(seed)
    made = Workflow()
    for _ in range(size):
        type = choose.choice(list(SOCKETS))
        links = {}
        for name, kind in SOCKETS[type][0].items():
            origins = [
                (node["id"], slot)
                for node in made.nodes
                for slot, output in enumerate(node["outputs"])
                if kind in (output["type"], "*") or output["type"] == "*"
            ]
            if origins and choose.random() < 0.8:
                links[name] = choose.choice(origins)
        values = WIDGETS.get(type, [])
        values = values[: choose.randint(0, len(values))] if choose.random() < 0.1 else values  # cut short, as nothing ever was
        values = [choose.choice(ODD_VALUES) if type.startswith("A") and choose.random() < 0.1 else value for value in values]
        mode = choose.choice([MUTED, BYPASSED]) if choose.random() < 0.15 else 0
        made.add(type, copy.deepcopy(values), mode, **links)
    return made.json


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_links_fit_together_and_a_second_translation_changes_nothing(seed, size):
    workflow = any_graph(seed, size)
    before = json.dumps(workflow)
    result, report = migrate(workflow)
    assert json.dumps(workflow) == before
    assert wrong_links(result) == []
    stays = {entry.node for entry in report.entries if entry.into == ("itself",) and is_foreign(entry.type)}
    assert {node["id"] for node in result["nodes"] if is_foreign(node["type"])} == stays
    again, _ = migrate(result)
    assert again == result


def misfits(workflow: dict) -> list[str]:
    """What the nodes of a translation would be refused for: values of other kinds or out of bounds, links of other types."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    origins = {link[0]: nodes[link[1]]["outputs"][link[2]]["type"] for link in workflow["links"]}
    wrong = []
    for node in workflow["nodes"]:
        if not node["type"].startswith("Loom"):
            continue
        inputs = {entry.name: entry for entry in TARGETS[node["type"]].inputs}
        widgets = [entry for entry in inputs.values() if entry.is_widget]
        for entry, value in zip(widgets, node["widgets_values"], strict=True):
            kinds = {"INT": int, "FLOAT": (int, float), "BOOLEAN": bool}.get(entry.type, str)
            least, most = BOUNDS.get(node["type"], {}).get(entry.name, (value, value))
            if not isinstance(value, kinds) or not least <= value <= most:
                wrong.append(f"{node['type']}.{entry.name} is {value!r}")
        for slot in node["inputs"]:
            given = origins.get(slot["link"], "*")
            if given != "*" and given not in inputs[slot["name"]].type.split(","):
                wrong.append(f"{node['type']}.{slot['name']} is linked to {given}")
    return wrong


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_nodes_are_given_what_they_take(seed, size):
    result, _ = migrate(any_graph(seed, size))
    assert misfits(result) == []


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_nodes_of_others_keep_all_but_links_and_what_samplers_are_told(seed, size):
    workflow = any_graph(seed, size)
    result, _ = migrate(workflow)
    after = {node["id"]: node for node in result["nodes"]}
    for node in workflow["nodes"]:
        if is_foreign(node["type"]) or node["id"] not in after or after[node["id"]]["type"] != node["type"]:
            continue
        kept = ["id", "type", "pos", "size", "mode", "properties", "flags"]
        kept += [] if node["type"] in ("KSampler", "EmptyLatentImage") else ["widgets_values"]
        assert {name: node[name] for name in kept} == {name: after[node["id"]][name] for name in kept}
