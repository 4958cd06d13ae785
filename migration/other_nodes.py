"""Nodes of other AnimateDiff packs that stand beside the motion: loaders, empty latents, savers."""

from __future__ import annotations

from .graph import ACTIVE, GETTERS, REROUTES, SETTERS, Node, Output
from .model_source import schedule_of_checkpoint
from .motion_options import Settings
from .rules import (
    APPLY_POINTS,
    BETAS,
    COMBINES,
    EMPTY_LATENTS,
    LOST_NODES,
    NEED_EVOLVED,
    OURS,
    SOCKETS,
    UNLOADS,
    is_foreign,
)
from .translate import Translation


def replace_others(translation: Translation) -> None:
    """Replace what stands beside the motion, then take out what nothing needs any more."""
    for node in list(translation.old.nodes.values()):
        replace = _REPLACERS.get(node.type)
        if replace is not None and node.id in translation.new.nodes:
            replace(translation, node)
    if any(is_foreign(node.type) for node in translation.old.nodes.values()):
        for node in translation.old.of_type(*NEED_EVOLVED):
            if node.mode == ACTIVE:
                translation.note(node, ["itself"], Settings(notes=[NEED_EVOLVED[node.type]]))
    _remove_leftovers(translation)


def _checkpoint(translation: Translation, node: Node) -> None:
    found = Settings()
    if translation.old.value(node, "use_custom_scale_factor") is True:
        found.lost.append("A scale factor of its own for the VAE's latents has no counterpart.")
    made = [translation.put("CheckpointLoaderSimple", {"ckpt_name": translation.old.value(node, "ckpt_name")}, node)]
    choice = schedule_of_checkpoint(translation, node)
    if choice is not None and choice not in BETAS.values():
        found.lost.append(f"The noise schedule '{choice}' has no counterpart; samplers without motion use the model's own.")
    elif choice is not None:
        model = Output(node.id, 0)
        schedule = translation.put("LoomNoiseSchedule", {"model": model, "beta_schedule": choice}, node, may_replace=False)
        translation.new.redirect(model, Output(schedule.id, 0), apart_from=(schedule.id,))
        made.append(schedule)
    translation.note(node, made, found)


def _empty_latent(translation: Translation, node: Node) -> None:
    old = translation.old
    inputs = {"width": old.value(node, "width"), "height": old.value(node, "height"), "frames": old.value(node, "batch_size")}
    translation.note(node, [translation.put("LoomEmptyAnimationLatent", inputs, node)])


def _scale_and_encode(translation: Translation, node: Node) -> None:
    """Images, scaled to the size of a latent and encoded."""
    old, links = translation.old, translation.new.nodes[node.id]
    vae, latent, made = links.origin("vae"), links.origin("latent_size"), []
    source = old.node_at(node, "latent_size")
    if source is not None and source.type in EMPTY_LATENTS:
        width, height = old.value(source, "width"), old.value(source, "height")
    else:
        made.append(translation.put("VAEDecode", {"samples": latent, "vae": vae}, node, may_replace=False))
        made.append(translation.put("GetImageSize", {"image": Output(made[0].id, 0)}, node, may_replace=False))
        width, height = (Output(made[1].id, slot) for slot in range(2))
    inputs = {"image": links.origin("image"), "upscale_method": node.values.get("scale_method"), "width": width, "height": height}
    scaled = translation.put("ImageScale", {**inputs, "crop": node.values.get("crop", "center")}, node, may_replace=False)
    made += [scaled, translation.put("VAEEncode", {"pixels": Output(scaled.id, 0), "vae": vae}, node)]
    translation.note(node, made)


def _combine(translation: Translation, node: Node) -> None:
    """A saver of animations becomes ComfyUI's own."""
    old, values, found = translation.old, node.values, Settings()
    images = translation.new.nodes[node.id].origin("images")
    rate, prefix = old.value(node, "frame_rate"), old.value(node, "filename_prefix")
    made = []
    if old.value(node, "pingpong") is True:
        made.append(translation.put("LoomPingPong", {"images": images}, node, may_replace=False))
        images = Output(made[0].id, 0)
    elif isinstance(old.value(node, "pingpong"), Output):
        found.lost.append("A linked pingpong has no counterpart: put Ping-Pong before the node that saves.")
    if values.get("save_image") in (False, "Disabled"):
        found.notes.append("It was only shown; now it is saved, too.")
    if values.get("loop_count"):
        found.notes.append("loop_count: players decide how often it is repeated.")
    if str(values.get("format", "")).startswith("video"):
        video = translation.put("CreateVideo", {"images": images, "fps": rate}, node, may_replace=False)
        made += [video, translation.put("SaveVideo", {"video": Output(video.id, 0), "filename_prefix": prefix}, node)]
    else:
        made.append(translation.put("SaveAnimatedWEBP", {"images": images, "fps": rate, "filename_prefix": prefix}, node))
        found.notes.append("The animation is saved as WEBP.")
    translation.note(node, made, found)


def _unload(translation: Translation, node: Node) -> None:
    """What takes the motion off a MODEL again keeps its noise schedule: the same motion models at strength 0."""
    origin = Output(node.id, 0)
    consumers = translation.new.consumers(origin)
    if not consumers:
        translation.new.remove(node)
        translation.note(node, [], Settings(notes=["Nothing was connected to it."]))
        return
    above = translation.old.chain(translation.old.node_at(node, "model"), "model")
    animated = next((translation.animated.get(point.id) for point in above if point.type in APPLY_POINTS), None)
    model = translation.new.nodes[node.id].origin("model") if animated is None else animated.model
    chain = []
    for place, (motion_model, choice) in enumerate(animated.motion_models if animated else []):
        inputs = {"model": model, "motion_model": motion_model, "beta_schedule": choice, "strength": 0.0}
        made = translation.put("LoomApplyMotionModel", inputs, node, may_replace=place == 0)
        chain.append(made)
        model = Output(made.id, 0)
    for _, entry in consumers:
        entry.origin = model
    if not chain:
        translation.new.remove(node)
    translation.note(node, chain)


def _lose(translation: Translation, node: Node) -> None:
    translation.note(node, ["itself"], Settings(lost=[LOST_NODES[node.type]]))


_REPLACERS = {
    "CheckpointLoaderSimpleWithNoiseSelect": _checkpoint,
    "ADE_EmptyLatentImageLarge": _empty_latent,
    **dict.fromkeys(COMBINES, _combine),
    **dict.fromkeys(UNLOADS, _unload),
    **dict.fromkeys(("ADE_UpscaleAndVAEEncode", "ADE_UpscaleAndVaeEncode"), _scale_and_encode),
    **dict.fromkeys(LOST_NODES, _lose),
}


def _remove_leftovers(translation: Translation) -> None:
    """Take out nodes of these packs whose work others do now, and the reroutes between them."""
    new, said = translation.new, {entry.node for entry in translation.report.entries}
    while True:
        idle = [node for node in new.nodes.values() if _is_idle(translation, node)]
        if not idle:
            break
        for node in idle:
            new.remove(node)
            if is_foreign(node.type) and translation.name(node.id) not in said:
                was_used = any(translation.old.consumers(Output(node.id, slot)) for slot in range(max(1, len(node.outputs))))
                into = "part of the nodes that it was connected to" if was_used else "nothing; it was not connected"
                lost = ["It has no counterpart."] if was_used and node.type not in OURS else []
                translation.note(node, [into], Settings(lost=lost))
    stays = {entry.node for entry in translation.report.entries if entry.into == ("itself",)}
    for node in new.nodes.values():
        if is_foreign(node.type) and not node.is_new and translation.name(node.id) not in stays:
            why = "Nodes that have no counterpart still take it, so it stays as it is."
            translation.note(node, ["itself"], Settings(lost=[why]))


def _is_idle(translation: Translation, node: Node) -> bool:
    if node.is_new:
        return False
    if node.type in SETTERS or node.type in GETTERS or node.type in REROUTES:
        kinds = {entry.type for entry in node.inputs} | set(node.outputs)
        carries_ours = bool(kinds & SOCKETS)
        is_used = any(translation.new.consumers(Output(node.id, slot)) for slot in range(max(1, len(node.outputs))))
        return carries_ours and not is_used
    if not is_foreign(node.type) or node.type in LOST_NODES:
        return False
    slots = max(len(node.outputs), 1) if node.outputs else 4
    return not any(translation.new.consumers(Output(node.id, slot)) for slot in range(slots))
