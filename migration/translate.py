"""Replaces the nodes that animate a MODEL: what stands between its source and its samplers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import rules
from .graph import Graph, Json, Node, NodeId, Output
from .motion_options import Settings, motion_settings, position_settings
from .report import Report
from .rules import FileFamily
from .targets import TARGETS, TargetInput, fitted
from .window_options import windows_of


@dataclass(frozen=True)
class Files:
    """The files that Loom's loaders offer, to find those that a workflow names; empty where they are not known."""

    motion_models: tuple[str, ...] = ()
    motion_loras: tuple[str, ...] = ()

    @staticmethod
    def find(name: Any, offered: Iterable[str]) -> str | None:
        """The offered file of that name, whatever its folder, slashes and capitals."""
        if not isinstance(name, str):
            return None
        base = _base_name(name)
        return next((file for file in offered if file == name), None) or next(
            (file for file in offered if _base_name(file) == base), None
        )


def _base_name(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].lower()


@dataclass(frozen=True)
class Use:
    """A motion model as one node applies it: that node, the one that loads it, and where its settings are linked."""

    node: Node
    loader: Node
    settings: Node


@dataclass
class Animated:
    """What an apply point became: enough to take it off a MODEL again."""

    model: Output | None
    motion_models: list[tuple[Output, str]]


@dataclass
class Translation:
    """The translation of one graph: ``old`` is only read, ``new`` is what it becomes."""

    new: Graph
    report: Report
    files: Files = field(default_factory=Files)
    name: Callable[[NodeId], NodeId] = lambda node: node
    old: Graph = field(init=False)
    taken: set[NodeId] = field(default_factory=set)
    animated: dict[NodeId, Animated] = field(default_factory=dict)
    _motion_models: dict[tuple, Output] = field(default_factory=dict)
    _adjusted: dict[NodeId, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.old = copy.deepcopy(self.new)
        for node in self.old.nodes.values():
            if rules.is_foreign(node.type):
                self._unlink_strangers(node)

    def _unlink_strangers(self, node: Node) -> None:
        """Take off what feeds a node's settings without being of its pack; older names of inputs become today's."""
        for entry in node.inputs:
            entry.name = rules.OLDER_INPUTS.get(entry.name, entry.name)
            origin = self.old.resolve(entry.origin) if entry.name in rules.PARTS else None
            if origin is not None and not rules.is_foreign(type := self.old.nodes[origin.node].type):
                entry.origin = None
                self._adjusted.setdefault(node.id, Settings()).lost.append(f"{entry.name} is left out: it came from '{type}'.")

    def run(self) -> None:
        """Replace every apply point, muted ones too: who unmutes one finds it whole."""
        for node in self.old.of_type(*rules.APPLY_POINTS):
            self._apply(node)
        for node in self.old.of_type(rules.AVX_SAMPLER):
            self._avx_sampler(node)

    # --- nodes --------------------------------------------------------------------------------------------------------

    def put(self, type: str, inputs: Json, near: Node, may_replace: bool = True, **place: Any) -> Node:
        """Put a node where an old one stood; the first one there takes its id. ``place``: see ``Graph.put``."""
        replace = may_replace and near.id not in self.taken
        if replace:
            self.taken.add(near.id)
        made = self.new.put(type, {k: v for k, v in inputs.items() if v is not None}, near, replace, **place)
        for entry in TARGETS[type].inputs:
            self._fit(made, entry, near)
        self._fit_overlap(made, near)
        return made

    def _fit_overlap(self, node: Node, near: Node) -> None:
        """Windows that would overlap wholly: AnimateDiff-Evolved takes them, Loom says that they never get on."""
        for kind in ("context", "view"):
            length, overlap = (node.values.get(f"{kind}_{name}") for name in ("length", "overlap"))
            if length is not None and overlap is not None and overlap >= length and node.origin(f"{kind}_length") is None:
                node.values[f"{kind}_overlap"] = length - 1
                said = self._adjusted.setdefault(near.id, Settings())
                said.near.append(f"{kind}_overlap was {overlap}; now it is {length - 1}, less than {kind}_length.")

    def _fit(self, node: Node, entry: TargetInput, near: Node) -> None:
        """Hold an input to its kind and bounds, and say so: ComfyUI refuses the whole prompt otherwise."""
        said = self._adjusted.setdefault(near.id, Settings())
        if entry.is_widget:
            value = node.values[entry.name]
            fits = node.values[entry.name] = fitted(node.type, entry, value)
            if fits != value:
                said.near.append(f"{entry.name} was {value!r}, which Loom does not take; now it is {fits!r}.")
        origin = node.origin(entry.name)
        if origin is None or origin.node not in self.new.nodes:
            return
        given = set("".join(self.new.nodes[origin.node].outputs[origin.slot : origin.slot + 1]).split(","))
        taken = set(entry.type.split(","))
        if "*" in given or "" in given or given & taken or entry.type.startswith("COM"):
            return
        if given <= {"INT", "FLOAT"} and taken <= {"INT", "FLOAT"}:
            number = self.put("ComfyNumberConvert", {"value": origin}, near, may_replace=False)
            node.connect(entry.name, Output(number.id, 0 if "FLOAT" in taken else 1))
            return
        node.connect(entry.name, None)
        said.lost.append(f"{entry.name} is not linked any more: {' or '.join(sorted(given))} cannot be linked to it.")

    def note(self, node: Node, into: Iterable[Node | str] = (), found: Settings | None = None) -> None:
        """Report what became of a node."""
        names = [rules.DISPLAY_NAMES.get(entry.type, entry.type) if isinstance(entry, Node) else entry for entry in into]
        found = found or Settings()
        adjusted = self._adjusted.get(node.id, Settings())
        lost = [*found.lost, *adjusted.lost]
        self.report.add(self.name(node.id), node.type, dict.fromkeys(names), [*found.near, *adjusted.near], lost, found.notes)

    # --- apply points ---------------------------------------------------------------------------------------------

    def _apply(self, apply: Node) -> None:
        uses = self._uses(apply)
        # By name: a sampler among them may be replaced on the way.
        consumers = [(node.id, entry.name) for node, entry in self.new.consumers(Output(apply.id, 0))]
        passed_on = self.new.consumers(Output(apply.id, 1)) if apply.type in rules.APPLY_V1 else []
        found = Settings()
        for node in self.old.chain(self.old.node_at(apply, "m_models"), "prev_m_models"):
            if all(use.node is not node for use in uses):
                found.lost.append(f"The motion model of '{node.type}' (node {self.name(node.id)}) is left out.")
        beta = self._beta(apply, found)
        model = self._model_source(apply, found)
        before, chain, applied = model, [], []
        latents = self.new.nodes[apply.id].origin("latents")
        for place, use in enumerate(uses):
            choice = rules.BETAS[beta if place == len(uses) - 1 else rules.USE_EXISTING]
            made = self._apply_node(use, model, choice, apply, found)
            chain.append(made)
            applied.append((made.origin("motion_model"), choice))
            model = Output(made.id, 0)
        if uses or apply.type == rules.APPLY_EVOLVED:
            added, model = windows_of(self, apply, model, found)
            chain += added
        self.animated[apply.id] = Animated(before, [(origin, name) for origin, name in applied if origin is not None])
        for consumer, name in consumers:
            for entry in self.new.nodes[consumer].inputs:
                if entry.name == name and entry.origin == Output(apply.id, 0):
                    entry.origin = model
        for _, entry in passed_on:
            entry.origin = latents
        names: list[Node | str] = ["Load Motion Model"] if uses and uses[0].loader is apply else []
        self.note(apply, [*names, *chain], found)

    def _uses(self, apply: Node) -> list[Use]:
        """The motion models that an apply point applies, the first one first."""
        if apply.type != rules.APPLY_EVOLVED:
            return [Use(apply, apply, apply)]
        uses: list[Use] = []
        for node in self.old.chain(self.old.node_at(apply, "m_models"), "prev_m_models"):
            loader = self.old.node_at(node, "motion_model") if node.type in rules.APPLY_USES else None
            if loader is not None and loader.type == rules.LOAD_MOTION_MODEL:
                uses.append(Use(node, loader, loader))
        return uses[::-1]

    def _beta(self, apply: Node, found: Settings) -> str:
        """The other pack's name of the noise schedule."""
        settings = self.old.node_at(apply, "sample_settings")
        schedule = None if settings is None else self.old.node_at(settings, "sigma_schedule")
        name = (schedule or apply).values.get("beta_schedule", rules.AUTOSELECT)
        if schedule is not None and "beta_schedule" not in schedule.values:
            found.lost.append("A noise schedule put together by several nodes has no counterpart; the motion model's own is used.")
            return rules.AUTOSELECT
        if name not in rules.BETAS:
            found.lost.append(rules.UNKNOWN_BETA.format(name))
            return rules.AUTOSELECT
        uses = self._uses(apply)
        if not uses and name not in (rules.AUTOSELECT, rules.USE_EXISTING) and self.new.consumers(Output(apply.id, 0)):
            found.near.append(rules.BETA_ALONE.format(name))
        if name == rules.AUTOSELECT and uses and self._family(uses[-1].loader).name == "AnimateLCM":
            return rules.LCM
        found.near += [rules.NEAR_BETAS[name]] if name in rules.NEAR_BETAS else []
        return str(name)

    def _family(self, loader: Node) -> FileFamily:
        return rules.family_of(str(self.old.value(loader, "model_name")))

    def _model_source(self, apply: Node, found: Settings) -> Output | None:
        """Where the MODEL comes from, without a ModelSampling node whose work the other pack threw away."""
        name = apply.values.get("beta_schedule")
        model = self.new.nodes[apply.id].origin("model")
        if name == rules.USE_EXISTING:
            return model
        below = apply
        for node in self.old.chain(self.old.node_at(apply, "model"), "model"):
            if node.type in rules.APPLY_POINTS:
                break
            if node.type == "ModelSamplingDiscrete":
                self._pass_by(node, below, found)
                break
            below = node
        return self.new.nodes[apply.id].origin("model")

    def _pass_by(self, sampling: Node, below: Node, found: Settings) -> None:
        outer = [node for node, _ in self.old.fed_by(Output(sampling.id, 0))]
        if any(node.id != below.id for node in outer):
            found.near.append(
                f"ModelSamplingDiscrete (node {self.name(sampling.id)}) had no effect on this branch before; now it has one, "
                "because other branches need it."
            )
            return
        self.new.redirect(Output(sampling.id, 0), sampling.origin("model") or Output(sampling.id, 0))
        self.new.remove(sampling)
        self.report.add(
            self.name(sampling.id), sampling.type, notes=["It had no effect: the node after it set the noise schedule anew."]
        )

    def _apply_node(self, use: Use, model: Output | None, choice: str, apply: Node, found: Settings) -> Node:
        settings = motion_settings(self.old, use.node)
        motion_model = self._motion_model(use, settings)
        inputs = {"model": model, "motion_model": motion_model, "beta_schedule": choice, **settings.inputs}
        inputs["group_norms"] = _norms(apply)
        if use.node.type in rules.APPLY_USES:
            inputs |= _range(*(self.old.value(use.node, name) for name in ("start_percent", "end_percent")))
        if settings.curves:
            for name, text in settings.curves.items():
                curve = self.put("LoomStepCurve", {"text": text, "easing": "hold"}, use.node, may_replace=False)
                inputs[name] = Output(curve.id, 0)
        made = self.put("LoomApplyMotionModel", inputs, use.node)
        if use.node is apply:
            found.extend(settings)
        else:
            self.note(use.node, [made], settings)
        return made

    # --- motion models --------------------------------------------------------------------------------------------

    def _motion_model(self, use: Use, settings: Settings) -> Output:
        """Load Motion Model, what changes its positions, and its LoRAs; made once for all that use them alike."""
        loras = self._loras(use.node, settings)
        positions = position_settings(self.old, use.settings, self._family(use.loader))
        settings.extend(positions)
        key = (use.loader.id, positions.key, tuple(lora.id for lora in loras))
        if key in self._motion_models:
            return self._motion_models[key]
        loader = self._loader(use, settings, positions.of_file)
        output = Output(loader.id, 0)
        if positions.inputs:
            assert positions.node is not None
            retime = self.put("LoomRetimeMotion", {"motion_model": output, **positions.inputs}, positions.node)
            output = Output(retime.id, 0)
        for lora in loras:
            output = Output(self._lora(lora, output).id, 0)
        self._motion_models[key] = output
        return output

    def _loader(self, use: Use, settings: Settings, inputs: Json) -> Node:
        known = self._motion_models.get((use.loader.id,))
        if known is not None:
            return self.new.nodes[known.node]
        found = Settings()
        name = self._file(use.loader, "model_name", self.files.motion_models, found)
        # A loader that also applies keeps its id for the node that applies.
        context = self.old.node_at(use.node, "context_options")
        made = self.put(
            "LoomLoadMotionModel", {"motion_model_name": name, **inputs}, use.loader, may_replace=use.loader is not use.node,
            at=context if use.loader is use.node else None,  # the windows move behind the node that applies
        )  # fmt: skip
        if use.loader is use.node:
            settings.extend(found)
        else:
            self.note(use.loader, [made], found)
        self._motion_models[(use.loader.id,)] = Output(made.id, 0)
        return made

    def _file(self, node: Node, name: str, offered: tuple[str, ...], found: Settings) -> Any:
        value = self.old.value(node, name)
        match = Files.find(value, offered)
        if match is None and offered and isinstance(value, str):
            found.notes.append(f"The file '{value}' is not there: choose another one, or put it into the folder.")
        return match or value

    def _loras(self, node: Node, settings: Settings) -> list[Node]:
        """The motion LoRAs of a motion model, bypassed ones included: they stay bypassed."""
        chain: list[Node] = []
        origin = self.old.resolve(node.origin("motion_lora") or node.origin("lora_stack"), through_bypassed=False)
        while origin is not None:
            lora = self.old.nodes[origin.node]
            if lora.type not in ("ADE_AnimateDiffLoRALoader", "AnimateDiffLoraLoader") or lora in chain:
                settings.lost.append(f"The motion LoRA from '{lora.type}' has no counterpart.")
                break
            chain.append(lora)
            origin = self.old.resolve(lora.origin("prev_motion_lora") or lora.origin("lora_stack"), through_bypassed=False)
        return chain[::-1]

    def _lora(self, lora: Node, motion_model: Output) -> Node:
        found = Settings()
        name = "lora_name" if "lora_name" in lora.values or lora.input("lora_name") else "name"
        strength = self.old.value(lora, "alpha" if lora.type == "AnimateDiffLoraLoader" else "strength")
        inputs = {"motion_model": motion_model, "strength": strength}
        inputs["motion_lora_name"] = self._file(lora, name, self.files.motion_loras, found)
        made = self.put("LoomLoadMotionLora", inputs, lora)
        self.note(lora, [made], found)
        return made

    # --- ArtVentureX ------------------------------------------------------------------------------------------------

    def _avx_sampler(self, sampler: Node) -> None:
        """One node that applies, cuts into windows and samples becomes three."""
        found = Settings()
        loader = self.old.node_at(sampler, "motion_module")
        if loader is None or loader.type != "AnimateDiffModuleLoader":
            return
        family = self._family(loader)
        motion_model = self._motion_model(Use(loader, loader, loader), found)
        if sampler.values.get("inject_method") == "legacy":
            found.lost.append("inject_method legacy ran motion modules after the upsampler, which nothing does today.")
        links = self.new.nodes[sampler.id]
        applied = self.put(
            "LoomApplyMotionModel",
            {
                "model": links.origin("model"), "motion_model": motion_model, "beta_schedule": rules.LINEAR,
                "group_norms": None if family.name == "AnimateDiff v2" else rules.ALL_NORMS,
            },
            sampler, may_replace=False,
        )
        windows, model = windows_of(self, sampler, Output(applied.id, 0), found)
        inputs = {name: links.origin(name) for name in ("positive", "negative")} | {"model": model}
        inputs["latent_image"] = self._repeated_latent(sampler, links, found)
        for name in ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"):
            inputs[name] = self.old.value(sampler, name)
        made = self.put("KSampler", inputs, sampler)
        self.note(sampler, [applied, *windows, made], found)

    def _repeated_latent(self, sampler: Node, links: Node, found: Settings) -> Output | None:
        """The latent, with as many frames as the sampler made of it."""
        frames = self.old.value(sampler, "frame_number")
        source = self.old.node_at(sampler, "latent_image")
        latent = links.origin("latent_image")
        is_empty = source is not None and source.type == "EmptyLatentImage" and source.values.get("batch_size") == 1
        if source is not None and is_empty and latent is not None:
            if len(self.old.consumers(Output(source.id, 0))) == 1:
                self.new.nodes[source.id].connect("batch_size", frames)
                return latent
            return Output(self.put("RepeatLatentBatch", {"samples": latent, "amount": frames}, sampler, False).id, 0)
        found.notes.append(
            f"The sampler made {frames} frames of whatever latent it was given. Give it a latent of as many frames, with "
            "RepeatLatentBatch where it has one."
        )
        return latent


def _norms(apply: Node) -> str:
    proper = apply.type not in rules.APPLY_V1 and apply.values.get("apply_v2_models_properly") is not False
    return rules.NORMS if proper else rules.NORMS_V2_AS_V1


def _range(start: Any, end: Any) -> Json:
    """The part of the run; one that ends before it starts is none at all, which Loom would refuse."""
    if isinstance(start, (int, float)) and isinstance(end, (int, float)) and start > end:
        return {"strength": 0.0}
    return {"start_percent": start, "end_percent": end}
