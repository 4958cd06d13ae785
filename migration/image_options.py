"""The image that PIA animates: what AnimateDiff-Evolved's nodes set of it, as inputs of PIA Image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import rules
from .graph import Graph, Json, Node, Output
from .motion_options import Settings, factor_of
from .window_options import samplers_of

if TYPE_CHECKING:
    from .translate import Translation, Use

_VARIES = "mult_multival is left out: PIA Image multiplies its presets by one number only."
_RESIZED = "An image of another size than the animation's was resized without smoothing; PIA Image smooths it."
_ONE_IMAGE = "PIA Image takes one image. Of a batch, each frame had one: pick the first with Get Image from Batch."


def image_nodes(translation: Translation, use: Use, motion_model: Output, apply: Node, found: Settings) -> list[Node]:
    """Put PIA Image behind a motion model, with what feeds it; the last node gives the motion model that has the image."""
    node, links = use.node, translation.new.nodes[use.node.id]
    made: list[Node] = []
    if use.loader.type == rules.INJECT_PIA and (merged := _with_image_input(translation, use, motion_model, found)):
        made.append(merged)
        motion_model = Output(merged.id, 0)
    image = _resized(translation, node, links.origin("image"), apply, found, made)
    inputs: Json = {"motion_model": motion_model, "image": image, "vae": links.origin("vae")}
    inputs |= _similarity(translation.old, translation.old.node_at(node, "pia_input"), found)
    if isinstance(inputs.get("similarity_values"), float):
        constant = {"value": inputs["similarity_values"]}
        made.append(translation.put("PrimitiveFloat", constant, node, may_replace=False))
        inputs["similarity_values"] = Output(made[-1].id, 0)
    return [*made, translation.put("LoomPiaImage", inputs, node, may_replace=False)]


def _with_image_input(translation: Translation, use: Use, motion_model: Output, found: Settings) -> Node | None:
    """Put PIA's input for an image into another motion model: nothing of PIA's motion modules is left in the merger."""
    source = translation.old.node_at(use.loader, "motion_model")
    if source is None or source.type not in rules.MOTION_LOADERS:
        found.lost.append("Where PIA came from is not known: connect it to Merge Motion Models at ratio 0, before PIA Image.")
        return None
    node: Node | None = translation.new.nodes[motion_model.node]
    while node is not None and node.type == "LoomLoadMotionLora":
        node = translation.new.node_at(node, "motion_model")
    if node is not None and node.type == "LoomRetimeMotion":
        found.near.append("Positions are PIA's own: put Retime Motion behind Merge Motion Models.")
    pia = translation.loaded(replace(use, loader=source, settings=source), found)
    inputs = {"motion_model_1": pia, "motion_model_2": motion_model, "ratio": 0.0}
    return translation.put("LoomMergeMotionModels", inputs, use.node, may_replace=False)


def _similarity(graph: Graph, source: Node | None, found: Settings) -> Json:
    """PIA Image's inputs for how similar frames are to the image; without a PIA input, all of them were to be just like it."""
    if source is None:
        return {"similarity_values": 1.0}
    if source.type == "ADE_InputPIA_PaperPresets":
        return _preset(graph, source, found)
    factor = graph.node_at(source, "multival") if source.type == "ADE_InputPIA_Multival" else None
    if factor is None:
        found.lost.append(f"What '{source.type}' set has no counterpart.")
        return {"similarity_values": 1.0}
    number, mask = factor_of(graph, factor, found)
    if isinstance(number, Output):
        if mask is not None:
            found.lost.append("A mask on top of a linked number is left out; similarity_values takes one of them.")
        return {"similarity_values": number, "hold_last_value": True}
    if mask is not None:
        return {"similarity_values": mask, "similarity": number, "hold_last_value": True}
    return {"similarity_values": float(number) if isinstance(number, (int, float)) else 1.0}


def _preset(graph: Graph, source: Node, found: Settings) -> Json:
    inputs: dict[str, Any] = {"frame": graph.value(source, "batch_index")}
    preset = graph.value(source, "preset")
    if preset in rules.PIA_PRESETS:
        inputs["motion"] = rules.PIA_PRESETS[preset]
    else:
        found.lost.append(f"The preset '{preset}' has no counterpart." if isinstance(preset, str) else "A linked preset has no counterpart.")
    factor = graph.node_at(source, "mult_multival")
    number, mask = (None, None) if factor is None else factor_of(graph, factor, found)
    if isinstance(number, Output) or mask is not None:
        found.lost.append(_VARIES)
    elif number is not None:
        inputs["similarity"] = number
    return inputs


def _resized(
    translation: Translation, node: Node, image: Output | None, apply: Node, found: Settings, made: list[Node]
) -> Output | None:
    """The image at the animation's size, as far as that is known, resized as it was."""
    old = translation.old
    source = old.node_at(node, "image")
    if source is not None and source.type != "LoadImage":
        found.notes.append(_ONE_IMAGE)
    latents = [old.node_at(old.nodes[sampler.id], "latent_image") for sampler in samplers_of(translation, apply) if sampler.id in old.nodes]
    sizes = {
        tuple(old.value(latent, name) for name in ("width", "height"))
        for latent in latents
        if latent is not None and latent.type in rules.EMPTY_LATENTS
    }
    if image is None or len(sizes) != 1 or None in latents or any(latent.type not in rules.EMPTY_LATENTS for latent in latents if latent):
        found.near.append(_RESIZED)
        return image
    (width, height), = sizes
    inputs = {"image": image, "upscale_method": "bilinear", "width": width, "height": height, "crop": "center"}
    made.append(translation.put("ImageScale", inputs, node, may_replace=False))
    return Output(made[-1].id, 0)
