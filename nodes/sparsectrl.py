"""Nodes for SparseCtrl: images at some of a clip's frames."""

from __future__ import annotations

from comfy_api.latest import io

from .host.files import folders
from .host.files.sparse_control_files import load_sparse_control
from .host.motion.sparse_control import PLACINGS, UNGUIDED, place_images, placement_of
from .host.types import CATEGORY
from .loom_node import LoomNode

_ALIASES = ["sparsectrl", "sparse control", "keyframe images", "image to video", "v3_sd15_sparsectrl_rgb"]


class LoadSparseControlNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadSparseControl",
            category=f"{CATEGORY}/loaders",
            search_aliases=[*_ALIASES, "v3_sd15_sparsectrl_scribble"],
            inputs=[io.Combo.Input("control_net_name", options=folders.SPARSE_CONTROL_FILES.names())],
            outputs=[io.ControlNet.Output("control_net")],
        )

    @classmethod
    def fingerprint_inputs(cls, control_net_name: str | None = None) -> tuple:
        return folders.fingerprint(control_net_name, folders.SPARSE_CONTROL_FILES.path)

    @classmethod
    def execute(cls, control_net_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_sparse_control(folders.SPARSE_CONTROL_FILES.path(control_net_name)))


class SparseControlFramesNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSparseControlFrames",
            category=f"{CATEGORY}/images",
            search_aliases=[*_ALIASES, "sparse index method", "sparse spread method"],
            inputs=[
                io.ControlNet.Input("control_net"),
                io.Combo.Input("placement", options=PLACINGS, default=PLACINGS[0]),
                io.String.Input("frames", default="0, -1"),
                io.Combo.Input("windows_without_image", options=UNGUIDED, default=UNGUIDED[0]),
            ],
            outputs=[io.ControlNet.Output("control_net")],
        )

    @classmethod
    def validate_inputs(cls, placement: str = PLACINGS[0], frames: str = "0, -1") -> bool:
        placement_of(placement, frames)
        return True

    @classmethod
    def execute(
        cls, control_net: io.ControlNet.Type, placement: str = PLACINGS[0], frames: str = "0, -1",
        windows_without_image: str = UNGUIDED[0],
    ) -> io.NodeOutput:  # fmt: skip
        return io.NodeOutput(place_images(control_net, placement_of(placement, frames, windows_without_image)))


NODES = [LoadSparseControlNode, SparseControlFramesNode]
