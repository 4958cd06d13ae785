"""Where the nodes of a translation stand: where the old ones stood, or as near as there is room."""

from __future__ import annotations

from typing import Any, NamedTuple

from .graph import Graph, Node
from .targets import TARGETS

_WIDTH, _TITLE, _ROW, _GAP = 320, 30, 26, 20
"""In pixels: a node's width, its title, one of its rows, and the least distance between nodes."""


class Box(NamedTuple):
    """A rectangle: left, top, width, height; a node's includes its title."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Whether two rectangles come nearer than nodes should."""
        return (
            self.x < other.x + other.width + _GAP
            and other.x < self.x + self.width + _GAP
            and self.y < other.y + other.height + _GAP
            and other.y < self.y + self.height + _GAP
        )


def pair(value: Any, default: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """Read a position or a size: a list, or the dict with keys "0" and "1" that some frontends saved."""
    try:
        first, second = (value["0"], value["1"]) if isinstance(value, dict) else value[:2]
        return float(first), float(second)
    except (KeyError, TypeError, ValueError):
        return default


def place(graph: Graph) -> None:
    """Give every new node a position and a size, so that it overlaps no other node."""
    new = [node for node in graph.nodes.values() if node.is_new and "size" not in node.raw]
    taken = [_box_of(node) for node in graph.nodes.values() if "pos" in node.raw and not node.is_new]
    for node in sorted(new, key=lambda node: (node.raw["near"] != node.id, str(node.id))):
        size = _size_of(node)
        x, y = pair(node.raw.get("pos"))
        box = _free(Box(x, y - _TITLE, size[0], size[1] + _TITLE), taken, 1 if node.raw["is_after"] else -1)
        taken.append(box)
        node.raw |= {"pos": [box.x, box.y + _TITLE], "size": list(size)}


def move_to_free_place(graph: Graph, nodes: list[Node], host: Node) -> None:
    """Move nodes together to where ``host`` stood, or as near as there is room."""
    if not nodes:
        return
    boxes = [_box_of(node) for node in nodes]
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    x, y = pair(host.raw.get("pos"))
    taken = [_box_of(node) for node in graph.nodes.values() if "pos" in node.raw and node not in nodes]
    free = _free(Box(x, y - _TITLE, right - left, bottom - top), taken, 1)
    for node, box in zip(nodes, boxes, strict=True):
        node.raw = {**node.raw, "pos": [box.x - left + free.x, box.y - top + free.y + _TITLE]}


def _box_of(node: Node) -> Box:
    x, y = pair(node.raw.get("pos"))
    width, height = pair(node.raw.get("size"), (float(_WIDTH), 100.0))
    if (node.raw.get("flags") or {}).get("collapsed"):
        height = 0.0
    return Box(x, y - _TITLE, width, height + _TITLE)


def _size_of(node: Node) -> tuple[float, float]:
    target = TARGETS[node.type]
    rows = len(target.inputs) + len(target.extra_widgets) + len(target.outputs)
    return float(_WIDTH), float(_ROW * rows + 10)


_RINGS, _STEP = 12, 60
"""How far around a wanted place a free one is looked for: rings, and pixels between them."""


def _free(wanted: Box, taken: list[Box], side: int) -> Box:
    """The nearest free place, tried in rings around the wanted one, on one side first; where all is full, below everything."""
    for ring in range(_RINGS):
        steps = [(dx, dy) for dx in range(-ring, ring + 1) for dy in range(-ring, ring + 1) if max(abs(dx), abs(dy)) == ring]
        for dx, dy in sorted(steps, key=lambda step: (abs(step[0]) + abs(step[1]), -side * step[0], -step[1])):
            box = wanted._replace(x=wanted.x + dx * _STEP, y=wanted.y + dy * _STEP)
            if not any(box.overlaps(other) for other in taken):
                return box
    return wanted._replace(y=max(box.y + box.height for box in taken) + 2 * _GAP)
