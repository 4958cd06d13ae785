"""AnimateDiff-Evolved's nodes for AnimateLCM-I2V: the image that an encoder adds to a motion model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import rules
from .graph import Json, Node, Output
from .motion_options import Settings

if TYPE_CHECKING:
    from .translate import Translation, Use

_ENCODER_ONLY = 1  # output of the node that loads AnimateLCM-I2V


def is_encoder_only(translation: Translation, use: Use) -> bool:
    """Whether a node applies an image encoder without motion modules."""
    source = translation.old.source(use.node, "motion_model")
    return use.loader.type == rules.LOAD_I2V and source is not None and source.slot == _ENCODER_ONLY


def with_image(translation: Translation, use: Use, motion_model: Output, inputs: Json, settings: Settings) -> Node:
    """Put AnimateLCM-I2V Image after what loads a motion model; ``inputs`` are those of Apply Motion Model, and may change."""
    old, node = translation.old, use.node
    image: dict[str, Any] = {"motion_model": motion_model, "image": translation.new.nodes[node.id].origin("ref_latent")}
    image |= {"drift": old.value(node, "ref_drift"), "image_encoder": _encoder(translation, use, settings)}
    if old.value(node, "apply_ref_when_disabled") is not True:
        image |= {name: inputs[name] for name in ("start_percent", "end_percent") if name in inputs}
    image |= {"strength": inputs["strength"]} if "strength" in inputs else {}
    if image.get("strength", 1.0) != 1.0:
        settings.near.append("The effect counts for the image and for the motion each by itself, which differs a little.")
    if "strength_values" in inputs or "strength_steps" in settings.curves:
        settings.near.append("Where the effect varied, so did the image; now it has one strength.")
    if is_encoder_only(translation, use):
        inputs |= {"start_percent": 1.0, "end_percent": 1.0}  # the image alone
    settings.notes.append("A latent of another size than the animation's was resized; now its image has to be encoded at that size.")
    return translation.put("LoomAnimateLcmImage", image, node, may_replace=False)


def _encoder(translation: Translation, use: Use, settings: Settings) -> Output | None:
    """The motion model whose encoder another one was given."""
    if use.loader.type != rules.INJECT_I2V:
        return None
    source = translation.old.node_at(use.loader, "motion_model")
    if source is None or source.type not in rules.MOTION_LOADERS:
        settings.lost.append("Where the image encoder came from is not known: connect AnimateLCM-I2V to image_encoder.")
        return None
    return translation.loaded(replace(use, loader=source, settings=source), settings)
