"""Workflows of other AnimateDiff packs, translated: each node, each version of its widgets, each way to wire it."""

from __future__ import annotations

import copy

import pytest
from pack.migration.forms import UnknownWorkflow
from pack.migration.layout import Box, pair
from pack.migration.migrate import migrate, needs_migration
from pack.migration.report import Word
from pack.migration.translate import Files

from .workflows import Workflow, fed_by, node_of, nodes_of, wrong_links

V3 = "v3_sd15_mm.ckpt"
LINEAR = "sqrt_linear (AnimateDiff)"
NORMS, NORMS_V2_AS_V1 = "like AnimateDiff-Evolved", "like AnimateDiff-Evolved, v2 as v1"
APPLY, WINDOWS, LOADER, LORA = "LoomApplyMotionModel", "LoomContextWindows", "LoomLoadMotionModel", "LoomLoadMotionLora"


def values(workflow: dict, type: str) -> list:
    return node_of(workflow, type)["widgets_values"]


class Legacy(Workflow):
    """A checkpoint, the legacy loader and KSampler, with whatever is connected to the loader."""

    def __init__(self, widgets=(V3, LINEAR, 1.2, True), frames=32, **links):
        super().__init__()
        self.checkpoint = self.add("CheckpointLoaderSimple", ["a.safetensors"])
        self.latent = self.add("EmptyLatentImage", [512, 512, frames])
        made = {name: link(self) for name, link in links.items()}
        self.loader = self.add("ADE_AnimateDiffLoaderWithContext", list(widgets), model=self.checkpoint, **made)
        self.sampler = self.add(
            "KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=self.loader, latent_image=self.latent
        )


def uniform(*widgets):
    return lambda workflow: workflow.add("ADE_AnimateDiffUniformContextOptions", list(widgets))


def translated(workflow: Workflow):
    before = copy.deepcopy(workflow.json)
    result, report = migrate(workflow.json)
    assert workflow.json == before
    assert wrong_links(result) == []
    return result, report


# --- motion models -------------------------------------------------------------------------------------------------------


def test_the_legacy_loader_becomes_two_nodes_and_windows():
    result, report = translated(Legacy(context_options=uniform(16, 1, 4, "uniform", False, "pyramid", False, 0, 1, "")))
    assert values(result, LOADER)[0] == V3
    assert values(result, APPLY) == ["linear (AnimateDiff)", 1.2, 1.0, 0.0, 1.0, NORMS, False, "steps", False]
    assert values(result, WINDOWS)[:7] == [16, 4, "looped_uniform", "pyramid", 1, False, False]
    assert fed_by(result, node_of(result, "KSampler"), "model")["type"] == WINDOWS
    assert fed_by(result, node_of(result, WINDOWS), "model")["type"] == APPLY
    assert fed_by(result, node_of(result, APPLY), "model")["type"] == "CheckpointLoaderSimple"
    assert fed_by(result, node_of(result, APPLY), "motion_model")["type"] == LOADER
    assert report.word is Word.SAME


def test_nodes_keep_their_ids_and_what_is_not_replaced_stays():
    workflow = Legacy(context_options=uniform(16, 1, 4, "uniform", False))
    result, _ = translated(workflow)
    assert node_of(result, APPLY)["id"] == workflow.loader
    assert node_of(result, WINDOWS)["id"] == workflow.loader - 1
    before, after = workflow.nodes[0], node_of(result, "CheckpointLoaderSimple")
    assert {**before, "outputs": None} == {**after, "outputs": None}
    assert result["extra"] == workflow.json["extra"]


@pytest.mark.parametrize(
    ("widgets", "scale", "norms"),
    [
        (["mm_sd_v15_v2.ckpt", LINEAR], 1.0, NORMS_V2_AS_V1),  # before 2023-10-30
        (["mm_sd_v15_v2.ckpt", LINEAR, True], 1.0, NORMS_V2_AS_V1),  # 2023-10-19: a switch for group norms
        (["mm_sd_v15_v2.ckpt", LINEAR, 1.3, True, ""], 1.3, NORMS),  # 2024: with an empty entry
        (["mm_sd_v15_v2.ckpt", LINEAR, 1.3, False], 1.3, NORMS_V2_AS_V1),
        (["mm_sd_v15.ckpt", LINEAR, 1.0, True], 1.0, NORMS),
        (["folder\\of a name that tells nothing.ckpt", LINEAR, 1.0, True], 1.0, NORMS),
    ],
)
def test_each_version_of_the_legacy_loader(widgets, scale, norms):
    result, report = translated(Legacy(widgets))
    assert values(result, APPLY)[1] == scale
    assert values(result, APPLY)[5] == norms
    assert report.word is Word.SAME


@pytest.mark.parametrize(
    ("beta", "choice", "word"),
    [
        (LINEAR, "linear (AnimateDiff)", Word.SAME),
        ("linear (HotshotXL/default)", "scaled_linear (Stable Diffusion)", Word.SAME),
        ("linear (AnimateDiff-SDXL)", "scaled_linear 0.020 (AnimateDiff-SDXL)", Word.SAME),
        ("use existing", "keep model's", Word.SAME),
        ("autoselect", "auto", Word.SAME),
        ("lcm", "lcm 50, scaled_linear (Stable Diffusion)", Word.SAME),
        ("lcm >> sqrt_linear", "lcm 50, linear (AnimateDiff)", Word.SAME),
        ("lcm[100_ots]", "lcm 100, scaled_linear (Stable Diffusion)", Word.SAME),
        ("lcm[25_ots]", "lcm 50, scaled_linear (Stable Diffusion)", Word.NEAR),
        ("lcm avg(sqrt_linear,linear)", "lcm 50, mean of linear and scaled_linear", Word.SAME),
        ("avg(sqrt_linear,linear)", "mean of linear and scaled_linear", Word.SAME),
        ("cosine", "cosine (ComfyUI)", Word.SAME),
        ("squaredcos_cap_v2", "auto", Word.LOST),  # fails in ComfyUI 0.30, so in AnimateDiff-Evolved, too
        ("from another pack", "auto", Word.LOST),
    ],
)
def test_each_noise_schedule(beta, choice, word):
    result, report = translated(Legacy([V3, beta, 1.0, True]))
    assert values(result, APPLY)[0] == choice
    assert report.word is word


def test_autoselect_of_animatelcm_is_lcm():
    result, _ = translated(Legacy(["AnimateLCM_sd15_t2v.ckpt", "autoselect", 1.0, True]))
    assert values(result, APPLY)[0] == "lcm 50, scaled_linear (Stable Diffusion)"


SAMPLING = [5, "fixed", 20, 7.0, "euler", "normal", 1.0]
SCHEDULE = "LoomNoiseSchedule"


@pytest.mark.parametrize(
    ("beta", "choice"), [(LINEAR, "linear (AnimateDiff)"), ("lcm", "lcm 50, scaled_linear (Stable Diffusion)"), ("autoselect", None)]
)
def test_a_noise_schedule_without_a_motion_model_has_a_node_of_its_own(beta, choice):
    workflow = Workflow()
    model = workflow.add("ADE_UseEvolvedSampling", [beta], model=workflow.add("CheckpointLoaderSimple", ["a.safetensors"]))
    workflow.add("KSampler", SAMPLING, model=model)
    result, report = translated(workflow)
    made = [node["widgets_values"] for node in nodes_of(result, SCHEDULE)]
    assert made == ([] if choice is None else [[choice, "as the checkpoint does"]])
    assert fed_by(result, node_of(result, "KSampler"), "model")["type"] == WINDOWS
    assert report.word is Word.SAME


@pytest.mark.parametrize(
    ("beta", "choice"),
    [(LINEAR, "linear (AnimateDiff)"), ("lcm", "lcm 50, scaled_linear (Stable Diffusion)"), ("use existing", None), ("from elsewhere", None)],
)
def test_a_checkpoints_schedule_is_kept_for_samplers_without_motion(beta, choice):
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimpleWithNoiseSelect", ["a.safetensors", beta])
    free_u = workflow.add("FreeU_V2", [1, 1, 1, 1], model=checkpoint)
    loader = workflow.add("ADE_AnimateDiffLoaderGen1", [V3, LINEAR], model=free_u)
    still = workflow.add("KSampler", SAMPLING, model=free_u)
    workflow.add("KSampler", SAMPLING, model=loader)
    result, report = translated(workflow)
    schedules = nodes_of(result, SCHEDULE)
    origin = fed_by(result, node_of(result, "FreeU_V2"), "model")
    assert origin["type"] == ("CheckpointLoaderSimple" if choice is None else SCHEDULE)
    assert choice is None or origin["widgets_values"] == [choice, "as connected"]
    assert fed_by(result, next(node for node in result["nodes"] if node["id"] == still), "model")["type"] == "FreeU_V2"
    # The animated branch is set anew; of LCM the prediction would stay.
    assert len(schedules) == (0 if choice is None else 2 if beta == "lcm" else 1)
    above = fed_by(result, node_of(result, APPLY), "model")
    assert above["type"] == (SCHEDULE if beta == "lcm" else "FreeU_V2")
    assert beta != "lcm" or above["widgets_values"] == ["keep model's", "as the checkpoint does"]
    assert report.word is (Word.LOST if beta == "from elsewhere" else Word.SAME)


def test_a_checkpoints_schedule_that_nothing_samples_with_needs_no_node():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimpleWithNoiseSelect", ["a.safetensors", LINEAR])
    workflow.add("KSampler", SAMPLING, model=workflow.add("ADE_AnimateDiffLoaderGen1", [V3, LINEAR], model=checkpoint))
    assert nodes_of(translated(workflow)[0], SCHEDULE) == []


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_schedule_that_other_branches_need_stays_theirs(is_shared):
    workflow = Workflow()
    sampling = workflow.add("ModelSamplingDiscrete", ["lcm", False], model=workflow.add("CheckpointLoaderSimple", ["a.safetensors"]))
    free_u = workflow.add("FreeU_V2", [1, 1, 1, 1], model=sampling)
    workflow.add("KSampler", SAMPLING, model=free_u if is_shared else sampling)
    workflow.add("ADE_AnimateDiffLoaderGen1", [V3, LINEAR], model=free_u)
    result, report = translated(workflow)
    above = fed_by(result, node_of(result, APPLY), "model")
    assert above["type"] == (SCHEDULE if is_shared else "FreeU_V2")
    assert fed_by(result, node_of(result, "FreeU_V2"), "model")["type"] == ("ModelSamplingDiscrete" if is_shared else "CheckpointLoaderSimple")
    still = fed_by(result, node_of(result, "KSampler"), "model")
    assert still["type"] == ("FreeU_V2" if is_shared else "ModelSamplingDiscrete")
    assert report.word is Word.SAME


def test_of_two_loaders_in_a_row_the_last_one_counts():
    workflow = Workflow()
    second = workflow.add("FreeU_V2", [1, 1, 1, 1])
    last = workflow.add("ADE_AnimateDiffLoaderGen1", ["last.ckpt", LINEAR], model=second)
    workflow.add("KSampler", SAMPLING, model=last)
    first = workflow.add("ADE_AnimateDiffLoaderGen1", ["first.ckpt", LINEAR], model=workflow.add("CheckpointLoaderSimple", ["a"]))
    workflow.link(first, second, "model")
    result, report = translated(workflow)
    applied = fed_by(result, fed_by(result, node_of(result, "KSampler"), "model"), "model")
    assert fed_by(result, applied, "motion_model")["widgets_values"][0] == "last.ckpt"
    free_u = fed_by(result, applied, "model")
    assert free_u["type"] == "FreeU_V2"
    assert fed_by(result, free_u, "model")["type"] == "CheckpointLoaderSimple"
    assert report.word is Word.SAME


@pytest.mark.parametrize("mode", [2, 4])
def test_a_part_that_is_switched_off_is_translated_as_a_whole(mode):
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    context = workflow.add("ADE_StandardStaticContextOptions", [20, 5, "flat"], mode)
    loaded = workflow.add("ADE_LoadAnimateDiffModel", [V3], mode)
    applied = workflow.add("ADE_ApplyAnimateDiffModel", [0.1, 0.9], mode, motion_model=loaded)
    cfg = workflow.add("ADE_CustomCFGSimple", [2.5], mode)
    settings = workflow.add("ADE_AnimateDiffSamplingSettings", [0, "default", "comfy", 0], mode, custom_cfg=cfg)
    evolved = workflow.add(
        "ADE_UseEvolvedSampling", [LINEAR], mode, model=checkpoint, m_models=applied, context_options=context, sample_settings=settings
    )
    workflow.add("KSampler", SAMPLING, mode, model=evolved)
    result, report = translated(workflow)
    assert {node["type"] for node in result["nodes"] if node["mode"] == mode} == {LOADER, APPLY, WINDOWS, "KSampler"}
    assert values(result, APPLY)[3:5] == [0.1, 0.9]
    assert values(result, WINDOWS)[:2] == [20, 5]
    assert values(result, "KSampler")[3] == 2.5
    assert report.word is Word.SAME


def test_a_range_that_ends_before_it_starts_is_none():
    workflow = Workflow()
    loaded = workflow.add("ADE_LoadAnimateDiffModel", [V3])
    applied = workflow.add("ADE_ApplyAnimateDiffModel", [1.0, 0.0], motion_model=loaded)
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    workflow.add("ADE_UseEvolvedSampling", [LINEAR], model=checkpoint, m_models=applied)
    assert values(translated(workflow)[0], APPLY)[2:5] == [0.0, 0.0, 1.0]


def test_a_schedule_that_was_thrown_away_is_taken_out():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    sampling = workflow.add("ModelSamplingDiscrete", ["lcm", False], model=checkpoint)
    free_u = workflow.add("FreeU_V2", [1, 1, 1, 1], model=sampling)
    loader = workflow.add("ADE_AnimateDiffLoaderWithContext", [V3, LINEAR, 1.0, True], model=free_u)
    workflow.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=loader)
    result, report = translated(workflow)
    assert nodes_of(result, "ModelSamplingDiscrete") == []
    assert fed_by(result, node_of(result, "FreeU_V2"), "model")["type"] == "CheckpointLoaderSimple"
    assert report.word is Word.SAME


def test_several_motion_models_run_in_the_order_they_ran():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    first = workflow.add("ADE_ApplyAnimateDiffModel", [0.0, 0.5], motion_model=workflow.add("ADE_LoadAnimateDiffModel", ["first.ckpt"]))
    second = workflow.add(
        "ADE_ApplyAnimateDiffModel", [0.2, 1.0],
        motion_model=workflow.add("ADE_LoadAnimateDiffModel", [V3, ""]), prev_m_models=first,
    )  # fmt: skip
    evolved = workflow.add("ADE_UseEvolvedSampling", [LINEAR], model=checkpoint, m_models=second)
    workflow.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=evolved)
    result, report = translated(workflow)
    windows = fed_by(result, node_of(result, "KSampler"), "model")
    outer = fed_by(result, windows, "model")
    inner = fed_by(result, outer, "model")
    assert [node["widgets_values"][:5] for node in (outer, inner)] == [
        ["linear (AnimateDiff)", 1.0, 1.0, 0.2, 1.0], ["keep model's", 1.0, 1.0, 0.0, 0.5],
    ]  # fmt: skip
    assert fed_by(result, inner, "motion_model")["widgets_values"][0] == "first.ckpt"
    assert windows["id"] == evolved
    assert report.word is Word.SAME


def test_one_motion_model_for_two_branches_is_loaded_once():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    context = workflow.add("ADE_StandardStaticContextOptions", [16, 4, "pyramid"])
    lora = workflow.add("ADE_AnimateDiffLoRALoader", ["zoom.ckpt", 0.5])
    applied = workflow.add(
        "ADE_ApplyAnimateDiffModel", [0.0, 1.0], motion_model=workflow.add("ADE_LoadAnimateDiffModel", [V3]), motion_lora=lora
    )
    for _ in range(2):
        evolved = workflow.add("ADE_UseEvolvedSampling", [LINEAR], model=checkpoint, m_models=applied, context_options=context)
        workflow.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=evolved)
    result, _ = translated(workflow)
    assert len(nodes_of(result, LOADER)) == len(nodes_of(result, LORA)) == 1
    assert len(nodes_of(result, APPLY)) == len(nodes_of(result, WINDOWS)) == 2
    assert {node["type"] for node in result["nodes"]} == {"CheckpointLoaderSimple", LOADER, LORA, APPLY, WINDOWS, "KSampler"}


def test_motion_loras_stand_before_the_node_that_applies_and_bypassed_ones_stay_bypassed():
    def loras(workflow):
        first = workflow.add("ADE_AnimateDiffLoRALoader", ["first.ckpt", 0.3], mode=4)
        return workflow.add("ADE_AnimateDiffLoRALoader", ["second.ckpt", 0.7, ""], prev_motion_lora=first)

    result, report = translated(Legacy(motion_lora=loras))
    last = fed_by(result, node_of(result, APPLY), "motion_model")
    before = fed_by(result, last, "motion_model")
    assert [(node["widgets_values"], node["mode"]) for node in (before, last)] == [(["first.ckpt", 0.3], 4), (["second.ckpt", 0.7], 0)]
    assert report.word is Word.SAME


def test_a_motion_lora_without_a_saved_file_is_kept():
    result, _ = translated(Legacy(motion_lora=lambda workflow: workflow.add("ADE_AnimateDiffLoRALoader")))
    assert values(result, LORA) == ["", 1.0]


def test_settings_that_run_in_a_circle_come_to_an_end():
    """Set and Get nodes let the editor save such a graph; ComfyUI refuses to run it."""

    def settings(workflow):
        getter = workflow.add("GetNode", ["weights"])
        adjusted = workflow.add("ADE_AdjustWeightAllMult", [1.01, False], prev_weight_adjust=getter)
        workflow.add("SetNode", ["weights"], value=adjusted)
        return workflow.add("ADE_AnimateDiffSettings", weight_adjust=adjusted)

    result, _ = translated(Legacy(ad_settings=settings))
    assert values(result, LOADER) == [V3, 1.01]


def test_settings_from_a_node_of_another_pack_are_left_out_and_that_node_stays():
    workflow = Legacy(context_options=lambda workflow: workflow.add("Reroute", **{"": workflow.add("LoadImageMask")}))
    result, report = translated(workflow)
    assert node_of(result, "LoadImageMask")
    assert report.word is Word.LOST
    assert "context_options is left out: it came from 'LoadImageMask'." in str(report)


def test_a_bypassed_apply_point_stays_bypassed():
    workflow = Legacy()
    workflow.nodes[workflow.loader - 1]["mode"] = 4
    result, _ = translated(workflow)
    assert {node["mode"] for node in result["nodes"] if node["type"].startswith("Loom")} == {4}


def test_files_are_found_whatever_folder_and_capitals():
    result, _ = migrate(Legacy(["Sub\\V3_SD15_mm.ckpt", LINEAR, 1.0, True]).json, Files(("animatediff/v3_sd15_mm.ckpt",)))
    assert values(result, LOADER)[0] == "animatediff/v3_sd15_mm.ckpt"
    result, report = migrate(Legacy(["gone.ckpt", LINEAR, 1.0, True]).json, Files((V3,)))
    assert values(result, LOADER)[0] == "gone.ckpt"
    assert "'gone.ckpt' is not there" in str(report)


@pytest.mark.parametrize(
    ("saved", "scale", "word"),
    [("1.2", 1.2, Word.SAME), (1e9, 10.0, Word.NEAR), (-1, 0.0, Word.NEAR), (float("inf"), 1.0, Word.SAME), ({}, 1.0, Word.SAME),
     (None, 1.0, Word.SAME)],
)  # fmt: skip
def test_numbers_are_held_to_their_bounds_however_they_were_saved(saved, scale, word):
    result, report = translated(Legacy([V3, LINEAR, saved, True]))
    assert values(result, APPLY)[1] == scale
    assert report.word is word
    assert word is Word.SAME or f"which Loom does not take; now it is {scale}" in str(report)


# --- what varies -----------------------------------------------------------------------------------------------------------


class Gen1(Workflow):
    """A checkpoint, the Gen1 loader and KSampler, with whatever is connected to the loader."""

    def __init__(self, **links):
        super().__init__()
        checkpoint = self.add("CheckpointLoaderSimple", ["a.safetensors"])
        made = {name: link(self) for name, link in links.items()}
        loader = self.add("ADE_AnimateDiffLoaderGen1", [V3, "autoselect"], model=checkpoint, **made)
        self.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=loader)


def test_numbers_for_scale_and_effect():
    result, report = translated(
        Gen1(
            scale_multival=lambda w: w.add("ADE_MultivalDynamic", [1.1, ""]),
            effect_multival=lambda w: w.add("ADE_MultivalDynamic", [0.8], mask_optional=w.add("LoadImageMask")),
        )
    )
    applied = node_of(result, APPLY)
    assert applied["widgets_values"][1:3] == [1.1, 0.8]
    assert fed_by(result, applied, "strength_values")["type"] == "LoadImageMask"
    assert fed_by(result, applied, "motion_scale_values") is None
    assert report.word is Word.SAME


def test_a_linked_number_goes_where_numbers_for_frames_go():
    result, _ = translated(Gen1(scale_multival=lambda w: w.add("ADE_MultivalDynamic", [1.3], float_val=w.add("PrimitiveFloat", [1.2]))))
    applied = node_of(result, APPLY)
    assert applied["widgets_values"][1] == 1.0
    assert fed_by(result, applied, "motion_scale_values")["type"] == "PrimitiveFloat"
    assert applied["widgets_values"][6] is True  # the last value goes on


def test_keyframes_become_a_curve():
    def keyframes(workflow):
        first = workflow.add("ADE_AnimateDiffKeyframe", [0.0, True, 1], scale_multival=workflow.add("ADE_MultivalDynamic", [1.2]))
        return workflow.add(
            "ADE_AnimateDiffKeyframe", [0.5, True, 1], prev_ad_keyframes=first,
            scale_multival=workflow.add("ADE_MultivalDynamic", [0.9]),
        )  # fmt: skip

    result, report = translated(Legacy(ad_keyframes=keyframes))
    assert values(result, "LoomStepCurve") == ["0%: 1.2, 50%: 0.9", "hold"]
    applied = node_of(result, APPLY)
    assert fed_by(result, applied, "motion_scale_steps")["type"] == "LoomStepCurve"
    assert applied["widgets_values"][7] == "noise schedule"
    assert report.word is Word.SAME


@pytest.mark.parametrize(("inherits", "text"), [(True, "0%: 1, 30%: 0.5"), (False, "0%: 1, 30%: 0.5, 60%: 1")])
def test_keyframes_that_set_nothing_keep_or_end_what_was_set(inherits, text):
    def keyframes(workflow):
        first = workflow.add("ADE_AnimateDiffKeyframe", [0.3, True, 1], effect_multival=workflow.add("ADE_MultivalDynamic", [0.5]))
        return workflow.add("ADE_AnimateDiffKeyframe", [0.6, inherits, 0], prev_ad_keyframes=first)

    result, report = translated(Legacy(ad_keyframes=keyframes))
    assert values(result, "LoomStepCurve") == [text, "hold"]
    assert report.word is Word.NEAR
    assert "Each keyframe was kept for a step at least." in str(report)


@pytest.mark.parametrize(
    ("file", "node", "widgets", "expected"),
    [
        (V3, "ADE_AdjustPESweetspotStretch", [16, 20, False], {"stretch": 4, "stretch_from": 16}),
        (V3, "ADE_AdjustPESweetspotStretch", [16, 16, False], None),
        ("mm_sd_v15.ckpt", "ADE_AdjustPESweetspotStretch", [32, 36, False], {"stretch": 12, "stretch_from": 24}),  # it has 24
        (V3, "ADE_AdjustPEFullStretch", [3, False], {"stretch": 3, "stretch_from": 0}),
        (V3, "ADE_AdjustPEManual", [12, 24, 0, 2, False], {"stretch": 12, "stretch_from": 12, "offset": 2.0}),
        (V3, "ADE_AdjustPEManual", [0, 0, 4, 0, False], {"offset": 4.0}),
        ("AnimateLCM_sd15_t2v.ckpt", "ADE_AdjustPESweetspotStretch", [16, 20, False], None),  # its files store none
    ],
)
def test_stretched_positions(file, node, widgets, expected):
    def settings(workflow):
        return workflow.add("ADE_AnimateDiffSettings", pe_adjust=workflow.add(node, widgets))

    result, report = translated(Legacy([file, LINEAR, 1.0, True], ad_settings=settings))
    retimed = nodes_of(result, "LoomRetimeMotion")
    names = ("speed", "offset", "repeat", "repeat_frames", "extend", "across_windows", "stretch", "stretch_from")
    found = [dict(zip(names, node["widgets_values"], strict=True)) for node in retimed]
    untouched = {"speed": 1.0, "offset": 0.0, "repeat": "none", "repeat_frames": 16, "extend": False, "across_windows": False}
    assert found == ([] if expected is None else [untouched | {"stretch": 0, "stretch_from": 0} | expected])
    assert fed_by(result, node_of(result, APPLY), "motion_model")["type"] == (LOADER if expected is None else "LoomRetimeMotion")
    assert report.word is Word.SAME


def test_a_linked_stretch_stays_linked():
    def settings(workflow):
        return workflow.add("ADE_AnimateDiffModelSettingsSimple", [0, 1.0, 1.0], motion_pe_stretch=workflow.add("Frames", []))

    result, report = translated(Legacy(ad_settings=settings))
    assert fed_by(result, node_of(result, "LoomRetimeMotion"), "stretch")["type"] == "Frames"
    assert report.word is Word.SAME


def test_multiplied_weights():
    def settings(workflow):
        first = workflow.add("ADE_AdjustWeightAllMult", [1.5, False])
        both = workflow.add("ADE_AdjustWeightAllMult", [0.5, False], prev_weight_adjust=first)
        return workflow.add("ADE_AnimateDiffSettings", weight_adjust=both)

    result, report = translated(Legacy(ad_settings=settings))
    assert values(result, LOADER) == [V3, 0.75]
    assert report.word is Word.SAME


# --- schedules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "widgets", "text", "frames"),
    [
        ("", ["0 = 1.0, 8: = 0.5", False, 24], "0 = 1.0, 8: = 0.5", 24),
        ("", ["0 = 1.0", 24, False], "0 = 1.0", 24),  # 2024-08-09
        ("", ['"0": 1.0, "3:8": 2.0, "10": 1', False, 0], '"0": 1.0, "3:8": 2.0, "10": 1', 11),  # up to its last keyframe
        ("Latents", ["0 = 1.0, -1 = 2.0", False], "0 = 1.0, -1 = 2.0", 16),
    ],
)
@pytest.mark.parametrize("is_list", [False, True])
def test_values_over_frames(kind, widgets, text, frames, is_list):
    def schedule(workflow):
        links = {"latent": workflow.add("EmptyLatentImage", [64, 64, 12])} if kind else {}
        values = workflow.add(f"ADE_ValueScheduling{kind}", widgets, **links)
        if is_list:
            return workflow.add("ADE_MultivalDynamicFloats", floats=workflow.add("ADE_FloatToFloats", FLOAT=values))
        return workflow.add("ADE_MultivalDynamic", [1.0], float_val=values)

    result, report = translated(Gen1(scale_multival=schedule))
    made = fed_by(result, node_of(result, APPLY), "motion_scale_values")
    assert (made["type"], made["widgets_values"]) == ("LoomValueSchedule", [text, frames, "linear", 0.0, False])
    assert (fed_by(result, made, "latent") or {}).get("type") == ("EmptyLatentImage" if kind else None)
    assert report.word is Word.SAME


def test_values_for_other_packs_are_given_as_far_as_they_take_them():
    workflow = Workflow()
    values = workflow.add("ADE_ValueScheduling", ["0 = 1.0", False, 8])
    workflow.add("CreateHookKeyframesFromFloats", floats_strength=(values, 1))
    workflow.add("NumbersOfAnotherPack", float=(values, 0), int=(values, 2))
    result, report = translated(workflow)
    assert fed_by(result, node_of(result, "CreateHookKeyframesFromFloats"), "floats_strength")["type"] == "LoomValueSchedule"
    assert [entry["link"] for entry in node_of(result, "NumbersOfAnotherPack")["inputs"]] == [None, None]
    assert report.word is Word.LOST


@pytest.mark.parametrize(("text", "word"), [('0 = "a boat"', Word.SAME), ('0 = "a boat", 8 = "a ship"', Word.NEAR)])
@pytest.mark.parametrize("kind", ["", "Latents"])
def test_prompts_over_frames(kind, text, word):
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    links = {"latent": workflow.add("EmptyLatentImage", [64, 64, 12])} if kind else {}
    prompts = workflow.add(
        f"ADE_PromptScheduling{kind}", [text, False, *([] if kind else [12]), "slerp"], clip=(checkpoint, 1),
        prepend_text=workflow.add("PrimitiveString", ["bright"]), **links,
    )  # fmt: skip
    workflow.add("KSampler", SAMPLING, positive=prompts, **({"latent_image": (prompts, 1)} if kind else {}))
    result, report = translated(workflow)
    sampler, made = node_of(result, "KSampler"), node_of(result, "LoomPromptSchedule")
    assert fed_by(result, sampler, "positive") == made
    assert made["widgets_values"][1:5] == [16 if kind else 12, "linear", 0.0, "slerp"]
    joined = fed_by(result, made, "text")
    assert (joined["type"], joined["widgets_values"]) == ("StringConcatenate", ["", text, "\n"])
    assert fed_by(result, joined, "string_a")["type"] == "PrimitiveString"
    if kind:
        assert fed_by(result, made, "latent") == fed_by(result, sampler, "latent_image") == node_of(result, "EmptyLatentImage")
    assert report.word is word


# --- windows ---------------------------------------------------------------------------------------------------------------


def windows(result) -> dict:
    names = (
        "context_length", "context_overlap", "context_schedule", "fuse_method", "context_stride", "closed_loop", "freenoise",
        "freenoise_order", "cut_equal_length", "wide_windows", "count_steps_of",
    )  # fmt: skip
    return dict(zip(names, values(result, WINDOWS), strict=True))


def test_without_context_options_there_are_no_windows():
    result, _ = translated(Legacy(["AnimateLCM_sd15_t2v.ckpt", LINEAR, 1.0, True]))
    assert windows(result)["context_schedule"] == "none"


@pytest.mark.parametrize(
    ("closed", "used", "expected"),
    [(True, False, "never"), (True, True, "always"), (False, True, "always"), (False, False, "closed loops")],
)
def test_clips_of_as_many_frames_as_a_window_are_cut_as_they_were(closed, used, expected):
    context = uniform(16, 1, 4, "uniform", closed, "flat", used, 0.0, 1)
    result, report = translated(Legacy(context_options=context))
    assert windows(result)["cut_equal_length"] == expected
    assert windows(result)["closed_loop"] is closed
    assert report.word is Word.SAME


def test_uniform_windows_move_and_widen_as_they_did():
    result, report = translated(Legacy(context_options=uniform(16, 2, 4, "uniform", False, "overlap-linear")))
    found = windows(result)
    assert (found["wide_windows"], found["count_steps_of"]) == ("wrap around", "this run")
    assert found["fuse_method"] == "overlap-linear, open ends"
    assert report.word is Word.SAME


def test_windows_overlap_by_less_than_their_length():
    result, report = translated(Legacy(context_options=uniform(8, 1, 8, "uniform", False, "flat")))
    assert values(result, WINDOWS)[:2] == [8, 7]
    assert "context_overlap was 8; now it is 7, less than context_length." in str(report)


def test_views_follow_the_windows():
    def context(workflow):
        view = workflow.add("ADE_StandardStaticViewOptions", [12, 3, "flat"])
        return workflow.add("ADE_StandardStaticContextOptions", [32, 8, "relative", False, 0.0, 1], view_opts=view)

    result, report = translated(Legacy(context_options=context))
    assert values(result, WINDOWS)[:7] == [32, 8, "standard_static", "relative", 1, False, False]
    assert values(result, "LoomViewWindows") == [12, 3, "flat", False]
    assert fed_by(result, node_of(result, "KSampler"), "model")["type"] == "LoomViewWindows"
    assert report.word is Word.SAME


# --- sample settings -------------------------------------------------------------------------------------------------------


def sample_settings(*widgets, **links):
    def add(workflow):
        made = {name: link(workflow) for name, link in links.items()}
        return workflow.add("ADE_AnimateDiffSamplingSettings", list(widgets), **made)

    return add


@pytest.mark.parametrize(
    "widgets", [["comfy"], [0, "default", "comfy"], [0, "default", "comfy", 0, True], [0, "default", "comfy", 0, 7, False, ""]]
)
def test_settings_that_say_nothing(widgets):
    result, report = translated(Legacy(sample_settings=sample_settings(*widgets)))
    assert values(result, "KSampler")[0] == 5
    assert report.word is Word.SAME


def static(*widgets, view=None):
    def add(workflow):
        links = {} if view is None else {"view_opts": workflow.add("ADE_StandardStaticViewOptions", view)}
        return workflow.add("ADE_StandardStaticContextOptions", list(widgets), **links)

    return add


def test_freenoise_goes_where_frames_are_seen_together():
    settings = sample_settings(0, "FreeNoise", "comfy", 0)
    result, report = translated(Legacy(sample_settings=settings, context_options=static(16, 4, "flat")))
    assert (windows(result)["freenoise"], windows(result)["freenoise_order"]) == (True, "as published")
    assert report.word is Word.SAME
    result, _ = translated(Legacy(sample_settings=settings, context_options=static(32, 8, "flat", view=[12, 3, "flat"])))
    assert windows(result)["freenoise"] is False
    assert values(result, "LoomApplyFreeNoise") == [12, 3, False, "as published"]
    result, _ = translated(Legacy(sample_settings=settings))  # all frames see one another, and nothing was shuffled
    assert windows(result)["freenoise"] is False
    assert not nodes_of(result, "LoomApplyFreeNoise")


@pytest.mark.parametrize(
    ("widgets", "expected"),
    [
        ([0, "default", "comfy", 3], [3, "one seed", 0, "each frame its own", 16]),
        ([2, "FreeNoise", "auto1111", 0], [0, "a seed per frame", 2, "each frame its own", 16]),
        ([0, "repeated_context", "comfy [gpu]", 0], [0, "one seed, on the GPU", 0, "again in every window", 24]),
        ([0, "constant", "comfy", 0], [0, "one seed", 0, "the same in all frames", 24]),
        ([0, "empty", "comfy", 1], [1, "one seed", 0, "none", 24]),
    ],
)
def test_other_noise_has_a_node_of_its_own(widgets, expected):
    result, report = translated(Legacy(sample_settings=sample_settings(*widgets), context_options=static(24, 4, "flat")))
    assert values(result, "LoomStartingNoise") == expected
    assert fed_by(result, node_of(result, "KSampler"), "model")["type"] == "LoomStartingNoise"
    assert values(result, "KSampler")[:2] == [5, "fixed"]
    assert report.word is Word.SAME


def test_a_linked_seed_is_the_starts_alone():
    settings = sample_settings(0, "default", "comfy", 0, seed_override=lambda w: w.add("PrimitiveInt", [9]))
    result, report = translated(Legacy(sample_settings=settings))
    assert fed_by(result, node_of(result, "LoomStartingNoise"), "seed")["type"] == "PrimitiveInt"
    assert report.word is Word.SAME


def test_custom_cfg_is_written_into_the_sampler():
    settings = sample_settings(0, "default", "comfy", 0, custom_cfg=lambda w: w.add("ADE_CustomCFGSimple", [2.5, ""]))
    result, report = translated(Legacy(sample_settings=settings))
    assert values(result, "KSampler")[3] == 2.5
    assert report.word is Word.SAME


def test_a_connected_noise_schedule_stands_above_the_loaders():
    settings = sample_settings(0, "default", "comfy", 0, sigma_schedule=lambda w: w.add("ADE_SigmaSchedule", ["lcm"]))
    result, _ = translated(Legacy(sample_settings=settings))
    assert values(result, APPLY)[0] == "lcm 50, scaled_linear (Stable Diffusion)"


def test_freeinit():
    def options(workflow):
        return workflow.add("ADE_IterationOptsFreeInit", [3, "gaussian", 0.2, 0.3, 5, 999, False, "FreeInit [sampler sigma]", 0, 1])

    result, report = translated(Legacy(sample_settings=sample_settings(0, "default", "comfy", 0, iteration_opts=options)))
    assert values(result, "LoomFreeInit") == [3, "gaussian", 0.2, 0.3, 5, False, "previous noise", "FreeInit"]
    assert fed_by(result, node_of(result, "KSampler"), "model")["type"] == "LoomFreeInit"
    assert report.word is Word.SAME


# --- beside the motion ---------------------------------------------------------------------------------------------------


def test_loaders_latents_and_savers():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimpleWithNoiseSelect", ["a.safetensors", LINEAR, False, 0.18215])
    latent = workflow.add("ADE_EmptyLatentImageLarge", [384, 256, 48])
    loader = workflow.add("ADE_AnimateDiffLoaderGen1", [V3, LINEAR], model=checkpoint)
    sampler = workflow.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=loader, latent_image=latent)
    decoded = workflow.add("VAEDecode", samples=sampler, vae=(checkpoint, 2))
    workflow.add("ADE_AnimateDiffCombine", [12, 0, "films/one", "image/webp", False, True], images=decoded)
    result, report = translated(workflow)
    assert values(result, "CheckpointLoaderSimple") == ["a.safetensors"]
    assert values(result, "LoomEmptyAnimationLatent") == [384, 256, 48]
    assert values(result, "SaveAnimatedWEBP")[:2] == ["films/one", 12]
    assert fed_by(result, node_of(result, "VAEDecode"), "vae")["type"] == "CheckpointLoaderSimple"
    assert report.word is Word.SAME


def test_what_a_saver_did_otherwise_is_said():
    workflow = Workflow()
    workflow.add("ADE_AnimateDiffCombine", [8, 3, "film", "image/webp", True, False], images=workflow.add("VAEDecode"))
    _, report = translated(workflow)
    assert all(word in str(report) for word in ("It was only shown", "loop_count"))


@pytest.mark.parametrize("source", ["EmptyLatentImage", "VAEEncode"])
def test_images_are_scaled_to_a_latents_size(source):
    workflow = Workflow()
    vae = (workflow.add("CheckpointLoaderSimple", ["a.safetensors"]), 2)
    latent = workflow.add(source, [384, 256, 16] if source == "EmptyLatentImage" else [])
    encoded = workflow.add(
        "ADE_UpscaleAndVAEEncode", ["lanczos", "center"], image=workflow.add("VAEDecode"), vae=vae, latent_size=latent
    )
    workflow.add("KSampler", SAMPLING, latent_image=encoded)
    result, report = translated(workflow)
    start = fed_by(result, node_of(result, "KSampler"), "latent_image")
    scaled = fed_by(result, start, "pixels")
    assert (start["type"], scaled["type"]) == ("VAEEncode", "ImageScale")
    assert scaled["widgets_values"][::3] == ["lanczos", "center"]
    if source == "EmptyLatentImage":
        assert scaled["widgets_values"][1:3] == [384, 256]
    else:
        assert fed_by(result, scaled, "width") == fed_by(result, scaled, "height") == node_of(result, "GetImageSize")
    assert report.word is Word.SAME


def test_a_clip_that_ran_forth_and_back_still_does():
    for type, widgets in (
        ("ADE_AnimateDiffCombine", [8, 0, "film", "image/gif", True, True]), ("ADE_AnimateDiffCombine", [8, 0, True, "film", True]),
        ("AnimateDiffCombine", [8, 0, "Enabled", "film", "video/h264-mp4", True]),
    ):  # fmt: skip
        workflow = Workflow()
        workflow.add(type, widgets, images=workflow.add("VAEDecode"))
        result, report = translated(workflow)
        saver = "CreateVideo" if "video/h264-mp4" in widgets else "SaveAnimatedWEBP"
        both_ways = fed_by(result, node_of(result, saver), "images")
        assert both_ways["type"] == "LoomPingPong"
        assert fed_by(result, both_ways, "images")["type"] == "VAEDecode"
        assert report.word is Word.SAME


def test_a_whole_number_is_converted_where_any_number_is_taken():
    workflow = Workflow()
    rate = workflow.add("PrimitiveInt", [12])
    images = workflow.add("VAEDecode")
    workflow.add("ADE_AnimateDiffCombine", [8, 0, "film", "image/webp", False, True], images=images, frame_rate=rate)
    result, _ = translated(workflow)
    convert = fed_by(result, node_of(result, "SaveAnimatedWEBP"), "fps")
    assert convert["type"] == "ComfyNumberConvert"
    assert convert["outputs"][0]["links"]  # its FLOAT
    assert fed_by(result, convert, "value")["type"] == "PrimitiveInt"


def test_what_a_socket_does_not_take_is_said_to_be_lost():
    workflow = Workflow()
    images = workflow.add("VAEDecode")
    rate = workflow.add("LoadImageMask")
    workflow.add("ADE_AnimateDiffCombine", [8, 0, "film", "image/webp", False, True], images=images, frame_rate=rate)
    result, report = translated(workflow)
    assert fed_by(result, node_of(result, "SaveAnimatedWEBP"), "fps") is None
    assert "fps is not linked any more: MASK cannot be linked to it." in str(report)


def test_the_motion_is_taken_off_again_but_its_noise_schedule_stays():
    workflow = Legacy()
    unload = workflow.add("ADE_AnimateDiffUnload", model=workflow.loader)
    workflow.add("KSampler", [6, "fixed", 20, 7.0, "euler", "normal", 1.0], model=unload)
    result, report = translated(workflow)
    off = next(node for node in nodes_of(result, APPLY) if node["id"] == unload)
    assert off["widgets_values"][:5] == ["linear (AnimateDiff)", 1.0, 0.0, 0.0, 1.0]
    assert fed_by(result, off, "model")["type"] == "CheckpointLoaderSimple"
    assert report.word is Word.SAME


def test_the_other_packs_sampler_becomes_three_nodes():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    lora = workflow.add("AnimateDiffLoraLoader", ["zoom.ckpt", 0.6])
    module = workflow.add("AnimateDiffModuleLoader", ["mm_sd_v15_v2.ckpt"], lora_stack=lora)
    latent = workflow.add("EmptyLatentImage", [512, 512, 1])
    sampler = workflow.add(
        "AnimateDiffSampler", ["default", 14, 3, "randomize", 25, 7.5, "ddim", "ddim_uniform", 1.0],
        motion_module=module, model=checkpoint, latent_image=latent,
    )  # fmt: skip
    workflow.add("VAEDecode", samples=sampler, vae=(checkpoint, 2))
    result, report = translated(workflow)
    assert values(result, "KSampler") == [3, "fixed", 25, 7.5, "ddim", "ddim_uniform", 1.0]
    assert values(result, WINDOWS)[:4] == [16, 4, "looped_uniform", "flat"]
    assert values(result, LORA) == ["zoom.ckpt", 0.6]
    assert values(result, "EmptyLatentImage")[2] == 14
    assert node_of(result, "KSampler")["id"] == sampler
    assert fed_by(result, node_of(result, "VAEDecode"), "samples")["type"] == "KSampler"
    assert report.word is Word.SAME


@pytest.mark.parametrize(("source", "widgets", "frames"), [("VAEEncode", [], 120), ("EmptyLatentImage", [512, 512, 2], 14)])
def test_the_other_packs_sampler_repeats_the_last_frame(source, widgets, frames):
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    sampling = workflow.add("ModelSamplingDiscrete", ["lcm", False], model=checkpoint)
    module = workflow.add("AnimateDiffModuleLoader", ["mm_sd_v15.ckpt"])
    workflow.add(
        "AnimateDiffSampler", ["default", frames, 3, "fixed", 25, 7.5, "lcm", "simple", 1.0],
        motion_module=module, model=sampling, latent_image=workflow.add(source, widgets),
    )  # fmt: skip
    result, report = translated(workflow)
    repeated = fed_by(result, node_of(result, "KSampler"), "latent_image")
    assert (repeated["type"], repeated["widgets_values"]) == ("LoomRepeatLastFrame", [frames])
    assert fed_by(result, repeated, "latent")["type"] == source
    assert values(result, APPLY)[0] == "keep model's"  # ComfyUI's node stands above that pack's schedule
    assert values(result, APPLY)[5] == "all over frames"
    assert report.word is Word.SAME


# --- wiring --------------------------------------------------------------------------------------------------------------


def test_reroutes_and_set_and_get_lead_on():
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    context = workflow.add("ADE_StandardStaticContextOptions", [20, 5, "flat"])
    rerouted = workflow.add("Reroute", **{"": context})
    workflow.add("SetNode", ["windows"], value=rerouted)
    getter = workflow.add("GetNode", ["windows"])
    for node in workflow.nodes[-3:]:  # as the editor types what goes through
        for entry in (*node["inputs"], *node["outputs"]):
            entry["type"] = "CONTEXT_OPTIONS"
    loader = workflow.add("ADE_AnimateDiffLoaderWithContext", [V3, LINEAR, 1.0, True], model=checkpoint, context_options=getter)
    workflow.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=loader)
    result, _ = translated(workflow)
    assert values(result, WINDOWS)[:4] == [20, 5, "standard_static", "flat"]
    assert {node["type"] for node in result["nodes"]} == {"CheckpointLoaderSimple", LOADER, APPLY, WINDOWS, "KSampler"}


def test_the_apis_form_is_translated_alike():
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "2": {"class_type": "ADE_AnimateDiffUniformContextOptions", "inputs": {
            "context_length": 16, "context_stride": 1, "context_overlap": 2, "context_schedule": "uniform", "closed_loop": False}},
        "3": {"class_type": "ADE_AnimateDiffLoaderWithContext", "inputs": {
            "model_name": V3, "beta_schedule": LINEAR, "motion_scale": 1.1, "model": ["1", 0], "context_options": ["2", 0]}},
        "4": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["3", 0]}, "_meta": {"title": "Sampling"}},
    }  # fmt: skip
    before = copy.deepcopy(prompt)
    result, report = migrate(prompt)
    assert prompt == before
    assert result["3"]["class_type"] == APPLY
    assert result["3"]["inputs"]["model"] == ["1", 0]
    assert result["3"]["inputs"]["motion_scale"] == 1.1
    assert result["2"]["class_type"] == WINDOWS
    assert result["2"]["inputs"] | {"model": None} == {
        "model": None, "context_length": 16, "context_overlap": 2, "context_schedule": "looped_uniform", "fuse_method": "flat",
        "context_stride": 1, "closed_loop": False, "freenoise": False, "freenoise_order": "any window",
        "cut_equal_length": "closed loops", "wide_windows": "leave out", "count_steps_of": "this run",
    }  # fmt: skip
    assert result["4"] == {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["2", 0]}, "_meta": {"title": "Sampling"}}
    assert result["1"] == prompt["1"]
    assert report.word is Word.SAME


def test_comments_in_a_prompt_stay():
    prompt = {"_comment": "mine", "1": {"class_type": "ADE_EmptyLatentImageLarge", "inputs": {"width": 64, "height": 64, "batch_size": 2}}}
    assert needs_migration(prompt)
    result, _ = migrate(prompt)
    assert result["_comment"] == "mine"
    assert result["1"]["class_type"] == "LoomEmptyAnimationLatent"


def test_translated_once_more_nothing_changes():
    result, _ = translated(Legacy(context_options=uniform(16, 1, 4, "uniform", False)))
    assert not needs_migration(result)
    assert migrate(result)[0] == result


def test_a_workflow_of_other_nodes_stays_as_it_is():
    workflow = Workflow()
    workflow.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=workflow.add("CheckpointLoaderSimple", ["a"]))
    result, report = migrate(workflow.json)
    assert result == workflow.json
    assert report.entries == []


def test_links_that_were_saved_as_nothing_are_left_out():
    workflow = Legacy()
    saved = workflow.json | {"links": [*workflow.links, None]}
    assert migrate(saved)[0] == migrate(workflow.json)[0]


def test_what_is_no_workflow_is_refused():
    for wrong in ({}, [], None, 5, "text", {"nodes": 5}, {"1": {"inputs": {}}}):
        with pytest.raises(UnknownWorkflow):
            migrate(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nodes": [5]}, "5 is no node"),
        ({"nodes": [{"type": "ADE_UseEvolvedSampling"}]}, "None is no id of a node"),
        ({"nodes": [{"id": [1], "type": "ADE_UseEvolvedSampling"}]}, r"\[1\] is no id of a node"),
        ({"nodes": [{"id": 1}]}, "node 1 has no type"),
        ({"nodes": [{"id": 1, "type": "ADE_UseEvolvedSampling", "inputs": "x"}]}, "the inputs of node 1 are no list of objects"),
        ({"links": {"a": 1}}, "'links' is no list"),
        ({"links": [[1, 2, 3]]}, r"\[1, 2, 3\] is no link"),
        ({"links": [{"id": 1}]}, "{'id': 1} is no link"),
        ({"extra": "x"}, "'extra' is no object"),
        ({"extra": {"groupNodes": {"a": {}}}}, "a group node has no nodes"),
        ({"definitions": 5}, "'definitions' is no object"),
        ({"definitions": {"subgraphs": [{}]}}, "a subgraph has no id or no nodes"),
    ],
)
def test_a_damaged_workflow_gets_a_sentence(wrong, said):
    damaged = {**Legacy().json, **wrong}
    for use in (migrate, needs_migration):
        with pytest.raises(UnknownWorkflow, match=f"This workflow is damaged: {said}.$"):
            use(damaged)


def test_a_workflow_of_more_nodes_than_anyone_makes_gets_a_sentence():
    prompt = {str(number): {"class_type": "ADE_AnimateDiffLoaderGen1", "inputs": {}} for number in range(401)}
    with pytest.raises(UnknownWorkflow, match="This workflow has 401 nodes of other AnimateDiff packs; at most 400 are translated.$"):
        migrate(prompt)


def test_a_damaged_prompt_gets_a_sentence():
    with pytest.raises(UnknownWorkflow, match="This workflow is damaged: the inputs of node '7' are no object.$"):
        migrate({"7": {"class_type": "ADE_UseEvolvedSampling", "inputs": 5}})


def test_where_all_is_full_new_nodes_stand_below():
    workflow = Legacy(context_options=uniform(16, 1, 4, "uniform", False))
    wall = workflow.nodes[0]
    wall |= {"pos": [-50_000, -50_000], "size": [100_000, 100_000]}
    result, _ = translated(workflow)
    assert all(pair(node["pos"])[1] > 50_000 for node in result["nodes"] if node["type"].startswith("Loom"))
    boxes = [Box(*pair(node["pos"]), *pair(node["size"])) for node in result["nodes"] if node["type"].startswith("Loom")]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_new_nodes_overlap_no_other():
    workflow = Legacy(context_options=uniform(16, 1, 4, "uniform", False))
    result, _ = translated(workflow)
    boxes = [Box(*pair(node["pos"]), *pair(node["size"])) for node in result["nodes"]]
    touching = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    ours = [pair for pair in touching if not all(box.width == 300 for box in pair)]  # 300: nodes that were there before
    assert ours == []
