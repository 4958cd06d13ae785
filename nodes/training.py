"""Nodes that train motion models, and keep them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from .host.files.saving import DTYPES, LAYOUTS, save_motion_model
from .host.training.training_run import Family, TrainingSettings, check_has_no_camera, check_start, train_in_graph
from .host.types import CATEGORY, MotionModelSocket, TrainingClipsSocket
from .loom_node import LoomNode

_FAMILIES = ["v3", "v2", "v1"]
_ADVANCED = (
    "checkpoint_every", "accumulation", "learning_rate_schedule", "warmup_steps", "ema_decay", "text_dropout", "gradient_clip",
    "weight_decay",
)  # fmt: skip


class TrainMotionModelNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomTrainMotionModel",
            category=f"{CATEGORY}/training",
            search_aliases=["finetune", "fine-tune", "training", "learn motion"],
            inputs=[
                io.Model.Input("model"),
                TrainingClipsSocket.Input("training_clips", lazy=True),
                _setting("steps"), _setting("learning_rate"), _setting("batch_size"),
                _setting("seed", control_after_generate=io.ControlAfterGenerate.fixed),
                io.Combo.Input("family", options=_FAMILIES, default=_FAMILIES[0]),
                _setting("dtype", "precision"),
                _setting("gradient_checkpointing", default=True),
                io.String.Input("checkpoint_name", default="motion_model"),
                *(_setting(name, advanced=True) for name in _ADVANCED),
                MotionModelSocket.Input("motion_model", optional=True),
            ],
            outputs=[MotionModelSocket.Output("motion_model"), io.LossMap.Output("loss"), io.Int.Output("steps")],
        )

    @classmethod
    def check_lazy_status(cls, model, training_clips=None, family="v3", motion_model=None, **_others: object) -> list[str]:
        """Ask for the clips once all else is known to be right: encoding them may take hours."""
        if training_clips is not None:
            return []
        if motion_model is not None:
            check_has_no_camera(motion_model)
        new = Family.__members__.get(str(family).upper(), Family.V3)  # execute says what is wrong with another text
        check_start(model, new if motion_model is None else motion_model.model.config)
        return ["training_clips"]

    @classmethod
    def execute(
        cls, model: io.Model.Type, training_clips, steps: int = 1000, learning_rate: float = 1e-4, batch_size: int = 1,
        seed: int = 0, family: str = "v3", precision: str = "bf16", gradient_checkpointing: bool = True,
        checkpoint_name: str = "motion_model", checkpoint_every: int = 500, accumulation: int = 1,
        learning_rate_schedule: str = "constant", warmup_steps: int = 0, ema_decay: float = 0.0, text_dropout: float = 0.1,
        gradient_clip: float = 1.0, weight_decay: float = 0.01, motion_model=None,
    ) -> io.NodeOutput:  # fmt: skip
        settings = TrainingSettings(
            steps=steps, learning_rate=learning_rate, batch_size=batch_size, seed=seed, dtype=precision,
            checkpoint_every=checkpoint_every, accumulation=accumulation, learning_rate_schedule=learning_rate_schedule,
            warmup_steps=warmup_steps, ema_decay=ema_decay, text_dropout=text_dropout, gradient_clip=gradient_clip,
            weight_decay=weight_decay, gradient_checkpointing=gradient_checkpointing,
        )  # fmt: skip
        start = motion_model if motion_model is not None else Family[family.upper()]
        trained, losses, steps_done = train_in_graph(model, training_clips, start, settings, checkpoint_name)
        return io.NodeOutput(trained, {"loss": losses}, steps_done)


def _setting(setting: str, name: str = "", **changes: Any) -> io.Input:
    """The input for one of ``TrainingSettings``, by that name unless another is given."""
    part = next(part for part in fields(TrainingSettings) if part.name == setting)
    options = {"default": part.default, **part.metadata, **changes}
    if "options" in options:
        options["options"] = list(options["options"])
    kind = {"int": io.Int, "float": io.Float, "bool": io.Boolean, "str": io.Combo}[str(part.type)]
    return kind.Input(name or setting, **options)


class SaveMotionModelNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSaveMotionModel",
            category=f"{CATEGORY}/training",
            search_aliases=[
                "export motion model", "write motion model", "bake motion lora", "convert to diffusers", "motion adapter"
            ],
            inputs=[
                MotionModelSocket.Input("motion_model"),
                io.String.Input("filename_prefix", default="animatediff_models/loom"),
                io.Combo.Input("dtype", options=list(DTYPES), default="fp16"),
                io.Combo.Input("layout", options=list(LAYOUTS), default="AnimateDiff"),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, motion_model, filename_prefix: str = "animatediff_models/loom", dtype: str = "fp16", layout: str = "AnimateDiff"
    ) -> io.NodeOutput:
        save_motion_model(motion_model, filename_prefix, dtype, layout, cls.hidden.prompt, cls.hidden.extra_pnginfo)
        return io.NodeOutput()


NODES = [TrainMotionModelNode, SaveMotionModelNode]
