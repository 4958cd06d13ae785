"""Whether a workflow has the shape that ComfyUI's editor saves: what comes from files and over HTTP may be anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_ID = (int, str)
_LIST_LINK, _OBJECT_LINK = 5, ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def faults(workflow: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a workflow of the editor's form, its subgraphs and group nodes, in words; the first one is enough."""
    yield from _faults_of_graph(workflow)
    definitions = workflow.get("definitions")
    if not _is(definitions, dict):
        yield "'definitions' is no object"
        return
    subgraphs = (definitions or {}).get("subgraphs")
    if not _is(subgraphs, list):
        yield "'subgraphs' is no list"
        return
    for graph in subgraphs or []:
        if not isinstance(graph, dict) or not isinstance(graph.get("id"), str) or not isinstance(graph.get("nodes"), list):
            yield "a subgraph has no id or no nodes"
        else:
            yield from _faults_of_graph(graph)
    yield from _faults_of_groups(workflow.get("extra"))


def _faults_of_graph(graph: dict[str, Any]) -> Iterator[str]:
    for node in graph["nodes"]:
        yield from _faults_of_node(node, needs_id=True)
    if not _is(graph.get("links"), list):
        yield "'links' is no list"
        return
    for link in graph.get("links") or []:
        if link is not None and not _is_link(link):
            yield f"{_shown(link)} is no link"
    for side in ("inputs", "outputs"):
        if not _are_entries(graph.get(side)):
            yield f"a graph's {side} are no list of objects"


def _faults_of_node(node: Any, needs_id: bool) -> Iterator[str]:
    if not isinstance(node, dict):
        yield f"{_shown(node)} is no node"
        return
    name = f"node {node.get('id')!r}"
    if needs_id and (not isinstance(node.get("id"), _ID) or isinstance(node["id"], bool)):
        yield f"{_shown(node.get('id'))} is no id of a node"
    if not isinstance(node.get("type"), str):
        yield f"{name} has no type"
    for side in ("inputs", "outputs"):
        if not _are_entries(node.get(side)):
            yield f"the {side} of {name} are no list of objects"
    for entry in node.get("inputs") or []:
        if isinstance(entry, dict) and isinstance(entry.get("link"), (list, dict)):
            yield f"an input of {name} is linked to {_shown(entry['link'])}"
        if isinstance(entry, dict) and not isinstance(entry.get("name", ""), str):
            yield f"an input of {name} has no name"
        if isinstance(entry, dict) and not _is(entry.get("widget"), dict):
            yield f"an input of {name} has a widget that is no object"
    if not _is(node.get("flags"), dict) or not _is(node.get("mode"), int):
        yield f"flags or mode of {name} are not what the editor saves"


def _faults_of_groups(extra: Any) -> Iterator[str]:
    if not _is(extra, dict):
        yield "'extra' is no object"
        return
    groups = (extra or {}).get("groupNodes")
    if not _is(groups, dict):
        yield "'groupNodes' is no object"
        return
    for group in (groups or {}).values():
        if not isinstance(group, dict) or not isinstance(group.get("nodes"), list):
            yield "a group node has no nodes"
            continue
        for node in group["nodes"]:
            yield from _faults_of_node(node, needs_id=False)
        if any(not isinstance(link, list) or len(link) < 4 for link in group.get("links") or []):
            yield "a group node's links can't be read"


def _is(value: Any, kind: type) -> bool:
    return value is None or (isinstance(value, kind) and not isinstance(value, bool))


def _are_entries(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(entry, dict) for entry in value))


def _is_link(link: Any) -> bool:
    if isinstance(link, dict):
        parts = [link.get(name) for name in _OBJECT_LINK]
    else:
        parts = link[:_LIST_LINK] if isinstance(link, list) and len(link) >= _LIST_LINK else []
    places = parts[2::2]
    return bool(parts) and all(isinstance(part, _ID) for part in parts) and all(isinstance(place, int) for place in places)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
