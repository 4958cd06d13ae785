"""Replaces the nodes that animate a MODEL: what stands between its source and its samplers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import rules
from .animatelcm_i2v_nodes import is_encoder_only, with_image
from .graph import Graph, Json, Node, NodeId, Output
from .image_options import image_nodes
from .model_source import beta_of, model_source
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
    """What an apply point became: enough to take it off a MODEL again.

    Attributes:
        first: the first node after what stays when it is taken off.
        motion_models: with their noise schedules.
    """

    first: Node
    motion_models: list[tuple[Output, str]]

    @property
    def model(self) -> Output | None:
        """The MODEL without it; nodes before it may have been replaced since."""
        return self.first.origin("model")


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
    _applied: set[NodeId] = field(default_factory=set)
    _made: dict[tuple, Output] = field(default_factory=dict)
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
            origin = self.old.resolve(entry.origin, node.mode) if entry.name in rules.PARTS else None
            if origin is not None and not rules.is_foreign(type := self.old.nodes[origin.node].type):
                entry.origin = None
                self._adjusted.setdefault(node.id, Settings()).lost.append(f"{entry.name} is left out: it came from '{type}'.")

    def run(self) -> None:
        """Replace every apply point, muted ones too: who unmutes one finds it whole."""
        for node in self.old.of_type(*rules.APPLY_POINTS):
            self.apply(node)

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
        source = self.new.nodes[origin.node]
        given = set("".join(source.outputs[origin.slot : origin.slot + 1]).split(","))
        taken = set(entry.type.split(","))
        is_gone = source.is_new and origin.slot >= len(source.outputs)
        if not is_gone and ("*" in given or "" in given or given & taken or entry.type.startswith("COM")):
            return
        if not is_gone and given <= {"INT", "FLOAT"} and taken <= {"INT", "FLOAT"}:
            number = self.put("ComfyNumberConvert", {"value": origin}, near, may_replace=False)
            node.connect(entry.name, Output(number.id, 0 if "FLOAT" in taken else 1))
            return
        node.connect(entry.name, None)
        what = "what it was linked to is gone" if is_gone else f"{' or '.join(sorted(given))} cannot be linked to it"
        said.lost.append(f"{entry.name} is not linked any more: {what}.")

    def note(self, node: Node, into: Iterable[Node | str] = (), found: Settings | None = None) -> None:
        """Report what became of a node."""
        names = [rules.DISPLAY_NAMES.get(entry.type, entry.type) if isinstance(entry, Node) else entry for entry in into]
        found = found or Settings()
        adjusted = self._adjusted.get(node.id, Settings())
        lost = [*found.lost, *adjusted.lost]
        self.report.add(self.name(node.id), node.type, dict.fromkeys(names), [*found.near, *adjusted.near], lost, found.notes)

    # --- apply points ---------------------------------------------------------------------------------------------

    def apply(self, apply: Node) -> None:
        """Replace an apply point, if that was not done yet."""
        if apply.id in self._applied:
            return
        self._applied.add(apply.id)
        uses = self._uses(apply)
        # By name: a sampler among them may be replaced on the way.
        consumers = [(node.id, entry.name) for node, entry in self.new.consumers(Output(apply.id, 0))]
        passed_on = self.new.consumers(Output(apply.id, 1)) if apply.type in rules.APPLY_V1 else []
        found = Settings()
        for node in self.old.chain(self.old.node_at(apply, "m_models"), "prev_m_models"):
            if all(use.node is not node for use in uses):
                found.lost.append(f"The motion model of '{node.type}' (node {self.name(node.id)}) is left out.")
        beta = beta_of(self, apply, uses, found)
        model = model_source(self, apply, beta, found)
        chain, applied = [], []
        if not uses and beta != rules.USE_EXISTING:
            inputs = {"model": model, "beta_schedule": rules.BETAS[beta], "prediction": rules.AS_CHECKPOINT}
            chain.append(self.put("LoomNoiseSchedule", inputs, apply, may_replace=False))
            model = Output(chain[0].id, 0)
        latents = self.new.nodes[apply.id].origin("latents")
        for place, use in enumerate(uses):
            choice = rules.BETAS[beta if place == len(uses) - 1 else rules.USE_EXISTING]
            made = self._apply_node(use, model, choice, apply, found)
            chain.append(made)
            applied.append((made.origin("motion_model"), choice))
            model = Output(made.id, 0)
        added, model = windows_of(self, apply, model, found)
        first = chain[0] if uses else added[0]
        chain += added
        self.animated[apply.id] = Animated(first, [(origin, name) for origin, name in applied if origin is not None])
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
            if loader is not None and loader.type in rules.MOTION_LOADERS:
                use = Use(node, loader, loader)
                if node.type == rules.APPLY_I2V or not is_encoder_only(self, use):
                    uses.append(use)
        return uses[::-1]

    def family(self, loader: Node) -> FileFamily:
        return rules.family_of(str(self.old.value(loader, "model_name")))

    def _apply_node(self, use: Use, model: Output | None, choice: str, apply: Node, found: Settings) -> Node:
        settings = motion_settings(self.old, use.node)
        motion_model = self.motion_model(use, settings)
        chain: list[Node] = []
        if use.node.type == rules.APPLY_PIA:
            chain = image_nodes(self, use, motion_model, apply, settings)
            motion_model = Output(chain[-1].id, 0)
        elif self.family(use.loader).name == "PIA":
            settings.lost.append("PIA ran without an image, which Loom refuses: put PIA Image before Apply Motion Model.")
        inputs = {"model": model, "motion_model": motion_model, "beta_schedule": choice, **settings.inputs}
        inputs["group_norms"] = _norms(apply)
        if use.node.type in rules.APPLY_USES:
            inputs |= _range(*(self.old.value(use.node, name) for name in ("start_percent", "end_percent")))
        if use.node.type == rules.APPLY_I2V:
            chain = [with_image(self, use, motion_model, inputs, settings)]
            inputs["motion_model"] = Output(chain[-1].id, 0)
        if settings.curves:
            for name, text in settings.curves.items():
                curve = self.put("LoomStepCurve", {"text": text, "easing": "hold"}, use.node, may_replace=False)
                inputs[name] = Output(curve.id, 0)
        made = self.put("LoomApplyMotionModel", inputs, use.node)
        if use.node is apply:
            found.extend(settings)
        else:
            self.note(use.node, [*chain, made], settings)
        return made

    # --- motion models --------------------------------------------------------------------------------------------

    def motion_model(self, use: Use, settings: Settings) -> Output:
        """Load Motion Model, what changes its positions, and its LoRAs; made once for all that use them alike."""
        loras = self._loras(use.node, settings)
        positions = position_settings(self.old, use.settings, self.family(use.loader))
        settings.extend(positions)
        key = (use.loader.id, positions.key, tuple(lora.id for lora in loras))
        if key in self._made:
            return self._made[key]
        loader = self._loader(use, settings, positions.of_file)
        output = Output(loader.id, 0)
        if positions.inputs:
            assert positions.node is not None
            is_first = positions.node.id not in self.taken
            retime = self.put("LoomRetimeMotion", {"motion_model": output, **positions.inputs}, positions.node)
            if is_first:
                self.note(positions.node, [retime])
            output = Output(retime.id, 0)
        for lora in loras:
            output = Output(self._lora(lora, output).id, 0)
        self._made[key] = output
        return output

    def loaded(self, use: Use, settings: Settings) -> Output:
        """A motion model as its file has it."""
        return Output(self._loader(use, settings, {}).id, 0)

    def _loader(self, use: Use, settings: Settings, inputs: Json) -> Node:
        known = self._made.get((use.loader.id,))
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
        self._made[(use.loader.id,)] = Output(made.id, 0)
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
        origin = self.old.resolve(node.origin("motion_lora") or node.origin("lora_stack"), node.mode, through_bypassed=False)
        while origin is not None:
            lora = self.old.nodes[origin.node]
            if lora.type not in ("ADE_AnimateDiffLoRALoader", "AnimateDiffLoraLoader") or lora in chain:
                settings.lost.append(f"The motion LoRA from '{lora.type}' has no counterpart.")
                break
            chain.append(lora)
            before = lora.origin("prev_motion_lora") or lora.origin("lora_stack")
            origin = self.old.resolve(before, lora.mode, through_bypassed=False)
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


def _norms(apply: Node) -> str:
    proper = apply.type not in rules.APPLY_V1 and apply.values.get("apply_v2_models_properly") is not False
    return rules.NORMS if proper else rules.NORMS_V2_AS_V1


def _range(start: Any, end: Any) -> Json:
    """The part of the run; one that ends before it starts is none at all, which Loom would refuse."""
    if isinstance(start, (int, float)) and isinstance(end, (int, float)) and start > end:
        return {"strength": 0.0}
    return {"start_percent": start, "end_percent": end}
