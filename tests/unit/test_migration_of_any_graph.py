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

from .workflows import SOCKETS, Workflow, wrong_links

WIDGETS = {
    "CheckpointLoaderSimple": ["a.safetensors"],
    "CheckpointLoaderSimpleWithNoiseSelect": ["a.safetensors", "sqrt_linear (AnimateDiff)"],
    "EmptyLatentImage": [64, 64, 16],
    "ModelSamplingDiscrete": ["lcm", False],
    "FreeU_V2": [1.0, 1.0, 1.0, 1.0],
    "KSampler": [5, "fixed", 20, 7.0, "lcm", "normal", 1.0],
    "PrimitiveFloat": [0.5],
    "SetNode": ["name"],
    "GetNode": ["name"],
    "ADE_AnimateDiffLoaderWithContext": ["mm_sd_v15_v2.ckpt", "lcm >> sqrt_linear", 1.0, False],
    "ADE_AnimateDiffLoaderGen1": ["v3_sd15_mm.ckpt", "autoselect"],
    "ADE_UseEvolvedSampling": ["lcm[100_ots]"],
    "ADE_ApplyAnimateDiffModel": [0.1, 0.9],
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
    stays = {entry.node for entry in report.entries if entry.into == ("itself",)}
    assert {node["id"] for node in result["nodes"] if is_foreign(node["type"])} == stays
    again, _ = migrate(result)
    assert again == result


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
