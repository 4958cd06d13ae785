"""Nodes that make a MODEL move."""

from __future__ import annotations

from comfy_api.input import CurveInput
from comfy_api.latest import io

from .host.motion.model_sampling import AUTO, BETA_CHOICES, choose_beta_schedule
from .host.motion.norms import GroupNorms
from .host.motion.steered import BlockValues, FrameInput, MotionSettings, Steered
from .host.runs.applying import apply_motion_model
from .host.types import CATEGORY, FRAME_INPUTS, BlockValuesSocket, MotionModelSocket, curve_input
from .loom_node import LoomNode

_CURVES_OVER = ["steps", "noise schedule"]
_NORMS = [choice.value for choice in GroupNorms]


class ApplyMotionModelNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomApplyMotionModel",
            category=CATEGORY,
            search_aliases=[
                "motion module", "animatediff loader", "animatediff evolved", "use evolved sampling", "apply animatediff model",
                "use animatediff", "gen1", "gen2", "beta schedule",
            ],
            inputs=[
                io.Model.Input("model"),
                MotionModelSocket.Input("motion_model"),
                io.Combo.Input("beta_schedule", options=BETA_CHOICES, default=AUTO),
                io.Float.Input("motion_scale", default=1.0, min=0.0, max=10.0, step=0.01),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001, advanced=True),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001, advanced=True),
                io.MultiType.Input("motion_scale_values", types=FRAME_INPUTS, optional=True),
                io.MultiType.Input("strength_values", types=FRAME_INPUTS, optional=True),
                curve_input("motion_scale_steps"),
                curve_input("strength_steps"),
                BlockValuesSocket.Input("motion_scale_blocks", optional=True),
                BlockValuesSocket.Input("strength_blocks", optional=True),
                io.Combo.Input("group_norms", options=_NORMS, default=_NORMS[0], optional=True, advanced=True),
                io.Boolean.Input("hold_last_value", default=False, optional=True, advanced=True),
                io.Combo.Input("curves_over", options=_CURVES_OVER, default=_CURVES_OVER[0], optional=True, advanced=True),
                io.Boolean.Input("compile", default=False, optional=True, advanced=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float = 0.0, end_percent: float = 1.0) -> bool:
        MotionSettings(start_percent=start_percent, end_percent=end_percent)  # checks them
        return True

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        motion_model,
        beta_schedule: str = AUTO,
        motion_scale: float = 1.0,
        strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        motion_scale_values: FrameInput = None,
        strength_values: FrameInput = None,
        motion_scale_steps: CurveInput | None = None,
        strength_steps: CurveInput | None = None,
        motion_scale_blocks: BlockValues | None = None,
        strength_blocks: BlockValues | None = None,
        group_norms: str = _NORMS[0],
        hold_last_value: bool = False,
        curves_over: str = _CURVES_OVER[0],
        compile: bool = False,
    ) -> io.NodeOutput:
        scale = Steered.of("motion_scale", motion_scale, motion_scale_values, motion_scale_steps, motion_scale_blocks, hold_last_value)
        steered_strength = Steered.of("strength", strength, strength_values, strength_steps, strength_blocks, hold_last_value)
        over_schedule = curves_over != _CURVES_OVER[0]
        settings = MotionSettings(scale, steered_strength, start_percent, end_percent, GroupNorms(group_norms), over_schedule, compile)
        animated = apply_motion_model(model, motion_model, settings)
        choose_beta_schedule(animated, motion_model.model.config, beta_schedule)
        return io.NodeOutput(animated)


NODES = [ApplyMotionModelNode]
