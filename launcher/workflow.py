"""From the form in which the editor saves a workflow to the form that ComfyUI's API runs.

The editor does this when a workflow is queued. The example workflows are kept in the editor's form
only, since that is what its template browser opens, so the demo and the tests convert them here.
Not converted: subgraphs, and values of widgets that a pack's own JavaScript adds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from .errors import LoomError

Json = dict[str, Any]

_MUTED, _BYPASSED = 2, 4  # the editor's node modes
_REROUTE, _PRIMITIVE = "Reroute", "PrimitiveNode"
_EDITOR_ONLY = ("Note", "MarkdownNote", _REROUTE, _PRIMITIVE)
_DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", _DYNAMIC_COMBO)
# What the widget after a seed says; it is the editor's own, so the API doesn't know it.
_AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
_SEEDS = ("seed", "noise_seed")


def to_prompt(workflow: Json, object_info: Json) -> Json:
    """Convert a saved workflow.

    Args:
        workflow: The editor's JSON, with ``nodes`` and ``links``.
        object_info: ComfyUI's ``/object_info``: the schema of each node type.

    Returns:
        ``{node_id: {"class_type", "inputs", "_meta"}}``.

    Raises:
        LoomError: It isn't a saved workflow, or has a node that this ComfyUI doesn't know.
    """
    if not isinstance(workflow.get("nodes"), list):
        raise LoomError("This is not a workflow as the editor saves it: it has no list of nodes.")
    graph = _Graph(workflow)
    prompt: Json = {}
    for node in workflow["nodes"]:
        if node.get("mode") in (_MUTED, _BYPASSED) or node["type"] in _EDITOR_ONLY:
            continue
        schema = object_info.get(node["type"])
        if schema is None:
            raise LoomError(_unknown_node(node, workflow))
        inputs = _widget_values(node, schema)
        inputs |= graph.linked_inputs(node)
        title = node.get("title") or schema.get("display_name") or node["type"]
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": title},
        }
    return prompt


def _unknown_node(node: Json, workflow: Json) -> str:
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    if any(subgraph.get("id") == node["type"] for subgraph in subgraphs):
        return f"Node {node['id']} is a subgraph, which can't be run from here; unpack it first."
    return f"The workflow has a node that this ComfyUI doesn't know: '{node['type']}'."


class _Graph:
    """Who feeds what, across nodes that exist only in the editor."""

    def __init__(self, workflow: Json) -> None:
        self._nodes = {node["id"]: node for node in workflow["nodes"]}
        self._origins = dict(_origins(workflow.get("links", [])))

    def linked_inputs(self, node: Json) -> Json:
        """The inputs of a node that get a value through a link: ``[node_id, output]`` or a value.

        An input whose link leads nowhere, for example to a muted node, is left out.
        """
        sources = {slot["name"]: self._source(slot.get("link")) for slot in node.get("inputs", [])}
        return {name: source for name, source in sources.items() if source is not None}

    def _source(self, link: int | None) -> Any:
        passed = set()
        while link in self._origins and link not in passed:
            passed.add(link)
            node_id, output = self._origins[link]
            node = self._nodes.get(node_id)
            if node is None or node.get("mode") == _MUTED:
                return None
            if node["type"] == _PRIMITIVE:
                return _literal(next(iter(node.get("widgets_values") or []), None))
            if node["type"] == _REROUTE:
                link = node["inputs"][0].get("link")
            elif node.get("mode") == _BYPASSED:
                link = _bypassing_link(node, output)
            else:
                return [str(node_id), output]
        return None


def _origins(links: list[Any]) -> Iterator[tuple[int, tuple[Any, int]]]:
    """Both ways in which links are saved: lists (version 0.4) and objects (version 1)."""
    for link in links:
        if isinstance(link, dict):
            yield link["id"], (link["origin_id"], link["origin_slot"])
        elif link is not None:
            yield link[0], (link[1], link[2])


def _bypassing_link(node: Json, output: int) -> int | None:
    """The input that a bypassed node passes on: of the same type, at best in the same place."""
    inputs = node.get("inputs", [])
    wanted = node["outputs"][output]["type"]
    same_place = inputs[output : output + 1]
    for slot in (*same_place, *inputs):
        if slot["type"] == wanted or "*" in (slot["type"], wanted):
            link: int | None = slot.get("link")
            return link
    return None


def _widget_values(node: Json, schema: Json) -> Json:
    """The values of a node's widgets by input name.

    They are saved as a bare list in the order of the schema. Widgets that were turned into inputs
    keep their place in it; widgets that were added to the node later are missing at its end.
    """
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):  # a few packs save by name
        names = {name for name, _ in _specs(schema["input"])}
        return {name: _literal(value) for name, value in saved.items() if name in names}
    values = _Values(saved, {slot["name"] for slot in node.get("inputs", []) if "widget" in slot})
    return {name: _literal(value) for name, value in values.assign(schema["input"])}


class _Values:
    """Deals a saved list of widget values out to the inputs that have widgets."""

    def __init__(self, saved: list[Any], marked: set[str]) -> None:
        self._saved = deque(saved)
        self._marked = marked  # inputs of which the saved node says that they have a widget

    def assign(self, inputs: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
        for local_name, spec in _specs(inputs):
            name = prefix + local_name
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            if not self._has_widget(name, kind, options):
                continue
            if self._saved:
                value = self._saved.popleft()
            elif (value := _default(kind, options)) is None:
                continue
            self._skip_after_generate(name, kind, options)
            yield name, value
            if kind == _DYNAMIC_COMBO:
                for option in options.get("options", []):
                    if option["key"] == value:
                        yield from self.assign(option["inputs"], f"{name}.")

    def _has_widget(self, name: str, kind: Any, options: Json) -> bool:
        if options.get("forceInput"):
            return False
        kind = options.get("widgetType") or kind
        return isinstance(kind, list) or kind in _WIDGET_TYPES or name in self._marked

    def _skip_after_generate(self, name: str, kind: Any, options: Json) -> None:
        is_seed = options.get("control_after_generate", kind == "INT" and name in _SEEDS)
        if is_seed and self._saved and self._saved[0] in _AFTER_GENERATE:
            self._saved.popleft()


def _specs(inputs: Json) -> Iterator[tuple[str, list[Any]]]:
    for group in ("required", "optional"):
        yield from inputs.get(group, {}).items()


def _default(kind: Any, options: Json) -> Any:
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options")
    first = choices[0] if choices else None
    return first["key"] if isinstance(first, dict) else first


def _literal(value: Any) -> Any:
    """The API takes a bare list for a link."""
    return {"__value__": value} if isinstance(value, list) else value
