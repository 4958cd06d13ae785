"""Translates a whole workflow, in whichever form it is: the editor's with its subgraphs, or the API's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from .artventurex import replace_samplers
from .forms import (
    UnknownWorkflow,
    check_size,
    is_editor_graph,
    is_prompt,
    nodes_of_prompt,
    read_editor,
    read_prompt,
    write_editor,
    write_prompt,
)
from .graph import Graph, Json, NodeId
from .layout import pair
from .other_nodes import replace_others
from .report import Report
from .rules import is_foreign
from .schedules import replace_schedules
from .translate import Files, Translation
from .unpack import Parts, unpack
from .validity import faults

MOST_REPLACED = 400
"""Nodes of a graph; of 183 public workflows, the one with the most has 26."""


def migrate(workflow: Any, files: Files | None = None) -> tuple[Json, Report]:
    """Translate a workflow.

    Args:
        workflow: of the editor's form or the API's; left as it is.
        files: that Loom's loaders offer, so that a workflow's files are found there.

    Returns:
        A workflow of the same form, in which nodes that were not replaced are as before, and what became of those that were.

    Raises:
        UnknownWorkflow: it has neither form, or is damaged.
    """
    report, files = Report(), files or Files()
    if is_editor_graph(workflow):
        _check(workflow)
        parts = Parts.of(workflow)
        written = _migrate_editor(workflow, parts, files, report, "")
        definitions = workflow.get("definitions") or {}
        if definitions.get("subgraphs"):
            inner = [
                _migrate_editor(graph, parts, files, report, f"{graph.get('name', graph.get('id'))}/")
                for graph in definitions["subgraphs"]
                if graph.get("id") not in parts.subgraphs
            ]
            written["definitions"] = {**definitions, "subgraphs": inner}
        if parts.groups:
            groups = written["extra"]["groupNodes"]
            left = {name: group for name, group in groups.items() if f"workflow>{name}" not in parts.groups}
            written["extra"]["groupNodes"] = left
        return written, report
    if is_prompt(workflow):
        graph = read_prompt(copy.deepcopy(workflow))
        _translate(graph, files, report, lambda node: node)
        comments = {key: value for key, value in workflow.items() if not isinstance(value, dict)}
        return comments | write_prompt(graph), report
    raise UnknownWorkflow("This is no workflow that ComfyUI saves: it has neither a list of nodes nor nodes by their ids.")


def add_note(workflow: Json, report: Report) -> None:
    """Put the report into a note to the left of an editor's graph."""
    nodes = workflow["nodes"]
    lefts, tops = zip(*(pair(node.get("pos")) for node in nodes), strict=True)
    number = max([n for node in nodes for n in [node["id"]] if isinstance(n, int)] + [workflow.get("last_node_id") or 0]) + 1
    nodes.append({
        "id": number, "type": "MarkdownNote", "pos": [min(lefts) - 540, min(tops)], "size": [500, 600], "flags": {}, "order": 0,
        "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [report.markdown], "title": "Translation",
    })  # fmt: skip
    if "last_node_id" in workflow:
        workflow["last_node_id"] = number


def needs_migration(workflow: Any) -> bool:
    """Whether a workflow has nodes that would be replaced; raises UnknownWorkflow where it is damaged."""
    if is_prompt(workflow):
        return any(is_foreign(entry["class_type"]) for entry in nodes_of_prompt(workflow).values())
    if not is_editor_graph(workflow):
        return False
    _check(workflow)
    graphs = [workflow, *((workflow.get("definitions") or {}).get("subgraphs") or [])]
    parts = Parts.of(workflow)
    return any(parts.are_in(graph) or any(is_foreign(str(node.get("type"))) for node in graph["nodes"]) for graph in graphs)


def _check(workflow: Json) -> None:
    fault = next(faults(workflow), None)
    if fault is not None:
        raise UnknownWorkflow(f"This workflow is damaged: {fault}.")


def _migrate_editor(workflow: Json, parts: Parts, files: Files, report: Report, prefix: str) -> Json:
    workflow = copy.deepcopy(workflow)
    if not parts.are_in(workflow) and not any(is_foreign(str(node.get("type"))) for node in workflow["nodes"]):
        return workflow
    graph = read_editor(workflow)

    def name(node: NodeId) -> NodeId:
        return f"{prefix}{node}" if prefix else node

    unpack(graph, parts, report, name)
    _translate(graph, files, report, name)
    return write_editor(graph, workflow)


def _translate(graph: Graph, files: Files, report: Report, name: Callable[[NodeId], NodeId]) -> None:
    check_size(sum(is_foreign(node.type) for node in graph.nodes.values()), " of other AnimateDiff packs", MOST_REPLACED)
    translation = Translation(graph, report, files, name)
    replace_schedules(translation)
    translation.run()
    replace_samplers(translation)
    replace_others(translation)
