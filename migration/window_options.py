"""What cuts a clip into windows, and what a run starts from, behind the motion models of one apply point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .graph import Node, NodeId, Output
from .motion_options import Settings
from .rules import CONTEXTS, FREE_INIT_FILTERS, FUSES, NO_COUNTERPART, SAMPLERS, WITH_OWN_NOISE, FileFamily

if TYPE_CHECKING:
    from .translate import Translation


def windows_of(
    translation: Translation, apply: Node, model: Output | None, family: FileFamily, found: Settings
) -> tuple[list[Node], Output | None]:
    """Put the nodes for windows and noise behind ``model``, and set what stands in the samplers; the last MODEL comes back."""
    old = translation.old
    added: list[Node] = []
    context = old.node_at(apply, "context_options") or old.node_at(apply, "sliding_window_opts")
    settings = old.node_at(apply, "sample_settings")
    frames = _frames(translation, apply)
    inputs = _context(translation, apply, context, family, frames, found)
    if settings is not None:
        _read_settings(translation, apply, settings, inputs)
    is_evolved = apply.type == "ADE_UseEvolvedSampling"
    near = apply if is_evolved or context is None else context
    # The node that applies keeps its id, unless there is none beside the one that cuts.
    made = translation.put(
        "LoomContextWindows", {"model": model, **inputs}, near, may_replace=is_evolved or near is not apply, at=apply, is_after=True
    )
    if context is not None:
        translation.note(context, [made])
    added.append(made)
    model = Output(made.id, 0)
    view = None if context is None else old.node_at(context, "view_opts") or old.node_at(context, "view_opts_req")
    if view is not None:
        made = translation.put("LoomViewWindows", {"model": model, **_view(view, found)}, view, at=apply, is_after=True)
        translation.note(view, [made])
        added.append(made)
        model = Output(made.id, 0)
    free_init = None if settings is None else old.node_at(settings, "iteration_opts")
    if free_init is not None:
        made_of_it = _free_init(translation, free_init, model)
        if made_of_it is not None:
            added.append(made_of_it)
            model = Output(made_of_it.id, 0)
    return added, model


# --- windows ------------------------------------------------------------------------------------------------------------


def _context(translation: Translation, apply: Node, context: Node | None, family: FileFamily, frames: int | None, found: Settings) -> dict:
    old = translation.old
    if apply.type == "ADE_AnimateDiffLoaderV1Advanced":
        context = apply
    if context is not None and context.type == "ADE_ContextExtras_Set":
        found.lost.append("ContextRef and NaiveReuse have no counterpart.")
        context = old.node_at(context, "context_opts")
    if context is None and apply.type == "AnimateDiffSampler":
        return {"context_length": 16, "context_schedule": "looped_uniform", "fuse_method": "flat"}
    if context is None or context.type == "ADE_ViewsOnlyContextOptions":
        # All frames at once, as many as there are positions for; where views cut, as many as there are.
        length = family.positions if context is None else 4096
        return {"context_length": length, "context_schedule": "standard_static"}
    schedule = CONTEXTS.get(context.type, "looped_uniform" if context is apply else None)
    if schedule is None:
        found.lost.append(f"Windows of '{context.type}' have no counterpart; they are static ones of 16 frames now.")
        return {}
    inputs = {"context_schedule": schedule, "fuse_method": context.values.get("fuse_method", "flat")}
    if schedule == "batched":
        inputs["context_overlap"] = 0
    for name in ("context_length", "context_overlap", "context_stride", "closed_loop"):
        if name in context.values or old.source(context, name):
            inputs[name] = old.value(context, name)
    _check_windows(old.value(context, "use_on_equal_length"), inputs, frames, found)
    if old.source(context, "prev_context") is not None or context.values.get("start_percent"):
        found.lost.append("Windows that change in the course of a run have no counterpart; the last ones count.")
    return inputs


def _check_windows(on_equal_length: Any, inputs: dict, frames: int | None, found: Settings) -> None:
    length, schedule, closed = inputs.get("context_length"), inputs["context_schedule"], inputs.get("closed_loop")
    if inputs["fuse_method"] not in FUSES:
        found.near.append(f"The blending '{inputs['fuse_method']}' becomes pyramid.")
        inputs["fuse_method"] = "pyramid"
    if inputs["fuse_method"] == "overlap-linear" and schedule == "looped_uniform":
        found.near.append("overlap-linear with looped_uniform weighs the windows' edges a little differently.")
    is_looped = schedule == "looped_uniform"
    if frames is not None and frames == length and is_looped:
        if closed is True and not on_equal_length:
            inputs["closed_loop"] = False  # AnimateDiff-Evolved doesn't cut as many frames as a window; Loom closes the loop
        elif not closed and on_equal_length:
            found.near.append("A clip of as many frames as a window is sampled at once; use_on_equal_length moved the window round.")
    elif frames is None and is_looped and closed is True and not on_equal_length:
        found.notes.append(f"With exactly {length} frames, switch closed_loop off: AnimateDiff-Evolved did not cut such a clip.")
    stride = inputs.get("context_stride", 1)
    if isinstance(stride, int) and stride > 1 and isinstance(length, int):
        _check_stride(stride, length, is_looped, frames, found)


def _check_stride(stride: int, length: int, is_looped: bool, frames: int | None, found: Settings) -> None:
    if frames is not None and frames <= length:
        return
    widest = stride if frames is None else min(stride, math.ceil(math.log2(frames / length)) + 1)
    if not is_looped or frames is None or (length - 1) * 2 ** (widest - 1) >= frames:
        found.near.append(f"Windows of stride {stride} hold each frame once now; AnimateDiff-Evolved's widest ones may hold some twice.")


def _view(view: Node, found: Settings) -> dict:
    values = view.values
    inputs = {name: values[name] for name in ("view_length", "view_overlap", "fuse_method", "closed_loop") if name in values}
    if inputs.get("fuse_method") not in FUSES:
        inputs.pop("fuse_method", None)
    if view.type != "ADE_StandardStaticViewOptions":
        found.near.append("Views stay in their places now; uniform and looped ones moved from step to step.")
    return inputs


# --- sample settings ----------------------------------------------------------------------------------------------------


def _read_settings(translation: Translation, apply: Node, settings: Node, inputs: dict) -> None:
    """Sampling Settings: what goes into the windows' node, and what belongs into the samplers."""
    old, values = translation.old, settings.values
    said = Settings()
    noise = values.get("noise_type")
    samplers = samplers_of(translation, apply)
    if noise == "FreeNoise":
        inputs["freenoise"] = True
        said.near.append("FreeNoise shuffles the same noise in another order.")
    elif noise == "empty":
        _without_noise(translation, samplers, said)
    elif noise in ("repeated_context", "constant"):
        inputs["freenoise"] = noise == "repeated_context"
        said.near.append(f"The noise '{noise}' has no counterpart" + ("; FreeNoise is the nearest." if noise != "constant" else "."))
    if values.get("seed_gen", "comfy") != "comfy":
        said.lost.append(f"The noise generator '{values['seed_gen']}' has no counterpart; the noise is ComfyUI's.")
    if values.get("batch_offset"):
        said.lost.append("batch_offset has no counterpart.")
    override = old.value(settings, "seed_override") if old.source(settings, "seed_override") else None
    if values.get("seed_offset") or override is not None:
        _reseed(translation, samplers, values.get("seed_offset") or 0, override, said)
    cfg = old.node_at(settings, "custom_cfg")
    if cfg is not None:
        _set_cfg(translation, samplers, cfg, said)
    said.lost += [why for name, why in NO_COUNTERPART.items() if old.source(settings, name) is not None]
    translation.note(settings, ["settings of the samplers and the windows"], said)


def samplers_of(translation: Translation, apply: Node) -> list[Node]:
    """The samplers that a MODEL reaches, as the nodes they are now."""

    def passes(node: Node) -> bool:
        return not node.type.startswith("ADE_") or node.type == "ADE_AnimateDiffUnload"

    reached = translation.old.model_reaches(Output(apply.id, 0), passes)
    is_sampler = (node.id for node, entry in reached if node.type in SAMPLERS and entry.name == "model")
    return [translation.new.nodes[number] for number in is_sampler if number in translation.new.nodes]


def _set_cfg(translation: Translation, samplers: list[Node], cfg: Node, said: Settings) -> None:
    if cfg.type != "ADE_CustomCFGSimple":
        said.lost.append(f"What '{cfg.type}' set has no counterpart.")
        return
    if translation.old.source(cfg, "cfg_extras") is not None:
        said.lost.append("Extras of the CFG are left out: ComfyUI has nodes for PAG and RescaleCFG.")
    value = translation.old.value(cfg, "cfg")
    for sampler in samplers:
        sampler.connect("cfg", value)
    if samplers:
        names = ", ".join(str(translation.name(sampler.id)) for sampler in samplers)
        said.notes.append(f"cfg {value if not isinstance(value, Output) else 'of its link'} stands in the samplers now: node {names}.")
    else:
        said.near.append("Custom CFG stood above whatever the sampler said. Set cfg in the sampler.")


def _reseed(translation: Translation, samplers: list[Node], offset: int, override: Any, said: Settings) -> None:
    done = False
    for sampler in samplers:
        name = SAMPLERS[sampler.type]
        seed = sampler.values.get(name) if name and sampler.origin(name) is None else None
        if override is not None and name:
            sampler.connect(name, override)
            done = True
        elif isinstance(seed, int):
            sampler.connect(name, seed + offset)
            done = True
        if WITH_OWN_NOISE.search(str(sampler.values.get("sampler_name", "lcm"))):
            said.near.append("The sampler draws noise at each step, which has the new seed, too; before, only the start had.")
    if not done:
        said.near.append(f"The seed was moved by {offset}. Add it to the sampler's seed.")


def _without_noise(translation: Translation, samplers: list[Node], said: Settings) -> None:
    """Noise of zeros is a sampler that adds none."""
    switched = 0
    for sampler in samplers:
        if sampler.type in ("KSamplerAdvanced", "KSampler Adv. (Efficient)"):
            sampler.connect("add_noise", "disable")
            switched += 1
        elif sampler.type == "SamplerCustom":
            sampler.connect("add_noise", False)
            switched += 1
        elif sampler.type == "KSampler" and sampler.values.get("denoise", 1.0) == 1.0:
            links = {entry.name: entry.origin for entry in sampler.inputs if entry.origin is not None}
            values = {name: sampler.values.get(name) for name in ("steps", "cfg", "sampler_name", "scheduler")}
            values |= {"noise_seed": links.pop("seed", sampler.values.get("seed")), "add_noise": "disable"}
            translation.put("KSamplerAdvanced", values | links, sampler)
            switched += 1
    if switched < len(samplers) or not samplers:
        said.near.append("The run began without noise. Switch the sampler's noise off.")


def _free_init(translation: Translation, options: Node, model: Output | None) -> Node | None:
    values, said = options.values, Settings()
    if options.type != "ADE_IterationOptsFreeInit":
        if values.get("iterations", 1) != 1:
            said.lost.append("Iterations without FreeInit have no counterpart.")
        translation.note(options, [], said)
        return None
    if translation.old.value(options, "iterations") == 1:
        translation.note(options, [], Settings(notes=["One iteration is a run without FreeInit."]))
        return None
    inputs: dict[str, Any] = {"model": model, "iterations": translation.old.value(options, "iterations")}
    inputs |= {"spatial_cutoff": values.get("d_s"), "temporal_cutoff": values.get("d_t"), "order": values.get("n_butterworth")}
    if values.get("filter") in FREE_INIT_FILTERS:
        inputs["filter"] = values["filter"]
    made = translation.put("LoomFreeInit", inputs, options)
    translation.note(options, [made], Settings(near=["FreeInit draws other random numbers in its later runs."]))
    return made


def _frames(translation: Translation, apply: Node) -> int | None:
    """Frames of the clips that an apply point's samplers make, if they all get them from a node that says so."""
    counts = set()
    for sampler in samplers_of(translation, apply) or [apply]:
        if apply.type == "AnimateDiffSampler":
            counts.add(translation.old.value(apply, "frame_number"))
            continue
        old_sampler: NodeId = sampler.id
        latent = translation.old.node_at(translation.old.nodes[old_sampler], "latent_image")
        is_empty = latent is not None and latent.type in ("EmptyLatentImage", "ADE_EmptyLatentImageLarge")
        counts.add(translation.old.value(latent, "batch_size") if is_empty and latent is not None else None)
    count = counts.pop() if len(counts) == 1 else None
    return count if isinstance(count, int) else None
