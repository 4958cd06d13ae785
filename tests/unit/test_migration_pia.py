"""PIA in translated workflows, and nodes of other packs that need AnimateDiff-Evolved."""

from __future__ import annotations

import pytest
from pack.migration.report import Word

from .test_migration import APPLY, LOADER, Legacy, translated, values
from .workflows import Workflow, fed_by, node_of

IMAGE = "LoomPiaImage"


class Pia(Workflow):
    """A checkpoint, an image, the nodes that apply PIA, and KSampler, with whatever is connected to the one that applies."""

    def __init__(self, file="pia.ckpt", latent="EmptyLatentImage", image="LoadImage", **links):
        super().__init__()
        checkpoint = self.add("CheckpointLoaderSimple", ["a.safetensors"])
        picture = (self.add(image, ["a.png", "image"]), 0)
        frames = self.add(latent, [512, 384, 16])
        made = {name: link(self) for name, link in links.items()}
        loaded = self.add("ADE_LoadAnimateDiffModel", [file])
        applied = self.add(
            "ADE_ApplyAnimateDiffModelWithPIA", [0.1, 0.9], motion_model=loaded, image=picture, vae=(checkpoint, 2), **made
        )
        evolved = self.add("ADE_UseEvolvedSampling", ["autoselect"], model=checkpoint, m_models=applied)
        self.add("KSampler", [5, "fixed", 20, 7.0, "euler", "normal", 1.0], model=evolved, latent_image=frames)


def factor(number, **links):
    return lambda workflow: workflow.add(
        "ADE_MultivalDynamic", [number], **{name: workflow.add(type) for name, type in links.items()}
    )


def similarity(multival):
    return lambda workflow: workflow.add("ADE_InputPIA_Multival", multival=multival(workflow))


def preset(name, frame=0, multival=None):
    return lambda workflow: workflow.add(
        "ADE_InputPIA_PaperPresets", [name, frame, False], **({} if multival is None else {"mult_multival": multival(workflow)})
    )


def test_the_image_stands_between_the_motion_model_and_apply():
    result, report = translated(Pia())
    applied, image = node_of(result, APPLY), node_of(result, IMAGE)
    assert fed_by(result, applied, "motion_model")["type"] == IMAGE
    assert applied["widgets_values"][3:5] == [0.1, 0.9]
    assert fed_by(result, image, "motion_model")["type"] == LOADER
    assert fed_by(result, image, "vae")["type"] == "CheckpointLoaderSimple"
    scaled = fed_by(result, image, "image")
    assert scaled["widgets_values"] == ["bilinear", 512, 384, "center"]
    assert fed_by(result, scaled, "image")["type"] == "LoadImage"
    assert fed_by(result, image, "similarity_values")["widgets_values"] == [1.0]  # each frame just like the image
    assert report.word is Word.SAME


@pytest.mark.parametrize(
    ("pia_input", "source", "widgets", "word"),
    [
        (similarity(factor(0.7)), "PrimitiveFloat", [0, "medium motion", 1.0, False], Word.SAME),
        (similarity(factor(0.7, mask_optional="LoadImageMask")), "LoadImageMask", [0, "medium motion", 0.7, True], Word.SAME),
        (similarity(factor(0.7, float_val="PrimitiveFloat")), "PrimitiveFloat", [0, "medium motion", 1.0, True], Word.SAME),
        (preset("Animation (Large Motion)", 5), None, [5, "large motion", 1.0, False], Word.SAME),
        (preset("Loop (Small Motion)", -1, factor(0.9)), None, [-1, "mirrored loop, small motion", 0.9, False], Word.SAME),
        (preset("Style Transfer (Small Motion)", 0, factor(0.9, mask_optional="LoadImageMask")), None,
         [0, "style transfer, small motion", 1.0, False], Word.LOST),
    ],
)  # fmt: skip
def test_each_pia_input(pia_input, source, widgets, word):
    result, report = translated(Pia(pia_input=pia_input))
    image = node_of(result, IMAGE)
    assert image["widgets_values"] == widgets
    found = fed_by(result, image, "similarity_values")
    assert (found and found["type"]) == source
    assert report.word is word, str(report)


def test_of_a_latent_of_unknown_size_it_is_said_that_resizing_differs():
    result, report = translated(Pia(latent="VAEEncode", image="VAEDecode"))
    assert not [node for node in result["nodes"] if node["type"] == "ImageScale" and node["widgets_values"][1:3] == [512, 384]]
    assert "An image of another size than the animation's" in str(report)
    assert "PIA Image takes one image." in str(report)


def test_pias_image_input_goes_into_another_motion_model():
    workflow = Pia()
    ids = {node["type"]: node["id"] for node in workflow.nodes}
    loaded, applied = ids["ADE_LoadAnimateDiffModel"], ids["ADE_ApplyAnimateDiffModelWithPIA"]
    workflow.link(workflow.add("ADE_InjectPIAIntoAnimateDiffModel", ["v3.ckpt"], motion_model=loaded), applied, "motion_model")
    result, report = translated(workflow)
    merged = fed_by(result, node_of(result, IMAGE), "motion_model")
    assert merged["type"] == "LoomMergeMotionModels"
    assert merged["widgets_values"] == [0.0]
    files = [fed_by(result, merged, f"motion_model_{number}")["widgets_values"][0] for number in (1, 2)]
    assert files == ["pia.ckpt", "v3.ckpt"]
    assert report.word is Word.SAME, str(report)


def test_keyframes_of_pia_keep_all_but_their_image_inputs():
    def keyframe(workflow):
        return workflow.add(
            "ADE_PIA_AnimateDiffKeyframe", [0.0, True, 1], scale_multival=factor(1.2)(workflow), pia_input=preset("Loop (Small Motion)")(workflow)
        )

    result, report = translated(Pia(ad_keyframes=keyframe))
    assert values(result, "LoomStepCurve") == ["0%: 1.2", "hold"]
    assert "PIA inputs of keyframes are left out" in str(report)


def test_pia_without_an_image_is_said_to_need_one():
    _, report = translated(Legacy(widgets=("pia.ckpt", "autoselect", 1.0, True)))
    assert "PIA ran without an image, which Loom refuses" in str(report)


@pytest.mark.parametrize(("mode", "is_said"), [(0, True), (4, False)])
def test_what_needs_the_other_pack_stays_and_says_so(mode, is_said):
    workflow = Legacy()
    kept = workflow.add("ACN_SparseCtrlLoaderAdvanced", ["v3_sd15_sparsectrl_rgb.ckpt", True, 1, 1], mode)
    result, report = translated(workflow)
    assert next(node for node in result["nodes"] if node["id"] == kept)["type"] == "ACN_SparseCtrlLoaderAdvanced"
    assert ("have that pack installed, too" in str(report)) == is_said
    assert report.word is Word.SAME
