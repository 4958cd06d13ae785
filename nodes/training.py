"""Nodes that train motion models, and keep them."""

from __future__ import annotations

from comfy_api.latest import io

from .host.files.saving import DTYPES, LAYOUTS, save_motion_model
from .host.training.training_run import Family, TrainingSettings, check_start, train_in_graph
from .host.types import CATEGORY, MotionModelSocket, TrainingClipsSocket
from .loom_node import LoomNode

_FAMILIES = ["v3", "v2", "v1"]
_MAX_SEED = 2**64 - 1


class TrainMotionModelNode(LoomNode):
    """AnimateDiff's training: a motion model learns from clips, in front of a frozen MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomTrainMotionModel",
            display_name="Train Motion Model",
            category=f"{CATEGORY}/training",
            description="Trains a motion model on clips, as AnimateDiff was trained: the model itself stays frozen, only the "
            "motion modules learn. Starts with a new motion model or continues with the connected one. You can stop at any "
            "time; the next run resumes from there.",
            search_aliases=["animatediff", "animate diff", "motion module", "finetune", "fine-tune", "training", "learn motion"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to train with, including its LoRAs; it is never changed. Must not be animated.",
                ),
                TrainingClipsSocket.Input("training_clips", tooltip="From Load Training Clips.", lazy=True),
                io.Int.Input(
                    "steps", default=1000, min=1, max=10_000_000,
                    tooltip="Total number of training steps. Thousands to tens of thousands are usual.",
                ),
                io.Float.Input(
                    "learning_rate", default=1e-4, min=0.0, max=1.0, step=1e-6, round=1e-10,
                    tooltip="Size of the training steps. AnimateDiff used 0.0001; use less, such as 0.00001, to continue "
                    "training a good motion model.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=1024,
                    tooltip="Clips per batch. Larger batches learn more steadily, but need more memory.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=_MAX_SEED, control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Seed for the initial weights, the order of the clips and the noise. The same seed gives the "
                    "same training.",
                ),
                io.Combo.Input(
                    "family", options=_FAMILIES, default=_FAMILIES[0],
                    tooltip="Kind of a new motion model. v3 is the newest; v2 also has a motion module in the mid block; "
                    "with v1, the UNet's norms see all frames. For an SDXL model it is always AnimateDiff-SDXL. Not used if a motion model is "
                    "connected.",
                ),
                io.Combo.Input(
                    "precision", options=["bf16", "fp16", "fp32"], default="bf16",
                    tooltip="Precision of the computation. bf16 is fast and safe on GPUs that support it (NVIDIA RTX 30 "
                    "series and newer), fp16 suits older GPUs, fp32 needs twice the memory. Weights are always kept in fp32.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing", default=True,
                    tooltip="Needs much less memory, but about a third more time. Does not change the result.",
                ),
                io.String.Input(
                    "checkpoint_name", default="motion_model",
                    tooltip="Folder in output/loom_training/checkpoints for the training's checkpoint, from which it resumes "
                    "after a stop. Use a new name for a training with other settings. If empty, no checkpoint is kept.",
                ),
                *_advanced_inputs(),
                MotionModelSocket.Input(
                    "motion_model", optional=True, tooltip="Motion model to continue training. Leave empty to train a new one.",
                ),
            ],
            outputs=[
                MotionModelSocket.Output(
                    "motion_model", display_name="motion_model",
                    tooltip="The trained motion model. Connect to Apply Motion Model or Save Motion Model.",
                ),
                io.LossMap.Output("loss", display_name="loss", tooltip="The loss of each step. Connect to Plot Loss Graph."),
                io.Int.Output("steps", display_name="steps", tooltip="Number of steps that it was trained for."),
            ],
        )

    @classmethod
    def check_lazy_status(cls, model, training_clips=None, family="v3", motion_model=None, **_others: object) -> list[str]:
        """Ask for the clips once all else is known to be right: encoding them may take hours."""
        if training_clips is not None:
            return []
        new = Family.__members__.get(str(family).upper(), Family.V3)  # execute says what is wrong with another text
        check_start(model, new if motion_model is None else motion_model.model.config)
        return ["training_clips"]

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        training_clips,
        steps: int = 1000,
        learning_rate: float = 1e-4,
        batch_size: int = 1,
        seed: int = 0,
        family: str = "v3",
        precision: str = "bf16",
        gradient_checkpointing: bool = True,
        checkpoint_name: str = "motion_model",
        checkpoint_every: int = 500,
        accumulation: int = 1,
        learning_rate_schedule: str = "constant",
        warmup_steps: int = 0,
        ema_decay: float = 0.0,
        text_dropout: float = 0.1,
        gradient_clip: float = 1.0,
        weight_decay: float = 0.01,
        motion_model=None,
    ) -> io.NodeOutput:
        settings = TrainingSettings(
            steps=steps, learning_rate=learning_rate, batch_size=batch_size, seed=seed, dtype=precision,
            checkpoint_every=checkpoint_every, accumulation=accumulation, learning_rate_schedule=learning_rate_schedule,
            warmup_steps=warmup_steps, ema_decay=ema_decay, text_dropout=text_dropout, gradient_clip=gradient_clip,
            weight_decay=weight_decay,
        )  # fmt: skip
        start = motion_model if motion_model is not None else Family[family.upper()]
        trained, losses, steps_done = train_in_graph(
            model, training_clips, start, settings, gradient_checkpointing, checkpoint_name
        )
        return io.NodeOutput(trained, {"loss": losses}, steps_done)


def _advanced_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "checkpoint_every", default=500, min=1, max=1_000_000, advanced=True,
            tooltip="Steps between two checkpoints. Stopping the training saves one, too.",
        ),
        io.Int.Input(
            "accumulation", default=1, min=1, max=1024, advanced=True,
            tooltip="Batches accumulated into one step: 4 with a batch_size of 2 learn like a batch_size of 8, in the memory "
            "of 2.",
        ),
        io.Combo.Input(
            "learning_rate_schedule", options=["constant", "cosine"], default="constant", advanced=True,
            tooltip="constant, as in AnimateDiff; cosine falls to 0 by the last step.",
        ),
        io.Int.Input(
            "warmup_steps", default=0, min=0, max=1_000_000, advanced=True,
            tooltip="Steps over which the learning rate rises to its full value.",
        ),
        io.Float.Input(
            "ema_decay", default=0.0, min=0.0, max=0.99999, step=0.0001, round=1e-6, advanced=True,
            tooltip="Returns a running average of the weights instead of the last ones; 0.999 averages over about the last "
            "1000 steps. 0 is off.",
        ),
        io.Float.Input(
            "text_dropout", default=0.1, min=0.0, max=1.0, step=0.01, advanced=True,
            tooltip="Share of the clips that are trained on without their caption, so that cfg works.",
        ),
        io.Float.Input(
            "gradient_clip", default=1.0, min=0.0, max=1000.0, step=0.1, advanced=True,
            tooltip="Maximum norm of the gradient, as a guard against steps that go astray. 0 is off.",
        ),
        io.Float.Input(
            "weight_decay", default=0.01, min=0.0, max=1.0, step=0.001, round=1e-6, advanced=True,
            tooltip="How strongly the optimizer (AdamW) pulls weights towards 0.",
        ),
    ]


class SaveMotionModelNode(LoomNode):
    """A motion model as a file that other AnimateDiff programs read, too."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSaveMotionModel",
            display_name="Save Motion Model",
            category=f"{CATEGORY}/training",
            description="Saves a motion model, including its motion LoRAs and merges, in a layout that other packs and "
            "programs can read. By default it is saved in output/animatediff_models, where Load Motion Model finds it.",
            search_aliases=[
                "animatediff", "animate diff", "motion module", "export motion model", "write motion model", "bake motion lora",
                "convert to diffusers", "motion adapter",
            ],
            inputs=[
                MotionModelSocket.Input("motion_model", tooltip="The motion model to save."),
                io.String.Input(
                    "filename_prefix", default="animatediff_models/loom",
                    tooltip="Folder and start of the file name, inside ComfyUI's output folder. A number is added.",
                ),
                io.Combo.Input(
                    "dtype", options=list(DTYPES), default="fp16",
                    tooltip="Precision of the file: fp16 is half the size of fp32, with no visible difference.",
                ),
                io.Combo.Input(
                    "layout", options=list(LAYOUTS), default="AnimateDiff",
                    tooltip="Names of the weights in the file. Every AnimateDiff program reads AnimateDiff, the "
                    "MotionAdapter of the Diffusers library reads Diffusers, HotshotXL's own code reads HotshotXL. Load "
                    "Motion Model reads all three.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        motion_model,
        filename_prefix: str = "animatediff_models/loom",
        dtype: str = "fp16",
        layout: str = "AnimateDiff",
    ) -> io.NodeOutput:
        save_motion_model(motion_model, filename_prefix, dtype, layout, cls.hidden.prompt, cls.hidden.extra_pnginfo)
        return io.NodeOutput()


NODES = [TrainMotionModelNode, SaveMotionModelNode]
