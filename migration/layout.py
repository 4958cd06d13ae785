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
    room = _Room([_box_of(node) for node in graph.nodes.values() if "pos" in node.raw and not node.is_new])
    for node in sorted(new, key=lambda node: (node.raw["near"] != node.id, str(node.id))):
        size = _size_of(node)
        x, y = pair(node.raw.get("pos"))
        box = room.take(Box(x, y - _TITLE, size[0], size[1] + _TITLE), 1 if node.raw["is_after"] else -1)
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
    free = _Room(taken).take(Box(x, y - _TITLE, right - left, bottom - top), 1)
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
_MOST_LOOKS = 2_000_000
"""At two boxes, to see whether they overlap; about a second. After that, nodes are put below all others."""


def _ring(number: int, side: int) -> list[tuple[int, int]]:
    """The steps to the places of a ring: near ones first, and those on one side."""
    steps = [(dx, dy) for dx in range(-number, number + 1) for dy in range(-number, number + 1) if max(abs(dx), abs(dy)) == number]
    return sorted(steps, key=lambda step: (abs(step[0]) + abs(step[1]), -side * step[0], -step[1]))


_PLACES = {side: [step for number in range(_RINGS) for step in _ring(number, side)] for side in (-1, 1)}


class _Room:
    """The places that are taken, to find free ones between them."""

    def __init__(self, taken: list[Box]):
        self._taken = taken
        self._bottom = max((box.y + box.height for box in taken), default=0.0)
        self._looks_left = _MOST_LOOKS

    def take(self, wanted: Box, side: int) -> Box:
        """Take the nearest free place, tried in rings around the wanted one, on one side first; where all is full, below everything."""
        box = self._nearest(wanted, side) or wanted._replace(y=self._bottom + 2 * _GAP)
        self._taken.append(box)
        self._bottom = max(self._bottom, box.y + box.height)
        return box

    def _nearest(self, wanted: Box, side: int) -> Box | None:
        if self._looks_left <= 0:
            return None
        reach = (_RINGS - 1) * _STEP
        around = Box(wanted.x - reach, wanted.y - reach, wanted.width + 2 * reach, wanted.height + 2 * reach)
        near = [box for box in self._taken if box.overlaps(around)]
        self._looks_left -= len(self._taken)
        for dx, dy in _PLACES[side]:
            box = wanted._replace(x=wanted.x + dx * _STEP, y=wanted.y + dy * _STEP)
            self._looks_left -= len(near)
            if not any(box.overlaps(other) for other in near):
                return box
            if self._looks_left <= 0:
                break
        return None
