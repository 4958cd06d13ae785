"""Nodes that make a MODEL move."""

from __future__ import annotations

from comfy_api.input import CurveInput
from comfy_api.latest import io

from .host.motion.model_sampling import AUTO, BETA_CHOICES, choose_beta_schedule
from .host.motion.steered import BlockValues, FrameInput, MotionSettings, Steered
from .host.runs.applying import apply_motion_model
from .host.types import CATEGORY, FRAME_INPUTS, BlockValuesSocket, InvalidInput, MotionModelSocket, curve_input
from .loom_node import LoomNode


class ApplyMotionModelNode(LoomNode):
    """Runs a motion model's temporal transformers after the layers of a MODEL's UNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        frames = (
            "per frame: a list of numbers, one or more masks, or a curve over the clip. Give one value per frame of a clip, or a "
            "single value for all. Multiplies"
        )
        steps = "over the sampling steps: a curve from the first step to the last. Multiplies"
        blocks = "per block of the UNet, from Motion Blocks. Multiplies"
        return io.Schema(
            node_id="LoomApplyMotionModel",
            display_name="Apply Motion Model",
            category=CATEGORY,
            description="Animates a model: every image in a batch becomes a frame, and the frames attend to each other. Put "
            "it between the checkpoint (with its LoRAs) and any sampler. The checkpoint itself is never changed.",
            search_aliases=["animatediff", "animate diff", "motion module", "use animatediff", "apply animatediff"],
            inputs=[
                io.Model.Input("model", tooltip="The model to animate, with or without LoRAs."),
                MotionModelSocket.Input("motion_model", tooltip="From Load Motion Model."),
                io.Combo.Input(
                    "beta_schedule",
                    options=BETA_CHOICES,
                    default=AUTO,
                    tooltip="Noise schedule for sampling. auto uses the one the motion model was trained with. The names "
                    "follow the papers: what they call linear is sqrt_linear in ComfyUI. For AnimateLCM, auto selects lcm: "
                    "use the sampler lcm, the scheduler simple, 4 to 8 steps and cfg 1 to 2.",
                ),
                io.Float.Input(
                    "motion_scale", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Amount of motion: multiplies the keys of the temporal attention. 1 is as trained; 0.8 to 1.3 is "
                    "useful, much more breaks the image.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="How strongly the motion model is applied: 0 is the model without it, 1 is as trained.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.001, advanced=True,
                    tooltip="Point in the sampling at which the motion model starts: 0 is the first step.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.001, advanced=True,
                    tooltip="Point in the sampling at which the motion model stops: 1 is the last step. Outside its range it "
                    "costs nothing.",
                ),
                io.MultiType.Input(
                    "motion_scale_values", types=FRAME_INPUTS, optional=True, tooltip=f"Motion scale {frames} motion_scale."
                ),
                io.MultiType.Input(
                    "strength_values", types=FRAME_INPUTS, optional=True, tooltip=f"Strength {frames} strength."
                ),
                curve_input("motion_scale_steps", f"Motion scale {steps} motion_scale."),
                curve_input("strength_steps", f"Strength {steps} strength."),
                BlockValuesSocket.Input(
                    "motion_scale_blocks", optional=True, tooltip=f"Motion scale {blocks} motion_scale."
                ),
                BlockValuesSocket.Input("strength_blocks", optional=True, tooltip=f"Strength {blocks} strength."),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="The animated model. Connect to a sampler.")],
        )

    @classmethod
    def validate_inputs(cls, start_percent: float = 0.0, end_percent: float = 1.0) -> bool:
        _check_range(start_percent, end_percent)
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
    ) -> io.NodeOutput:
        _check_range(start_percent, end_percent)
        settings = MotionSettings(
            motion_scale=Steered.of("motion_scale", motion_scale, motion_scale_values, motion_scale_steps, motion_scale_blocks),
            strength=Steered.of("strength", strength, strength_values, strength_steps, strength_blocks),
            start_percent=start_percent,
            end_percent=end_percent,
        )
        animated = apply_motion_model(model, motion_model, settings)
        choose_beta_schedule(animated, motion_model.model.config, beta_schedule)
        return io.NodeOutput(animated)


def _check_range(start_percent: float, end_percent: float) -> None:
    if start_percent > end_percent:
        raise InvalidInput(
            f"start_percent {start_percent} is after end_percent {end_percent}: the motion model would never run. "
            "Make start_percent the smaller one."
        )


NODES = [ApplyMotionModelNode]
