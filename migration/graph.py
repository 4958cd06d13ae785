"""One picture of a workflow, whichever form it was saved in: nodes, what feeds each of their inputs, and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .targets import TARGETS
from .widgets import WIDGETS

Json = dict[str, Any]
NodeId = int | str

ACTIVE, MUTED, BYPASSED = 0, 2, 4
"""The editor's node modes: runs, does not run, and hands its inputs on."""

REROUTES = frozenset({"Reroute", "ReroutePrimitive|pysssss", "Reroute (rgthree)"})
SETTERS, GETTERS = frozenset({"SetNode", "easy setNode"}), frozenset({"GetNode", "easy getNode"})
PRIMITIVE = "PrimitiveNode"


class Output(NamedTuple):
    """An output of a node."""

    node: NodeId
    slot: int


@dataclass
class Input:
    """An input of a node: ``origin`` is what is linked to it, ``is_widget`` whether a value stands in its place otherwise."""

    name: str
    type: str = "*"
    origin: Output | None = None
    is_widget: bool = False
    raw: Json = field(default_factory=dict)


@dataclass
class Node:
    """A node; ``values`` by name, as far as the order of its widgets is known.

    Those of ``changed`` are no longer what ``raw``, the node as it was saved, says. A node that a translation puts there has
    "near" in ``raw``: the node in whose place it stands.
    """

    id: NodeId
    type: str
    inputs: list[Input] = field(default_factory=list)
    values: Json = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    mode: int = ACTIVE
    raw: Json = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def input(self, name: str) -> Input | None:
        """The input of that name; of two (some frontends saved one twice) the linked one."""
        found = [entry for entry in self.inputs if entry.name == name]
        return next((entry for entry in found if entry.origin is not None), found[0] if found else None)

    @property
    def is_new(self) -> bool:
        """Whether a translation put it there."""
        return "near" in self.raw

    def origin(self, name: str) -> Output | None:
        entry = self.input(name)
        return None if entry is None else entry.origin

    def connect(self, name: str, value: Any) -> None:
        """Give an input an ``Output`` to take its value from, or a value of its own; ``None`` only unlinks it."""
        entry = self.input(name)
        if isinstance(value, Output):
            if entry is None:
                entry = Input(name, is_widget=name in self.values)
                self.inputs.append(entry)
            entry.origin = value
        else:
            if entry is not None:
                entry.origin = None
            if value is not None:
                self.values[name] = value
        self.changed.add(name)


class Graph:
    """The nodes of a workflow, and what is asked of them and done to them."""

    def __init__(self, nodes: list[Node]):
        self.nodes: dict[NodeId, Node] = {node.id: node for node in nodes}

    def of_type(self, *types: str) -> list[Node]:
        return [node for node in list(self.nodes.values()) if node.type in types]

    # --- who feeds whom -------------------------------------------------------------------------------------------

    def source(self, node: Node, name: str) -> Output | None:
        """What feeds an input, through reroutes, Set and Get, and bypassed nodes; ``None`` where nothing runs there.

        A muted or bypassed node sees what is so like it: users switch parts of a workflow on and off as a whole.
        """
        return self.resolve(node.origin(name), node.mode)

    def resolve(self, origin: Output | None, mode: int = ACTIVE, through_bypassed: bool = True) -> Output | None:
        """What stands behind an output, for a node of that ``mode``.

        ``through_bypassed`` tells whether bypassed nodes are passed by.
        """
        seen: set[Output] = set()
        while origin is not None and origin not in seen:
            seen.add(origin)
            node = self.nodes.get(origin.node)
            if node is None or (node.mode == MUTED and mode != MUTED):
                return None
            if node.type in REROUTES:
                origin = node.inputs[0].origin if node.inputs else None
            elif node.type in GETTERS:
                origin = self._set_to(node)
            elif node.mode == BYPASSED and mode != BYPASSED and through_bypassed:
                origin = self._bypass(node, origin.slot)
            else:
                return origin
        return None

    def value(self, node: Node, name: str) -> Any:
        """An input's value: an ``Output`` where it is linked, a primitive's value, or its own."""
        origin = self.source(node, name)
        if origin is None:
            return node.values.get(name)
        primitive = self.nodes[origin.node]
        if primitive.type == PRIMITIVE and isinstance(values := primitive.raw.get("widgets_values"), list) and values:
            return values[0]
        return origin

    def node_at(self, node: Node, name: str) -> Node | None:
        """The node that feeds an input."""
        origin = self.source(node, name)
        return None if origin is None else self.nodes.get(origin.node)

    def chain(self, node: Node | None, name: str) -> Iterator[Node]:
        """A node, what feeds its input of that name, what feeds that one's, and so on; links that run in a circle end it."""
        seen: set[NodeId] = set()
        while node is not None and node.id not in seen:
            seen.add(node.id)
            yield node
            node = self.node_at(node, name)

    def consumers(self, origin: Output) -> list[tuple[Node, Input]]:
        """The inputs that an output is linked to directly."""
        return [(node, entry) for node in self.nodes.values() for entry in node.inputs if entry.origin == origin]

    def fed_by(self, origin: Output, mode: int | None = None) -> Iterator[tuple[Node, Input]]:
        """The inputs that an output feeds, through reroutes, Set and Get, and bypassed nodes.

        ``mode`` is the feeding node's own if None, see ``source``; with ``MUTED``, muted nodes count as others do.
        """
        if mode is None:
            mode = self.nodes[origin.node].mode if origin.node in self.nodes else ACTIVE
        waiting, seen = [origin], set()
        while waiting:
            origin = waiting.pop()
            if origin in seen:
                continue
            seen.add(origin)
            for node, entry in self.consumers(origin):
                if node.type in REROUTES:
                    waiting.append(Output(node.id, 0))
                elif node.type in SETTERS:
                    waiting += [Output(getter.id, 0) for getter in self.of_type(*GETTERS) if _key(getter) == _key(node)]
                elif node.mode == BYPASSED and mode != BYPASSED:
                    waiting += [
                        Output(node.id, slot) for slot in range(len(node.outputs)) if self._bypass(node, slot) == entry.origin
                    ]
                elif node.mode != MUTED or mode == MUTED:
                    yield node, entry

    def model_reaches(self, origin: Output, passes: Callable[[Node], bool]) -> Iterator[tuple[Node, Input]]:
        """The inputs that a MODEL feeds, and those behind nodes that hand it on, as far as ``passes`` lets it through them."""
        waiting, seen = [origin], set()
        while waiting:
            origin = waiting.pop()
            if origin in seen:
                continue
            seen.add(origin)
            for node, entry in self.fed_by(origin):
                yield node, entry
                # The API's form does not say what a node gives.
                kinds = node.outputs or (["MODEL"] if entry.name in ("model", "MODEL") else [])
                if passes(node):
                    waiting += [Output(node.id, slot) for slot, kind in enumerate(kinds) if kind == "MODEL"]

    def _set_to(self, getter: Node) -> Output | None:
        setter = next((node for node in self.of_type(*SETTERS) if _key(node) == _key(getter)), None)
        return setter.inputs[0].origin if setter is not None and setter.inputs else None

    def _bypass(self, node: Node, slot: int) -> Output | None:
        """As the frontend does: an output hands on the first linked input of its type, the one in its own place first."""
        if slot >= len(node.outputs):
            return None
        in_place = node.inputs[slot : slot + 1]
        return next((e.origin for e in (*in_place, *node.inputs) if e.type == node.outputs[slot] and e.origin), None)

    # --- changes ----------------------------------------------------------------------------------------------------

    def new_id(self) -> NodeId:
        numbers = [int(key) for key in self.nodes if isinstance(key, int) or str(key).isdigit()]
        number = max(numbers, default=0) + 1
        return number if any(isinstance(key, int) for key in self.nodes) else str(number)

    def put(self, type: str, inputs: Json, near: Node, replace: bool, at: Node | None = None, is_after: bool = False) -> Node:
        """Put a node of ``TARGETS`` into the graph.

        Args:
            type: a key of ``TARGETS``.
            inputs: what differs from the defaults: values, or ``Output``s to link.
            near: the node that it takes the place of.
            replace: whether it takes that node's id too.
            at: the node where it is to stand, if not where ``near`` stood.
            is_after: whether it is to stand to the right rather than to the left where that place is taken.
        """
        target = TARGETS[type]
        node = Node(
            near.id if replace else self.new_id(),
            type,
            [Input(entry.name, entry.type, is_widget=entry.is_widget) for entry in target.inputs],
            {entry.name: entry.default for entry in target.inputs if entry.is_widget},
            [kind for _, kind in target.outputs],
            near.mode,
            {"pos": (at or near).raw.get("pos"), "near": (at or near).id, "is_after": is_after},
        )
        for name, value in inputs.items():
            node.connect(name, value)
        if node.id in self.nodes:
            self._unlink_other_kinds(self.nodes[node.id], node)
        self.nodes[node.id] = node
        return node

    def _unlink_other_kinds(self, old: Node, new: Node) -> None:
        """Take off what took an output of ``old`` that ``new``, which gets its id, gives none of."""
        for node in self.nodes.values():
            for entry in node.inputs:
                if entry.origin is None or entry.origin.node != old.id:
                    continue
                slot = entry.origin.slot
                kinds = [kind for outputs in (old.outputs, new.outputs) for kind in outputs[slot : slot + 1] if kind != "*"]
                if slot >= len(new.outputs) or len(set(kinds)) > 1:
                    entry.origin = None

    def redirect(self, old: Output, new: Output, apart_from: tuple[NodeId, ...] = ()) -> None:
        """Let everything that takes ``old`` take ``new``."""
        for node, entry in self.consumers(old):
            if node.id not in apart_from:
                entry.origin = new

    def remove(self, node: Node) -> None:
        """Take a node out, and the links that begin there."""
        self.nodes.pop(node.id, None)
        for other in self.nodes.values():
            for entry in other.inputs:
                if entry.origin is not None and entry.origin.node == node.id:
                    entry.origin = None


def _key(node: Node) -> Any:
    """The name under which Set and Get nodes know each other."""
    values = node.raw.get("widgets_values")
    return values[0] if isinstance(values, list) and values else None


def named_values(type: str, values: Any) -> Json:
    """Give the values of a saved node their names; empty for a type whose widgets are not known."""
    widgets = WIDGETS.get(type)
    if isinstance(values, dict):
        return dict(values) if widgets is None else widgets.cleaned(values)
    return {} if widgets is None else widgets.named(values if isinstance(values, list) else [])
