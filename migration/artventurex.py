"""Replaces ArtVentureX's sampler, which applies a motion model, cuts a clip into windows and samples all in one."""

from __future__ import annotations

from . import rules
from .graph import Node, Output
from .motion_options import Settings
from .translate import Translation, Use
from .window_options import windows_of


def replace_samplers(translation: Translation) -> None:
    """Replace every one of them by the nodes that do the same."""
    for sampler in translation.old.of_type(rules.AVX_SAMPLER):
        loader = translation.old.node_at(sampler, "motion_module")
        if loader is not None and loader.type == "AnimateDiffModuleLoader":
            _replace(translation, sampler, loader)


def _replace(translation: Translation, sampler: Node, loader: Node) -> None:
    found = Settings()
    motion_model = translation.motion_model(Use(loader, loader, loader), found)
    if sampler.values.get("inject_method") == "legacy":
        found.lost.append("inject_method legacy ran motion modules after the upsampler, which nothing does today.")
    links = translation.new.nodes[sampler.id]
    above = translation.old.chain(translation.old.node_at(sampler, "model"), "model")
    is_set_before = any(node.type.startswith("ModelSampling") for node in above)
    applied = translation.put(
        "LoomApplyMotionModel",
        {
            "model": links.origin("model"), "motion_model": motion_model,
            "beta_schedule": rules.BETAS[rules.USE_EXISTING] if is_set_before else rules.LINEAR,
            "group_norms": None if translation.family(loader).name == "AnimateDiff v2" else rules.ALL_NORMS,
        },
        sampler, may_replace=False,
    )  # fmt: skip
    windows, model = windows_of(translation, sampler, Output(applied.id, 0), found)
    inputs = {name: links.origin(name) for name in ("positive", "negative")} | {"model": model}
    inputs["latent_image"], latent = _latent(translation, sampler, links, found)
    for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"):
        inputs[name] = translation.old.value(sampler, name)
    made = translation.put("KSampler", inputs, sampler)
    translation.note(sampler, [applied, *windows, *latent, made], found)


def _latent(translation: Translation, sampler: Node, links: Node, found: Settings) -> tuple[Output | None, list[Node]]:
    """The latent, with as many frames as the sampler made of it: it repeated the last one."""
    old = translation.old
    frames, latent = old.value(sampler, "frame_number"), links.origin("latent_image")
    source = old.node_at(sampler, "latent_image")
    if latent is None:
        return None, []
    if source is not None and source.type == "EmptyLatentImage" and source.values.get("batch_size") == 1:
        if len(old.consumers(Output(source.id, 0))) == 1 and old.source(source, "batch_size") is None:
            translation.new.nodes[source.id].connect("batch_size", frames)
            return latent, []
    elif isinstance(frames, int):
        found.notes.append(f"If the latent has more than {frames} frames, the sampler made clips of {frames} of them: use AnimateDiff Sampler.")
    made = translation.put("LoomRepeatLastFrame", {"latent": latent, "frames": frames}, sampler, may_replace=False)
    return Output(made.id, 0), [made]
