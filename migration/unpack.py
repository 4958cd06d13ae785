"""Takes subgraphs and group nodes apart where the settings of an animated MODEL pass through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .forms import GRAPH_INPUTS, GRAPH_OUTPUTS, check_size, read_editor, read_node
from .graph import BYPASSED, MUTED, Graph, Input, Json, Node, NodeId, Output
from .layout import move_to_free_place
from .report import Report
from .rules import SOCKETS, is_foreign
from .widgets import CONTROL, WIDGETS


@dataclass(frozen=True)
class Parts:
    """What a workflow defines: subgraphs by id, and group nodes, their older form, by type."""

    subgraphs: dict[str, Json]
    groups: dict[str, Json]

    @staticmethod
    def of(workflow: Json) -> Parts:
        """Only those that are to be taken apart."""
        defined = (workflow.get("definitions") or {}).get("subgraphs") or []
        groups = (workflow.get("extra") or {}).get("groupNodes") or {}
        return Parts(
            {graph["id"]: graph for graph in defined if _settings_pass_its_border(graph)},
            {
                f"workflow{sign}{name}": group
                for name, group in groups.items()
                if any(is_foreign(str(node.get("type"))) for node in group.get("nodes") or [])
                for sign in "/>"
            },
        )

    def are_in(self, workflow: Json) -> bool:
        """Whether a graph has a node that is to be taken apart."""
        return any(node.get("type") in self.subgraphs or node.get("type") in self.groups for node in workflow["nodes"])


def _settings_pass_its_border(graph: Json) -> bool:
    return any(entry.get("type") in SOCKETS for side in ("inputs", "outputs") for entry in graph.get(side) or [])


def unpack(graph: Graph, parts: Parts, report: Report, name: Callable[[NodeId], NodeId]) -> None:
    """Put what is in such nodes in their place, those inside them, too."""
    inside: dict[NodeId, tuple[str, ...]] = {}
    waiting = list(graph.nodes.values())
    while waiting:
        node = waiting.pop()
        around = inside.get(node.id, ())
        if node.type in around:  # a damaged workflow: it would hold itself
            continue
        notes: list[str] = []
        if node.type in parts.subgraphs:
            inner, title = read_editor(parts.subgraphs[node.type]), parts.subgraphs[node.type].get("name") or node.type
            _take_values(node, inner)
        elif node.type in parts.groups:
            inner, title = _group(parts.groups[node.type], node, notes), node.type[len("workflow/") :]
        else:
            continue
        check_size(len(graph.nodes) + len(inner.nodes), " once unpacked")
        added = _merge(graph, node, inner)
        inside |= {entry.id: (*around, node.type) for entry in added}
        waiting += added
        notes.insert(0, "It was unpacked, because AnimateDiff nodes or their settings were inside.")
        report.add(name(node.id), str(title), ["its nodes"], notes=notes)


def _merge(graph: Graph, host: Node, inner: Graph) -> list[Node]:
    """Put the nodes of a graph in the place of the node that stands for it."""
    ends = {key: inner.nodes.pop(key) for key in (GRAPH_INPUTS, GRAPH_OUTPUTS)}
    added = list(inner.nodes.values())
    ids: dict[NodeId, NodeId] = {}
    for node in added:
        ids[node.id] = node.id = graph.new_id()
        graph.nodes[node.id] = node
        node.raw = {**node.raw, "id": node.id}
        if host.mode in (MUTED, BYPASSED):
            node.mode = host.mode

    def outside(origin: Output | None) -> Output | None:
        if origin is None or origin.node != GRAPH_INPUTS:
            return None if origin is None or origin.node not in ids else Output(ids[origin.node], origin.slot)
        return host.inputs[origin.slot].origin if origin.slot < len(host.inputs) else None

    for node in added:
        for entry in node.inputs:
            entry.origin = outside(entry.origin)
    for slot, end in enumerate(ends[GRAPH_OUTPUTS].inputs):
        for _, entry in graph.consumers(Output(host.id, slot)):
            entry.origin = outside(end.origin)
    graph.remove(host)
    move_to_free_place(graph, added, host)
    return added


def _take_values(host: Node, inner: Graph) -> None:
    """The values that a subgraph's node shows stand above those inside it."""
    shown = [entry for entry in host.inputs if entry.is_widget]
    values = host.raw.get("widgets_values")
    if not isinstance(values, list) or len(values) != len(shown):
        return
    by_slot = {host.inputs.index(entry): value for entry, value in zip(shown, values, strict=True) if value is not None}
    for node in inner.nodes.values():
        for entry in node.inputs:
            origin = entry.origin
            if origin is not None and origin.node == GRAPH_INPUTS and origin.slot in by_slot and entry.name in node.values:
                node.values[entry.name] = by_slot[origin.slot]
                node.changed.add(entry.name)


# --- group nodes ------------------------------------------------------------------------------------------------------------


def _group(group: Json, host: Node, notes: list[str]) -> Graph:
    """The graph of a group node. Its sockets are those of its nodes that no other one of them feeds or takes, in order."""
    values = _values_of(group, host)
    if values is None:
        notes.append("Its nodes have the values that they had when the group was made: check them.")
        values = [node.get("widgets_values") for node in group["nodes"]]
    nodes = [
        read_node({**raw, "id": place, "widgets_values": own}, {})
        for place, (raw, own) in enumerate(zip(group["nodes"], values, strict=True))
    ]
    links = [link for link in group.get("links") or [] if link[0] is not None]
    for origin, slot, target, target_slot in (link[:4] for link in links):
        if target_slot < len(nodes[target].inputs):
            nodes[target].inputs[target_slot].origin = Output(origin, slot)
    sockets = list(_free_inputs(group, nodes))
    for entry, slot in _matched(sockets, host):
        entry.origin = Output(GRAPH_INPUTS, slot)
    taken = {(link[0], link[1]) for link in links} - {(entry[0], entry[1]) for entry in group.get("external") or []}
    outputs = []
    for node in nodes:
        for slot, kind in enumerate(node.outputs):
            is_visible = _config(group, node, "output", slot).get("visible")
            if (node.id, slot) not in taken if is_visible is None else is_visible:
                outputs.append(Input("", kind, Output(node.id, slot)))
    return Graph([*nodes, Node(GRAPH_INPUTS, ""), Node(GRAPH_OUTPUTS, "", outputs)])


def _config(group: Json, node: Node, side: str, name: str | int) -> Json:
    """What the user set of one of its sockets."""
    config: Any = group.get("config") or {}
    for key in (str(node.id), side, str(name)):
        config = (config.get(key) if isinstance(config, dict) else None) or {}
    return config if isinstance(config, dict) else {}


def _free_inputs(group: Json, nodes: list[Node]) -> Iterator[tuple[str, Input]]:
    """The inputs that the group node has, with their names there: sockets first, then widgets turned into inputs."""
    for is_widget in (False, True):
        for node in nodes:
            for entry in node.inputs:
                config = _config(group, node, "input", entry.name)
                if entry.is_widget == is_widget and entry.origin is None and config.get("visible") is not False:
                    yield str(config.get("name") or entry.raw.get("label") or entry.name), entry


def _matched(sockets: list[tuple[str, Input]], host: Node) -> Iterator[tuple[Input, int]]:
    """Which of a group node's inputs each socket is: the one of its name, or else the next of its type."""
    names = [name for name, _ in sockets]
    free = dict(enumerate(host.inputs))
    rest = []
    for name, entry in sockets:
        slot = next((slot for slot, shown in free.items() if shown.name == name), None)
        if slot is None or names.count(name) > 1:
            rest.append(entry)
        else:
            del free[slot]
            yield entry, slot
    for entry in rest:
        slot = next((slot for slot, shown in free.items() if shown.type == entry.type), None)
        if slot is not None:
            del free[slot]
            yield entry, slot


def _values_of(group: Json, host: Node) -> list[list[Any]] | None:
    """The values of each node of a group node: it saves those of their widgets in order, then those turned into inputs."""
    shown, inputs = host.raw.get("widgets_values"), group.get("links") or []
    if not isinstance(shown, list):
        return None
    linked = {(link[2], link[3]) for link in inputs if link[0] is not None}
    values, turned = [], []
    place = 0
    for number, node in enumerate(group["nodes"]):
        own = node.get("widgets_values")
        own = list(own) if isinstance(own, list) else []
        names = _widget_names(node, own)
        entries = [
            (slot, entry["widget"].get("name")) for slot, entry in enumerate(node.get("inputs") or []) if entry.get("widget")
        ]
        if names is None and entries:
            return None
        as_inputs = [name for _, name in entries]
        for at in range(len(own)):
            if names is None or names[at] not in as_inputs:
                own[at] = shown[place] if place < len(shown) else own[at]
                place += 1
        turned += [(own, (names or []).index(name)) for slot, name in entries if (number, slot) not in linked]
        values.append(own)
    for own, at in turned:
        own[at] = shown[place] if place < len(shown) else own[at]
        place += 1
    return values if place == len(shown) else None


def _widget_names(node: Json, values: list[Any]) -> list[str] | None:
    """The names of a node's saved values, where they are known."""
    turned = [entry["widget"].get("name") for entry in node.get("inputs") or [] if entry.get("widget")]
    widgets = WIDGETS.get(node.get("type", ""))
    if widgets is None:
        return turned if turned and len(turned) == len(values) else None
    names = [*widgets.older.get(len(values), widgets.names), *[CONTROL] * len(values)][: len(values)]
    return names if set(turned) <= set(names) else None
