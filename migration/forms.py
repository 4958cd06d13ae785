"""From the forms in which workflows are saved to a ``Graph``, and back to the same form."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from .graph import Graph, Input, Json, Node, NodeId, Output, named_values
from .layout import place
from .targets import TARGETS, Target
from .widgets import CONTROL, WIDGETS

MOST_NODES = 3000
"""That a workflow may have; the largest of 371 public ones has 816."""

GRAPH_INPUTS, GRAPH_OUTPUTS = -10, -20
"""Ids of the nodes that stand for the inputs and outputs of a subgraph."""


class UnknownWorkflow(ValueError):
    """It is no workflow that ComfyUI saves."""


def is_prompt(workflow: Any) -> bool:
    """Whether it has the form that ComfyUI's API takes: nodes by their ids; people add comments that are no objects."""
    entries = [entry for entry in workflow.values() if isinstance(entry, dict)] if isinstance(workflow, dict) else []
    return bool(entries) and all(isinstance(entry.get("class_type"), str) for entry in entries)


def is_editor_graph(workflow: Any) -> bool:
    """Whether it has the form that the editor saves: a list of nodes and one of links."""
    return isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list)


def nodes_of_prompt(prompt: Json) -> Json:
    """The nodes of a prompt, without what else people write into it."""
    return {key: entry for key, entry in prompt.items() if isinstance(entry, dict)}


# --- the API's form -----------------------------------------------------------------------------------------------------


def read_prompt(prompt: Json) -> Graph:
    """Read the form that ComfyUI's API takes.

    Raises:
        UnknownWorkflow: it has too many nodes, or is damaged.
    """
    check_size(len(prompt))
    nodes = []
    for key, entry in nodes_of_prompt(prompt).items():
        inputs, values, given = [], {}, entry.get("inputs") or {}
        if not isinstance(given, dict):
            raise UnknownWorkflow(f"This workflow is damaged: the inputs of node '{key}' are no object.")
        for name, value in given.items():
            if _is_link(value, prompt):
                inputs.append(Input(name, origin=Output(str(value[0]), value[1])))
            else:
                values[name] = value
        nodes.append(Node(key, entry["class_type"], inputs, named_values(entry["class_type"], values), raw=entry))
    return Graph(nodes)


def _is_link(value: Any, prompt: Json) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(prompt.get(str(value[0])), dict) and type(value[1]) is int


def write_prompt(graph: Graph) -> Json:
    """Write the form that ComfyUI's API takes."""
    prompt: Json = {}
    for key, node in graph.nodes.items():
        links = {entry.name: [entry.origin.node, entry.origin.slot] for entry in node.inputs if entry.origin is not None}
        if node.is_new:
            prompt[str(key)] = {"class_type": node.type, "inputs": node.values | links}
            continue
        unlinked = {entry.name for entry in node.inputs} - links.keys()
        inputs = {name: value for name, value in (node.raw.get("inputs") or {}).items() if name not in unlinked}
        inputs |= {name: node.values[name] for name in node.changed if name in node.values}
        prompt[str(key)] = {**node.raw, "inputs": inputs | links}
    return prompt


# --- the editor's form --------------------------------------------------------------------------------------------------


def read_editor(workflow: Json) -> Graph:
    """Read a graph of the form that the editor saves: a workflow, or a subgraph's definition.

    Raises:
        UnknownWorkflow: nodes or links are not what they have to be, or there are too many.
    """
    check_size(len(workflow["nodes"]))
    try:
        origins = {link_id: Output(origin, slot) for link_id, origin, slot, _, _, _ in map(_link, _links(workflow))}
        nodes = [read_node(node, origins) for node in workflow["nodes"]]
        if "inputNode" in workflow:
            nodes.append(Node(GRAPH_INPUTS, "", outputs=[entry.get("type", "*") for entry in workflow.get("inputs") or []]))
            ends = [_link(link) for link in _links(workflow)]
            outputs = workflow.get("outputs") or []
            entries = [Input(entry.get("name", ""), entry.get("type", "*")) for entry in outputs]
            for _, origin, slot, target, target_slot, _ in ends:
                if target == GRAPH_OUTPUTS and target_slot < len(entries):
                    entries[target_slot].origin = Output(origin, slot)
            nodes.append(Node(GRAPH_OUTPUTS, "", entries))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownWorkflow(f"This workflow is damaged: its nodes or links can't be read ({error}).") from error
    return Graph(nodes)


def check_size(nodes: int, kind: str = "", most: int = MOST_NODES) -> None:
    """Refuse a workflow with too many nodes: some work grows with their square.

    Raises:
        UnknownWorkflow: it has.
    """
    if nodes > most:
        raise UnknownWorkflow(f"This workflow has {nodes} nodes{kind}; at most {most} are translated.")


def _links(workflow: Json) -> list[Any]:
    """The links; some versions of the editor saved ``None`` in the place of one that was removed."""
    return [link for link in workflow.get("links") or [] if link is not None]


def _link(link: Any) -> tuple[Any, NodeId, int, NodeId, int, str]:
    if isinstance(link, dict):
        return (
            link["id"], link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"], link.get("type", "*"),
        )  # fmt: skip
    link_id, origin, slot, target, target_slot = link[:5]
    return link_id, origin, slot, target, target_slot, link[5] if len(link) > 5 else "*"


def read_node(node: Json, origins: dict[Any, Output]) -> Node:
    """Read a node as the editor saves it; ``origins`` are those of its links, by their ids."""
    inputs = [
        Input(
            entry.get("name", ""),
            _type_name(entry.get("type")),
            origins.get(entry.get("link")),
            bool(entry.get("widget")),
            entry,
        )
        for entry in node.get("inputs") or []
    ]
    return Node(
        node["id"],
        node["type"],
        inputs,
        named_values(node["type"], node.get("widgets_values")),
        [_type_name(entry.get("type")) for entry in node.get("outputs") or []],
        node.get("mode") or 0,
        node,
    )


def _type_name(kind: Any) -> str:
    return kind if isinstance(kind, str) else "*"


def write_editor(graph: Graph, workflow: Json) -> Json:
    """Write a graph into a copy of the workflow that it was read from; what was not touched stays as it was."""
    written = {key: value for key, value in workflow.items() if key not in ("nodes", "links")}
    old = {(link[1], link[2], link[3], link[4]): raw for raw in _links(workflow) for link in [_link(raw)]}
    ids = itertools.count(max([_number(_link(raw)[0]) for raw in old.values()] + [_number(workflow.get("last_link_id"))]) + 1)
    place(graph)
    nodes = {node.id: _write_node(node) for node in graph.nodes.values() if node.id not in (GRAPH_INPUTS, GRAPH_OUTPUTS)}
    links: list[Any] = []
    ends: dict[tuple[str, int], list[Any]] = {}
    for node in graph.nodes.values():
        for slot, entry in enumerate(node.inputs):
            raw = None
            if entry.origin is not None and entry.origin.node in graph.nodes:
                raw = old.get((entry.origin.node, entry.origin.slot, node.id, slot))
                raw = raw if raw is not None else _new_link(next(ids), graph, entry.origin, node.id, slot, entry, workflow)
                links.append(raw)
            link_id = None if raw is None else _link(raw)[0]
            _note_link(nodes, ends, node.id, slot, entry, link_id)
    written["nodes"], written["links"] = list(nodes.values()), links
    _write_ends(written, ends, workflow)
    for name, values in (("last_node_id", nodes), ("last_link_id", [_link(raw)[0] for raw in links])):
        if name in workflow:
            written[name] = max([_number(value) for value in values] + [_number(workflow[name])])
    return written


def _note_link(nodes: dict[NodeId, Json], ends: dict, node: NodeId, slot: int, entry: Input, link_id: Any) -> None:
    """Write a link's id where it ends and where it begins."""
    if node in nodes:
        nodes[node]["inputs"][slot]["link"] = link_id
    elif link_id is not None:
        ends.setdefault(("outputs", slot), []).append(link_id)
    if link_id is None or entry.origin is None:
        return
    origin = nodes.get(entry.origin.node)
    if origin is None:
        ends.setdefault(("inputs", entry.origin.slot), []).append(link_id)
    elif entry.origin.slot < len(origin.get("outputs") or []):
        output = origin["outputs"][entry.origin.slot]
        output["links"] = [*(output.get("links") or []), link_id]


def _write_ends(written: Json, ends: dict[tuple[str, int], list[Any]], workflow: Json) -> None:
    """Write into a subgraph's inputs and outputs which links begin and end there."""
    if "inputNode" not in workflow:
        return
    for side in ("inputs", "outputs"):
        written[side] = [
            {**entry, "linkIds": ends.get((side, slot), [])} for slot, entry in enumerate(workflow.get(side) or [])
        ]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _new_link(link_id: int, graph: Graph, origin: Output, target: NodeId, slot: int, entry: Input, workflow: Json) -> Any:
    outputs = graph.nodes[origin.node].outputs
    kind = outputs[origin.slot] if origin.slot < len(outputs) else entry.type
    if any(isinstance(link, dict) for link in _links(workflow)):
        return {
            "id": link_id, "origin_id": origin.node, "origin_slot": origin.slot, "target_id": target, "target_slot": slot,
            "type": kind,
        }  # fmt: skip
    return [link_id, origin.node, origin.slot, target, slot, kind]


def _write_node(node: Node) -> Json:
    if node.is_new:
        return _new_node(node, TARGETS[node.type])
    raw = copy.deepcopy(node.raw)
    raw["inputs"] = [
        {**entry.raw, **({} if entry.raw else {"name": entry.name, "type": entry.type})} for entry in copy.deepcopy(node.inputs)
    ]
    if not node.inputs and "inputs" not in node.raw:
        del raw["inputs"]
    for output in raw.get("outputs") or []:
        output["links"] = []
    raw["mode"] = node.mode
    if node.changed and isinstance(raw.get("widgets_values"), list):
        raw["widgets_values"] = _ordered_values(node, raw["widgets_values"])
    elif node.changed and isinstance(raw.get("widgets_values"), dict):
        raw["widgets_values"] |= {name: value for name, value in node.values.items() if name in raw["widgets_values"]}
    return raw


def _ordered_values(node: Node, values: list[Any]) -> list[Any]:
    """The list of a node's values, with those that were changed."""
    if node.type not in WIDGETS:
        return values
    names = WIDGETS[node.type].names
    return [
        node.values.get(names[place], value) if place < len(names) and names[place] != CONTROL else value
        for place, value in enumerate(values)
    ]


def _new_node(node: Node, target: Target) -> Json:
    inputs: list[Json] = []
    for entry in node.inputs:
        described: Json = {"name": entry.name, "type": entry.type, "link": None}
        if entry.is_widget:
            described["widget"] = {"name": entry.name}
        inputs.append(described)
    values: list[Any] = []
    for widget in target.inputs:
        if widget.is_widget:
            values.append(node.values[widget.name])
            values += [value for name, value in target.extra_widgets if name == widget.name]
    return {
        "id": node.id,
        "type": node.type,
        "pos": node.raw["pos"],
        "size": node.raw["size"],
        "flags": {},
        "order": 0,
        "mode": node.mode,
        "inputs": inputs,
        "outputs": [{"name": name, "type": kind, "links": []} for name, kind in target.outputs],
        "properties": {"Node name for S&R": node.type, "cnr_id": target.pack},
        "widgets_values": values,
    }
