"""Nodes for CameraCtrl: a clip along a camera's path."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host.charts.camera_plot import draw_path
from .host.files import folders
from .host.files.camera_control_files import load_camera_control
from .host.motion.camera_paths import (
    MOVE_EASINGS,
    MOVES,
    cameras_of,
    check_path_text,
    moved_path,
    written_path,
)
from .host.motion.cameras import CameraSettings, apply_camera_control
from .host.motion.curves import EASINGS
from .host.motion.steered import FrameInput, Steered
from .host.types import CATEGORY, FRAME_INPUTS, CameraControlSocket, CameraPathSocket, MotionModelSocket
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/camera"
_ALIASES = ["cameractrl", "camera control", "camera poses"]
_KEYFRAMES = "pan: 0: 0, 15: 30\ndolly: 0: 0, 15: 1"


class LoadCameraControlNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadCameraControl",
            category=f"{CATEGORY}/loaders",
            search_aliases=[*_ALIASES, "CameraCtrl_pruned", "load animatediff model with camera ctrl"],
            inputs=[io.Combo.Input("camera_control_name", options=folders.CAMERA_CONTROL_FILES.names())],
            outputs=[CameraControlSocket.Output("camera_control")],
        )

    @classmethod
    def fingerprint_inputs(cls, camera_control_name: str | None = None) -> tuple:
        return folders.fingerprint(camera_control_name, folders.CAMERA_CONTROL_FILES.path)

    @classmethod
    def execute(cls, camera_control_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_camera_control(folders.CAMERA_CONTROL_FILES.path(camera_control_name)))


class ApplyCameraControlNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomApplyCameraControl",
            category=_CATEGORY,
            search_aliases=[*_ALIASES, "apply animatediff cameractrl"],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                CameraControlSocket.Input("camera_control"),
                CameraPathSocket.Input("path"),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001),
                io.MultiType.Input("strength_values", types=FRAME_INPUTS, optional=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def execute(
        cls, motion_model, camera_control, path, strength: float = 1.0, start_percent: float = 0.0, end_percent: float = 1.0,
        strength_values: FrameInput = None,
    ) -> io.NodeOutput:  # fmt: skip
        steered = Steered.of("strength", strength, strength_values)
        settings = CameraSettings(path, steered, start_percent, end_percent)
        return io.NodeOutput(apply_camera_control(motion_model, camera_control, settings))


class CameraPathNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomCameraPath",
            category=_CATEGORY,
            search_aliases=[*_ALIASES, "camera movement", "pan", "tilt", "roll", "dolly", "truck", "pedestal", "zoom", "orbit", "create cameractrl poses"],
            inputs=[
                io.Combo.Input("move", options=MOVES, default="pan right"),
                io.Float.Input("speed", default=1.0, min=-10.0, max=10.0, step=0.05, round=0.001),
                io.Combo.Input("easing", options=MOVE_EASINGS, default=MOVE_EASINGS[0]),
                io.Int.Input("start_frame", default=0, min=-4096, max=4095),
                io.Int.Input("end_frame", default=-1, min=-4096, max=4095),
                io.Int.Input("picture_frames", default=16, min=1, max=4096),
                CameraPathSocket.Input("path", optional=True),
            ],
            outputs=[CameraPathSocket.Output("path"), io.Image.Output("picture")],
        )

    @classmethod
    def execute(
        cls, move: str = "pan right", speed: float = 1.0, easing: str = MOVE_EASINGS[0], start_frame: int = 0, end_frame: int = -1,
        picture_frames: int = 16, path=None,
    ) -> io.NodeOutput:  # fmt: skip
        return _shown(cls, moved_path(path, move, speed, easing, start_frame, end_frame), picture_frames)


class CameraKeyframesNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomCameraKeyframes",
            category=_CATEGORY,
            search_aliases=[*_ALIASES, "realestate10k", "load cameractrl poses", "pose schedule", "keyframes"],
            inputs=[
                io.String.Input("text", default=_KEYFRAMES, multiline=True),
                io.Combo.Input("easing", options=EASINGS, default=EASINGS[0]),
                io.Int.Input("stride", default=0, min=0, max=64),
                io.Int.Input("picture_frames", default=16, min=1, max=4096),
                CameraPathSocket.Input("path", optional=True),
            ],
            outputs=[CameraPathSocket.Output("path"), io.Image.Output("picture")],
        )

    @classmethod
    def validate_inputs(cls, text: str = _KEYFRAMES) -> bool:
        check_path_text(text)
        return True

    @classmethod
    def execute(
        cls, text: str = _KEYFRAMES, easing: str = EASINGS[0], stride: int = 0, picture_frames: int = 16, path=None
    ) -> io.NodeOutput:
        return _shown(cls, written_path(path, text, easing, stride), picture_frames)


def _shown(node: type[io.ComfyNode], path, frames: int) -> io.NodeOutput:
    picture = draw_path(cameras_of(path, frames))
    return io.NodeOutput(path, picture, ui=ui.PreviewImage(picture, cls=node))


NODES = [LoadCameraControlNode, ApplyCameraControlNode, CameraPathNode, CameraKeyframesNode]
