"""How strong a motion model was applied, and where its frames stood: what other nodes set of it, as Loom's inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .graph import Graph, Json, Node, Output
from .rules import FileFamily


@dataclass
class Settings:
    """Inputs for a node, and what is to be said of them.

    Attributes:
        inputs: values and links, by Loom's names.
        of_file: those of the node that loads the motion model.
        curves: texts of Step Curve, by the inputs they are linked to.
        near: what changes.
        lost: what is gone.
        notes: what else there is to say.
        node: the node that they were set by.
        key: tells settings apart.
    """

    inputs: Json = field(default_factory=dict)
    of_file: Json = field(default_factory=dict)
    curves: dict[str, str] = field(default_factory=dict)
    near: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    node: Node | None = None
    key: tuple = ()

    def extend(self, other: Settings) -> None:
        """Take over what is to be said of others."""
        self.near += other.near
        self.lost += other.lost
        self.notes += other.notes


_FACTORS = {"scale_multival": "motion_scale", "effect_multival": "strength"}


def motion_settings(graph: Graph, node: Node) -> Settings:
    """What multiplies a motion model's attention and effect, over frames, pixels and steps."""
    found = Settings()
    if "motion_scale" in node.values:
        found.inputs["motion_scale"] = graph.value(node, "motion_scale")
    for socket, name in _FACTORS.items():
        _read_factor(graph, node, socket, name, found)
    keyframes = graph.node_at(node, "ad_keyframes")
    if keyframes is not None:
        _read_keyframes(graph, keyframes, found)
    if graph.source(node, "per_block") is not None:
        found.lost.append("Values for each block are left out: set them with Motion Blocks.")
    return found


def _read_factor(graph: Graph, node: Node, socket: str, name: str, found: Settings) -> None:
    factor = graph.node_at(node, socket)
    if factor is None:
        return
    number, mask = factor_of(graph, factor, found)
    if isinstance(number, Output):
        found.inputs |= {name: 1.0, f"{name}_values": number, "hold_last_value": True}
        if mask is not None:
            found.lost.append(f"A mask on top of a linked number is left out; {name}_values takes one of them.")
    elif number is not None:
        found.inputs |= {name: number} | ({} if mask is None else {f"{name}_values": mask, "hold_last_value": True})


def factor_of(graph: Graph, factor: Node, found: Settings) -> tuple[Any, Output | None]:
    """A number, or what is linked in its place, and a mask."""
    if factor.type in ("ADE_MultivalDynamic", "ADE_MultivalDynamicFloatInput", "ADE_MultivalDynamicFloats"):
        number = _number(graph, factor, "floats" if factor.type.endswith("Floats") else "float_val")
        return number, graph.source(factor, "mask_optional")
    if factor.type == "ADE_MultivalScaledMask":
        least, most = graph.value(factor, "min_float_val"), graph.value(factor, "max_float_val")
        if least != 0 or factor.values.get("scaling") != "absolute":
            found.near.append(f"The mask went from {least} to {most}; now it goes from 0 to {most}.")
        return most, graph.source(factor, "mask")
    found.lost.append(f"What '{factor.type}' set has no counterpart.")
    return None, None


def _number(graph: Graph, node: Node, name: str) -> Any:
    """A number or what is linked in its place; of a schedule, what is one for Loom's nodes."""
    number = graph.value(node, name)
    source = graph.nodes[number.node] if isinstance(number, Output) else None
    if source is not None and source.type == "ADE_FloatToFloats":
        return _number(graph, source, "FLOAT")
    return Output(source.id, 0) if source is not None and source.type.startswith("ADE_ValueScheduling") else number


def _read_keyframes(graph: Graph, last: Node, found: Settings) -> None:
    """Keyframes over the run become curves that hold each value until the next one."""
    frames: list[Node] = []
    for node in graph.chain(last, "prev_ad_keyframes"):
        if node.type not in ("ADE_AnimateDiffKeyframe", "ADE_PIA_AnimateDiffKeyframe"):
            found.lost.append(f"Keyframes of '{node.type}' have no counterpart.")
            break
        frames.insert(0, node)
    frames.sort(key=_start)
    for socket, name in _FACTORS.items():
        values = {}
        for frame in frames:
            factor = graph.node_at(frame, socket)
            number, mask = (None, None) if factor is None else factor_of(graph, factor, found)
            if isinstance(number, Output) or mask is not None:
                found.lost.append("A linked value or a mask of a keyframe has no counterpart.")
            elif number is not None:
                values[_start(frame)] = number
            elif factor is None and frame.values.get("inherit_missing") is False:
                values[_start(frame)] = 1.0
        if any(value != 1.0 for value in values.values()):
            values = {0.0: 1.0} | values
            found.curves[f"{name}_steps"] = ", ".join(f"{100 * at:g}%: {value:g}" for at, value in sorted(values.items()))
            found.inputs["curves_over"] = "noise schedule"
    late = [frame.values.get("guarantee_steps") for frame in frames if _start(frame) > 0.0]
    if found.curves and any(late[:-1]):
        found.near.append("Each keyframe was kept for a step at least. Of two that begin within one step, only the second one counts now.")
    if any(graph.source(frame, "per_block_replace") is not None for frame in frames):
        found.lost.append("Values for each block are left out: set them with Motion Blocks.")
    if any(graph.source(frame, "pia_input") is not None for frame in frames):
        found.lost.append("PIA inputs of keyframes are left out: PIA Image has one for the whole run.")


def _start(frame: Node) -> float:
    start = frame.values.get("start_percent", 0.0)
    return float(start) if isinstance(start, (int, float)) else 0.0


def position_settings(graph: Graph, node: Node, family: FileFamily) -> Settings:
    """Where the frames of a motion model stood, as inputs of Retime Motion, and its weights, as inputs of Load Motion Model."""
    found = Settings()
    settings = graph.node_at(node, "ad_settings")
    if settings is None:
        return found
    found.node, found.key = settings, (settings.id,)
    if settings.type == "ADE_AnimateDiffSettings":
        _read_adjustments(graph, settings, family, found)
    else:
        _read_old_settings(graph, settings, family, found)
    if found.inputs and family.name == "AnimateLCM":
        found.inputs.clear()
        found.notes.append("AnimateDiff-Evolved stretches and moves the positions in a file, and AnimateLCM's files have none.")
    return found


def _read_adjustments(graph: Graph, settings: Node, family: FileFamily, found: Settings) -> None:
    factor = 1.0
    for weights in graph.chain(graph.node_at(settings, "weight_adjust"), "prev_weight_adjust"):
        number = graph.value(weights, "all_MULT") if weights.type == "ADE_AdjustWeightAllMult" else None
        if isinstance(number, (int, float)):
            factor *= number
        else:
            found.lost.append(f"What '{weights.type}' did to the motion model's weights has no counterpart.")
    if factor != 1.0:
        found.of_file["weight_scale"] = factor
    positions = graph.node_at(settings, "pe_adjust")
    if positions is None:
        return
    found.node, found.key = positions, (positions.id,)
    values = {name: graph.value(positions, name) for name in positions.values}
    if positions.type == "ADE_AdjustPESweetspotStretch":
        values = {"cap_initial_pe_length": values.get("sweetspot"), "interpolate_pe_to_length": values.get("new_sweetspot")}
    _read_positions({"motion_pe_stretch": values.pop("pe_stretch", 0)} | values, family, found)
    if graph.node_at(positions, "prev_pe_adjust") is not None:
        found.lost.append("Of several adjustments of the positions the last one counts.")


def _read_old_settings(graph: Graph, settings: Node, family: FileFamily, found: Settings) -> None:
    values = {name: graph.value(settings, name) for name in settings.values}
    strengths = [name for name, value in values.items() if name.endswith("_strength") and value not in (1, 1.0)]
    if strengths:
        found.lost.append(f"{', '.join(strengths)} of the motion model's weights have no counterpart.")
    _read_positions(values, family, found)
    if graph.source(settings, "mask_motion_scale") is not None:
        found.lost.append("mask_motion_scale is left out: connect the mask to motion_scale_values of Apply Motion Model.")


def _read_positions(values: Json, family: FileFamily, found: Settings) -> None:
    """How a file's table was changed: stretched, its first rows left out, cut, stretched again, its first rows left out again."""
    names = ("motion_pe_stretch", "initial_pe_idx_offset", "cap_initial_pe_length", "interpolate_pe_to_length", "final_pe_idx_offset")
    numbers = [values.get(name) or 0 for name in names]
    if isinstance(numbers[0], Output) and not any(numbers[1:]):
        found.inputs["stretch"] = numbers[0]
        return
    if not all(isinstance(number, int) for number in numbers):
        found.lost.append("A linked adjustment of the positions has no counterpart.")
        return
    whole, first, cap, length, last = numbers
    cap = min(cap, family.positions)
    stretch = whole or (length - (cap or family.positions) if length else 0)
    if (whole and (first or cap or length or last)) or (first and (stretch or last)):
        found.lost.append("Positions that were stretched more than once, or moved before, stand as in the file now.")
        return
    if stretch:
        found.inputs |= {"stretch": stretch, "stretch_from": cap}
    if first or last:
        found.inputs["offset"] = float(first or last)
