"""Nodes that train motion models, and keep them."""

from __future__ import annotations

from comfy_api.latest import io

from .host.files.saving import DTYPES, LAYOUTS, save_motion_model
from .host.training.training_run import Family, TrainingSettings, train_in_graph
from .host.types import CATEGORY, MotionModelSocket, TrainingClipsSocket

_FAMILIES = ["v3", "v2", "v1"]
_MAX_SEED = 2**64 - 1


class TrainMotionModelNode(io.ComfyNode):
    """AnimateDiff's training: a motion model learns from clips, in front of a frozen MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomTrainMotionModel",
            display_name="Train Motion Model",
            category=f"{CATEGORY}/training",
            description="Trains a motion model on clips, as AnimateDiff was trained: the model itself stays as it is, only "
            "the motion modules learn. It begins with a new one, or goes on with one that is connected. Stop it at any "
            "time: the next run goes on from there.",
            search_aliases=["animatediff", "animate diff", "motion module", "finetune", "fine-tune", "training", "learn motion"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to train with, and its LoRAs; it is never changed. Not animated.",
                ),
                TrainingClipsSocket.Input("training_clips", tooltip="From Load Training Clips."),
                io.Int.Input(
                    "steps", default=1000, min=1, max=10_000_000,
                    tooltip="Training steps in all. Thousands to tens of thousands are usual.",
                ),
                io.Float.Input(
                    "learning_rate", default=1e-4, min=0.0, max=1.0, step=1e-6, round=1e-10,
                    tooltip="How far each step goes. 0.0001 is AnimateDiff's; less, such as 0.00001, to train a good motion "
                    "model on.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=1024,
                    tooltip="Clips that are trained on at the same time. More learns more steadily, and needs more memory.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=_MAX_SEED, control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Seed of first weights, order of clips, noise. The same seed gives the same training.",
                ),
                io.Combo.Input(
                    "family", options=_FAMILIES, default=_FAMILIES[0],
                    tooltip="Kind of a new motion model. v3 is the newest; v2 adds a motion module in the UNet's middle; v1 "
                    "lets the UNet's norms see all frames. Without effect where a motion model is connected.",
                ),
                io.Combo.Input(
                    "precision", options=["bf16", "fp16", "fp32"], default="bf16",
                    tooltip="Arithmetic of the networks. bf16 is quick and safe on cards that know it (NVIDIA from the "
                    "RTX 30 series), fp16 suits older cards, fp32 needs twice the memory. Weights are always kept in fp32.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing", default=True,
                    tooltip="Needs much less memory and about a third more time. It changes no result.",
                ),
                io.String.Input(
                    "checkpoint_name", default="motion_model",
                    tooltip="Folder in output/loom_training/checkpoints that the training is kept in, to go on from after a "
                    "stop. Take a new name for a training with other settings. Empty keeps none.",
                ),
                *_advanced_inputs(),
                MotionModelSocket.Input(
                    "motion_model", optional=True, tooltip="A motion model to train on. Without one, a new one is made.",
                ),
            ],
            outputs=[
                MotionModelSocket.Output(
                    "motion_model", display_name="motion_model",
                    tooltip="The trained motion model, for Apply Motion Model and Save Motion Model.",
                ),
                io.LossMap.Output("loss", display_name="loss", tooltip="The loss of each step, for Plot Loss Graph."),
                io.Int.Output("steps", display_name="steps", tooltip="Steps it was trained for."),
            ],
        )

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
            tooltip="Steps between two checkpoints. A stop of the training saves one, too.",
        ),
        io.Int.Input(
            "accumulation", default=1, min=1, max=1024, advanced=True,
            tooltip="Batches that are added up to one step: 4 with a batch_size of 2 learn like a batch_size of 8, "
            "in the memory of 2.",
        ),
        io.Combo.Input(
            "learning_rate_schedule", options=["constant", "cosine"], default="constant", advanced=True,
            tooltip="constant, as AnimateDiff did; cosine goes down to 0 until the last step.",
        ),
        io.Int.Input(
            "warmup_steps", default=0, min=0, max=1_000_000, advanced=True,
            tooltip="Steps over which the learning rate grows to its full value.",
        ),
        io.Float.Input(
            "ema_decay", default=0.0, min=0.0, max=0.99999, step=0.0001, round=1e-6, advanced=True,
            tooltip="Gives the running average of the weights instead of the last ones; 0.999 averages over about "
            "the last 1000 steps. 0 is off.",
        ),
        io.Float.Input(
            "text_dropout", default=0.1, min=0.0, max=1.0, step=0.01, advanced=True,
            tooltip="Share of the clips that are trained on without their caption, so that cfg works.",
        ),
        io.Float.Input(
            "gradient_clip", default=1.0, min=0.0, max=1000.0, step=0.1, advanced=True,
            tooltip="Largest norm of the gradient, against steps that go astray. 0 is off.",
        ),
        io.Float.Input(
            "weight_decay", default=0.01, min=0.0, max=1.0, step=0.001, round=1e-6, advanced=True,
            tooltip="How strongly the optimizer (AdamW) pulls weights towards 0.",
        ),
    ]


class SaveMotionModelNode(io.ComfyNode):
    """A motion model as a file that other AnimateDiff programs read, too."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSaveMotionModel",
            display_name="Save Motion Model",
            category=f"{CATEGORY}/training",
            description="Saves a motion model, with the motion LoRAs and mergers that it has, in a layout that other packs and "
            "programs read, too. In output/animatediff_models, where it is saved unless told otherwise, Load Motion Model "
            "finds it.",
            search_aliases=[
                "animatediff", "animate diff", "motion module", "export motion model", "write motion model", "bake motion lora",
                "convert to diffusers", "motion adapter",
            ],
            inputs=[
                MotionModelSocket.Input("motion_model", tooltip="The motion model to save."),
                io.String.Input(
                    "filename_prefix", default="animatediff_models/loom",
                    tooltip="Folder and beginning of the name, under ComfyUI's output folder. A number is added.",
                ),
                io.Combo.Input(
                    "dtype", options=list(DTYPES), default="fp16",
                    tooltip="Precision of the file: fp16 is half the size of fp32 and makes no visible difference.",
                ),
                io.Combo.Input(
                    "layout", options=list(LAYOUTS), default="AnimateDiff",
                    tooltip="Names of the weights in the file. AnimateDiff is read by every AnimateDiff program, Diffusers by "
                    "the library's MotionAdapter, HotshotXL by HotshotXL's own code. Load Motion Model reads all three.",
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
