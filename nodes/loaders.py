"""Nodes that read files."""

from __future__ import annotations

from comfy_api.input import CurveInput
from comfy_api.latest import io

from .host.files import folders
from .host.files.domain_adapter import load_domain_adapter
from .host.files.loading import load_motion_model
from .host.files.lora_files import load_motion_lora
from .host.motion.steered import FrameInput, Steered
from .host.motion.weight_scale import scale_weights
from .host.types import CATEGORY, FRAME_INPUTS, MotionModelSocket, curve_input
from .loom_node import LoomNode


class LoadMotionModelNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadMotionModel",
            category=f"{CATEGORY}/loaders",
            search_aliases=["motion module", "animatediff loader", "animatediff evolved", "load animatediff model", "mm_sd_v15_v2", "v3_sd15_mm"],
            inputs=[
                io.Combo.Input("motion_model_name", options=folders.MOTION_MODEL_FILES.names()),
                io.Float.Input("weight_scale", default=1.0, min=0.0, max=2.0, step=0.01, round=0.000001, optional=True, advanced=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def fingerprint_inputs(cls, motion_model_name: str | None = None, **inputs) -> tuple:
        return folders.fingerprint(motion_model_name, folders.MOTION_MODEL_FILES.path)

    @classmethod
    def execute(cls, motion_model_name: str, weight_scale: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(scale_weights(load_motion_model(folders.MOTION_MODEL_FILES.path(motion_model_name)), weight_scale))


class LoadMotionLoraNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadMotionLora",
            category=f"{CATEGORY}/loaders",
            search_aliases=["motionlora", "v2_lora_PanLeft", "camera motion", "camera movement", "zoom", "pan", "tilt", "roll"],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                io.Combo.Input("motion_lora_name", options=folders.MOTION_LORA_FILES.names()),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01),
                io.MultiType.Input("strength_values", types=FRAME_INPUTS, optional=True),
                curve_input("strength_steps"),
            ],
            outputs=[MotionModelSocket.Output("motion_model")],
        )

    @classmethod
    def fingerprint_inputs(cls, motion_lora_name: str | None = None, **inputs) -> tuple:
        return folders.fingerprint(motion_lora_name, folders.MOTION_LORA_FILES.path)

    @classmethod
    def execute(
        cls, motion_model, motion_lora_name: str, strength: float = 1.0,
        strength_values: FrameInput = None, strength_steps: CurveInput | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        steered = Steered.of("strength", strength, strength_values, strength_steps)
        return io.NodeOutput(load_motion_lora(motion_model, folders.MOTION_LORA_FILES.path(motion_lora_name), steered))


class LoadDomainAdapterNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomLoadDomainAdapter",
            category=f"{CATEGORY}/loaders",
            search_aliases=["v3_sd15_adapter", "v3 adapter", "adapter lora"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input("lora_name", options=folders.DOMAIN_ADAPTER_FILES.names()),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **inputs) -> tuple:
        return folders.fingerprint(lora_name, folders.DOMAIN_ADAPTER_FILES.path)

    @classmethod
    def execute(cls, model: io.Model.Type, lora_name: str, strength: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(load_domain_adapter(model, folders.DOMAIN_ADAPTER_FILES.path(lora_name), strength))


NODES = [LoadMotionModelNode, LoadMotionLoraNode, LoadDomainAdapterNode]
