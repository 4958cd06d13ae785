"""What cuts a clip into windows, and what a run starts from, behind the motion models of one apply point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .graph import Node, Output
from .motion_options import Settings
from .rules import CONTEXTS, FREE_INIT_FILTERS, FUSES, NO_COUNTERPART, NOISE_TYPES, SAMPLERS, SEEDINGS, UNLOADS

if TYPE_CHECKING:
    from .translate import Translation


def windows_of(translation: Translation, apply: Node, model: Output | None, found: Settings) -> tuple[list[Node], Output | None]:
    """Put the nodes for windows and noise behind ``model``, and set what stands in the samplers; the last MODEL comes back."""
    old = translation.old
    context = old.node_at(apply, "context_options") or old.node_at(apply, "sliding_window_opts")
    settings = old.node_at(apply, "sample_settings")
    view = None if context is None else old.node_at(context, "view_opts") or old.node_at(context, "view_opts_req")
    inputs = _context(translation, apply, context, found)
    viewed = {} if view is None else _view(view, found)
    window = {"context_length": viewed.get("view_length"), "context_overlap": viewed.get("view_overlap")} if viewed else inputs
    noises = [] if settings is None else _noises(translation, apply, settings, window, inputs)
    is_evolved = apply.type == "ADE_UseEvolvedSampling"
    near = apply if is_evolved or context is None else context
    # The node that applies keeps its id, unless there is none beside the one that cuts.
    added = [
        translation.put(
            "LoomContextWindows", {"model": model, **inputs}, near, may_replace=is_evolved or near is not apply, at=apply, is_after=True
        )
    ]
    if context is not None:
        translation.note(context, added)
    if view is not None:
        made = translation.put("LoomViewWindows", {"model": Output(added[-1].id, 0), **viewed}, view, at=apply, is_after=True)
        translation.note(view, [made])
        added.append(made)
    for type, values in noises:
        assert settings is not None
        added.append(translation.put(type, {"model": Output(added[-1].id, 0), **values}, settings, at=apply, is_after=True))
    free_init = None if settings is None else old.node_at(settings, "iteration_opts")
    if free_init is not None:
        made_of_it = _free_init(translation, free_init, Output(added[-1].id, 0))
        added += [] if made_of_it is None else [made_of_it]
    return added, Output(added[-1].id, 0)


# --- windows ------------------------------------------------------------------------------------------------------------


def _context(translation: Translation, apply: Node, context: Node | None, found: Settings) -> dict:
    old = translation.old
    if apply.type == "ADE_AnimateDiffLoaderV1Advanced":
        context = apply
    if context is not None and context.type == "ADE_ContextExtras_Set":
        found.lost.append("ContextRef and NaiveReuse have no counterpart.")
        context = old.node_at(context, "context_opts")
    if context is None and apply.type == "AnimateDiffSampler":
        return {"context_length": 16, "context_schedule": "looped_uniform", "fuse_method": "flat", "count_steps_of": "this run"}
    if context is None or context.type == "ADE_ViewsOnlyContextOptions":
        return {"context_schedule": "none"}
    schedule = CONTEXTS.get(context.type, "looped_uniform" if context is apply else None)
    if schedule is None:
        found.lost.append(f"Windows of '{context.type}' have no counterpart; they are static ones of 16 frames now.")
        return {}
    inputs: dict[str, Any] = {"context_schedule": schedule, "fuse_method": _fuse(context.values.get("fuse_method", "flat"), found)}
    if schedule == "batched":
        inputs["context_overlap"] = 0
    for name in ("context_length", "context_overlap", "context_stride", "closed_loop"):
        if name in context.values or old.source(context, name):
            inputs[name] = old.value(context, name)
    if "uniform" in schedule:
        inputs["count_steps_of"] = "this run"
    if inputs.get("context_stride", 1) != 1:
        inputs["wide_windows"] = "wrap around"
    if schedule == "looped_uniform":
        on_equal_length, closed = old.value(context, "use_on_equal_length"), inputs.get("closed_loop")
        if isinstance(on_equal_length, Output):
            found.near.append("A linked use_on_equal_length has no counterpart: set cut_equal_length.")
        elif on_equal_length or closed:
            inputs["cut_equal_length"] = "always" if on_equal_length else "never"
    if old.source(context, "prev_context") is not None or context.values.get("start_percent"):
        found.lost.append("Windows that change in the course of a run have no counterpart; the last ones count.")
    return inputs


def _fuse(method: str, found: Settings) -> str:
    if method not in FUSES:
        found.near.append(f"The blending '{method}' becomes pyramid.")
    return FUSES.get(method, "pyramid")


def _view(view: Node, found: Settings) -> dict:
    values = view.values
    inputs: dict[str, Any] = {name: values[name] for name in ("view_length", "view_overlap", "closed_loop") if name in values}
    inputs["fuse_method"] = _fuse(values.get("fuse_method", "pyramid"), found)
    if view.type != "ADE_StandardStaticViewOptions":
        found.near.append("Views stay in their places now; uniform and looped ones moved from step to step.")
    return inputs


# --- sample settings ----------------------------------------------------------------------------------------------------


_DRAWN = {"seed_offset": "seed_offset", "first_frame": "batch_offset"}
"""Starting Noise's inputs, by the names they had."""
_FREE_INIT = {"sigma_step": 999, "apply_to_1st_iter": False, "iter_batch_offset": 0, "iter_seed_offset": 1}
"""Values that FreeInit's ``restart_from`` takes for granted."""


def _noises(translation: Translation, apply: Node, settings: Node, window: dict, inputs: dict) -> list[tuple[str, dict]]:
    """Sampling Settings: the nodes for its noise, with their inputs; FreeNoise goes into the ``inputs`` of the windows' node.

    ``window`` has the length and overlap of what the motion modules see at a time; none where they see all frames.
    """
    old, values = translation.old, settings.values
    said = Settings()
    nodes: list[tuple[str, dict]] = []
    kind, generator = values.get("noise_type", "default"), values.get("seed_gen", "comfy")
    length = window.get("context_length")
    drawn: dict[str, Any] = {name: values[old_name] for name, old_name in _DRAWN.items() if values.get(old_name)}
    if generator != "comfy":
        drawn["seeding"] = SEEDINGS.get(generator)
        if drawn["seeding"] is None:
            said.lost.append(f"The noise generator '{generator}' has no counterpart; the noise is ComfyUI's.")
    if kind in NOISE_TYPES and (kind != "repeated_context" or length is not None):
        drawn |= {"noise": NOISE_TYPES[kind], "context_length": length}
    if old.source(settings, "seed_override") is not None:
        drawn["seed"] = old.value(settings, "seed_override")
    if drawn:
        nodes.append(("LoomStartingNoise", drawn))
    if kind == "FreeNoise" and window is inputs and length is not None:
        inputs |= {"freenoise": True, "freenoise_order": "as published"}
    elif kind == "FreeNoise" and length is not None:
        nodes.append(("LoomApplyFreeNoise", {**window, "freenoise_order": "as published"}))
    cfg = old.node_at(settings, "custom_cfg")
    if cfg is not None:
        _set_cfg(translation, samplers_of(translation, apply), cfg, said)
    said.lost += [why for name, why in NO_COUNTERPART.items() if old.source(settings, name) is not None]
    translation.note(settings, [type for type, _ in nodes] or ["settings of the samplers and the windows"], said)
    return nodes


def samplers_of(translation: Translation, apply: Node) -> list[Node]:
    """The samplers that a MODEL reaches, as the nodes they are now."""

    def passes(node: Node) -> bool:
        return not node.type.startswith("ADE_") or node.type in UNLOADS

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
    if isinstance(value, Output) and translation.new.nodes[value.node].is_new:
        said.lost.append("cfg per frame has no counterpart.")
        return
    for sampler in samplers:
        sampler.connect("cfg", value)
    if samplers:
        names = ", ".join(str(translation.name(sampler.id)) for sampler in samplers)
        said.notes.append(f"cfg {value if not isinstance(value, Output) else 'of its link'} stands in the samplers now: node {names}.")
    else:
        said.near.append("Custom CFG stood above whatever the sampler said. Set cfg in the sampler.")


def _free_init(translation: Translation, options: Node, model: Output | None) -> Node | None:
    values, said = options.values, Settings()
    if options.type != "ADE_IterationOptsFreeInit":
        if values.get("iterations", 1) != 1:
            said.lost.append("Iterations without FreeInit have no counterpart.")
        translation.note(options, [], said)
        return None
    if translation.old.value(options, "iterations") == 1 and not values.get("apply_to_1st_iter"):
        translation.note(options, [], Settings(notes=["One iteration is a run without FreeInit."]))
        return None
    inputs: dict[str, Any] = {"model": model, "iterations": translation.old.value(options, "iterations")}
    inputs |= {"spatial_cutoff": values.get("d_s"), "temporal_cutoff": values.get("d_t"), "order": values.get("n_butterworth")}
    inputs["restart_from"] = "previous noise"
    if values.get("filter") in FREE_INIT_FILTERS:
        inputs["filter"] = values["filter"]
    wrong = [name for name, value in _FREE_INIT.items() if values.get(name, value) != value]
    if str(values.get("init_type", "")).startswith("Dink"):
        wrong.append("init_type")
    if wrong:
        said.near.append(f"FreeInit has no counterpart for {', '.join(wrong)}.")
    made = translation.put("LoomFreeInit", inputs, options)
    translation.note(options, [made], said)
    return made
