"""Nodes that tell what files are."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.files import file_reports
from .host.files.folders import fingerprint
from .host.types import CATEGORY
from .loom_node import LoomNode


class InspectFileNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomInspectFile",
            category=f"{CATEGORY}/loaders",
            search_aliases=["what is this file", "model info", "metadata"],
            is_output_node=True,
            inputs=[io.Combo.Input("file", options=file_reports.file_names())],
            outputs=[io.String.Output("report")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None) -> tuple:
        return fingerprint(file, file_reports.file_path)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        report = file_reports.inspect_path(file_reports.file_path(file)).text
        return io.NodeOutput(report, ui=ui.PreviewText(report))


NODES = [InspectFileNode]
