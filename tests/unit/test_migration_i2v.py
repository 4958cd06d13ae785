"""AnimateDiff-Evolved's nodes for AnimateLCM-I2V: each way to wire them."""

from __future__ import annotations

from pack.migration.report import Word

from .test_migration import APPLY, LOADER, V3, translated, values
from .workflows import Workflow, fed_by, node_of, nodes_of

I2V, IMAGE = "AnimateLCM_sd15_i2v.ckpt", "LoomAnimateLcmImage"


def animated(loader, *widgets, **links):
    """A workflow that applies what ``loader`` adds and returns, with an image's latent."""
    workflow = Workflow()
    checkpoint = workflow.add("CheckpointLoaderSimple", ["a.safetensors"])
    latent = workflow.add("EmptyLatentImage", [512, 512, 1])
    made = {name: link(workflow) for name, link in links.items()}
    applied = workflow.add("ADE_ApplyAnimateLCMI2VModel", list(widgets), motion_model=loader(workflow), ref_latent=latent, **made)
    evolved = workflow.add("ADE_UseEvolvedSampling", ["autoselect"], model=checkpoint, m_models=applied)
    workflow.add("KSampler", [5, "fixed", 4, 1.0, "lcm", "sgm_uniform", 1.0], model=evolved, latent_image=latent)
    return translated(workflow)


def load_i2v(workflow: Workflow) -> int:
    return workflow.add("ADE_LoadAnimateLCMI2VModel", [I2V])


def test_an_image_stands_between_loading_and_applying():
    result, report = animated(load_i2v, 0.3, False, 0.1, 0.9)
    image = fed_by(result, node_of(result, APPLY), "motion_model")
    assert image["type"] == IMAGE
    assert image["widgets_values"] == [0.3, 1.0, 0.1, 0.9]
    assert fed_by(result, image, "image")["type"] == "EmptyLatentImage"
    assert fed_by(result, image, "motion_model")["widgets_values"] == [I2V, 1.0]
    assert values(result, APPLY)[:5] == ["lcm 50, scaled_linear (Stable Diffusion)", 1.0, 1.0, 0.1, 0.9]
    assert report.word is Word.SAME
    assert not any(node["type"].startswith("ADE_") for node in result["nodes"])


def test_widgets_of_older_versions_and_an_image_that_counts_without_motion():
    assert values(animated(load_i2v, 0.3, 0.1, 0.9)[0], IMAGE) == [0.3, 1.0, 0.1, 0.9]
    result, _ = animated(load_i2v, 0.3, True, 0.1, 0.9)
    assert values(result, IMAGE) == [0.3, 1.0, 0.0, 1.0]
    assert values(result, APPLY)[3:5] == [0.1, 0.9]


def test_an_encoder_alone_adds_the_image_and_no_motion():
    def before(workflow):
        return workflow.add("ADE_ApplyAnimateDiffModel", [0.0, 1.0], motion_model=workflow.add("ADE_LoadAnimateDiffModel", [V3]))

    result, report = animated(lambda workflow: (load_i2v(workflow), 1), 0.0, False, 0.0, 1.0, prev_m_models=before)
    encoder, motion = sorted(nodes_of(result, APPLY), key=lambda node: -node["widgets_values"][3])
    assert fed_by(result, encoder, "motion_model")["type"] == IMAGE
    assert encoder["widgets_values"][3:5] == [1.0, 1.0]
    assert values(result, IMAGE) == [0.0, 1.0, 0.0, 1.0]
    assert fed_by(result, motion, "motion_model")["widgets_values"][0] == V3
    assert report.word is Word.SAME


def test_an_encoder_in_another_motion_model():
    def loader(workflow):
        return workflow.add("ADE_InjectI2VIntoAnimateDiffModel", [V3, ""], motion_model=load_i2v(workflow))

    result, report = animated(loader, 0.5, False, 0.0, 1.0)
    image = node_of(result, IMAGE)
    assert fed_by(result, image, "motion_model")["widgets_values"][0] == V3
    assert fed_by(result, image, "image_encoder")["widgets_values"][0] == I2V
    assert len(nodes_of(result, LOADER)) == 2
    assert report.word is Word.SAME


def test_the_effect_counts_for_the_image_too():
    result, report = animated(load_i2v, 0.0, False, 0.0, 1.0, effect_multival=lambda w: w.add("ADE_MultivalDynamic", [0.5]))
    assert values(result, IMAGE)[1] == 0.5
    assert report.word is Word.NEAR
