"""Nodes for the noise that a run starts from, and for how much of it is left at each step."""

from __future__ import annotations

from comfy_api.latest import io

from .host.motion.model_sampling import AUTO, BETA_CHOICES, KEEP, PREDICTIONS, with_noise_schedule
from .host.runs.clip_seeds import MAX_SEED
from .host.runs.freeinit_runs import LOW_PASSES, METHODS, RESTARTS, set_freeinit
from .host.runs.starting_noise import (
    FREENOISE_ORDERS,
    REPEATS,
    SEEDINGS,
    FreeNoise,
    FreeNoiseSource,
    Shuffle,
    set_drawn_noise,
    set_freenoise,
    set_shared_noise,
)  # fmt: skip
from .host.types import CATEGORY
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/noise"
_FREENOISE_ALIASES = ["free noise", "long animation", "long video", "noise shuffle", "context windows"]
_SCHEDULES = [choice for choice in BETA_CHOICES if choice != AUTO]
_MAX_OFFSET = 2**53 - 1  # beyond it the editor's numbers are not exact


def _window_inputs() -> list[io.Input]:
    return [
        io.Int.Input("context_length", default=16, min=1, max=4096),
        io.Int.Input("context_overlap", default=4, min=0, max=4095),
        io.Boolean.Input("closed_loop", default=False),
        io.Combo.Input("freenoise_order", options=FREENOISE_ORDERS, default=FREENOISE_ORDERS[0], optional=True, advanced=True),
    ]  # fmt: skip


class FreeNoiseNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFreeNoise",
            category=_CATEGORY,
            search_aliases=[*_FREENOISE_ALIASES, "random noise"],
            inputs=[io.Int.Input("noise_seed", default=0, min=0, max=MAX_SEED, control_after_generate=True), *_window_inputs()],
            outputs=[io.Noise.Output("noise")],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 16, context_overlap: int = 4) -> bool:
        FreeNoise(context_length, context_overlap)
        return True

    @classmethod
    def execute(
        cls, noise_seed: int = 0, context_length: int = 16, context_overlap: int = 4, closed_loop: bool = False,
        freenoise_order: str = FREENOISE_ORDERS[0],
    ) -> io.NodeOutput:  # fmt: skip
        freenoise = FreeNoise(context_length, context_overlap, closed_loop, shuffle=Shuffle(freenoise_order))
        return io.NodeOutput(FreeNoiseSource(noise_seed, freenoise))


class ApplyFreeNoiseNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomApplyFreeNoise",
            category=_CATEGORY,
            search_aliases=_FREENOISE_ALIASES,
            inputs=[io.Model.Input("model"), *_window_inputs()],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 16, context_overlap: int = 4) -> bool:
        FreeNoise(context_length, context_overlap)
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, context_length: int = 16, context_overlap: int = 4, closed_loop: bool = False,
        freenoise_order: str = FREENOISE_ORDERS[0],
    ) -> io.NodeOutput:  # fmt: skip
        model = model.clone()
        set_freenoise(model, context_length, context_overlap, closed_loop, order=freenoise_order)
        return io.NodeOutput(model)


class StartingNoiseNode(LoomNode):
    """Draws the noise that runs start from anew: another seed for it, a seed per frame, repeated noise or none."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomStartingNoise",
            category=_CATEGORY,
            search_aliases=["sample settings", "noise seed", "seed offset", "constant noise", "repeated noise", "auto1111 noise"],
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("seed_offset", default=0, min=-_MAX_OFFSET, max=_MAX_OFFSET),
                io.Combo.Input("seeding", options=SEEDINGS, default=SEEDINGS[0]),
                io.Int.Input("first_frame", default=0, min=0, max=4096),
                io.Combo.Input("noise", options=REPEATS, default=REPEATS[0]),
                io.Int.Input("context_length", default=16, min=1, max=4096),
                io.Int.Input("seed", min=0, max=MAX_SEED, optional=True, force_input=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, seed_offset: int = 0, seeding: str = SEEDINGS[0], first_frame: int = 0,
        noise: str = REPEATS[0], context_length: int = 16, seed: int | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        model = model.clone()
        set_drawn_noise(model, seed_offset, seeding, first_frame, noise, context_length, seed)
        return io.NodeOutput(model)


class NoiseScheduleNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomNoiseSchedule",
            category=_CATEGORY,
            search_aliases=["beta schedule", "sigma schedule", "model sampling", "lcm", "use evolved sampling"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input("beta_schedule", options=_SCHEDULES, default=KEEP),
                io.Combo.Input("prediction", options=PREDICTIONS, default=PREDICTIONS[0], advanced=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, beta_schedule: str = KEEP, prediction: str = PREDICTIONS[0]
    ) -> io.NodeOutput:
        return io.NodeOutput(with_noise_schedule(model, beta_schedule, prediction))


class SharedNoiseNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSharedNoise",
            category=_CATEGORY,
            search_aliases=["blended noise", "constant noise", "repeated noise", "flicker", "temporal consistency"],
            inputs=[io.Model.Input("model"), io.Float.Input("cutoff", default=0.1, min=0.0, max=1.0, step=0.05, round=0.001)],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, cutoff: float = 0.1) -> io.NodeOutput:
        model = model.clone()
        set_shared_noise(model, cutoff)
        return io.NodeOutput(model)


class FreeInitNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFreeInit",
            category=_CATEGORY,
            search_aliases=["free init", "iteration options", "temporal consistency", "noise reinitialization"],
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("iterations", default=3, min=1, max=100),
                io.Combo.Input("filter", options=LOW_PASSES, default=LOW_PASSES[0]),
                io.Float.Input("spatial_cutoff", default=0.25, min=0.0, max=1.0, step=0.05, round=0.001),
                io.Float.Input("temporal_cutoff", default=0.25, min=0.0, max=1.0, step=0.05, round=0.001),
                io.Int.Input("order", default=4, min=1, max=64),
                io.Boolean.Input("coarse_to_fine", default=False),
                io.Combo.Input("restart_from", options=RESTARTS, default=RESTARTS[0], optional=True, advanced=True),
                io.Combo.Input("method", options=METHODS, default=METHODS[0], optional=True, advanced=True),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, iterations: int = 3, filter: str = LOW_PASSES[0], spatial_cutoff: float = 0.25,
        temporal_cutoff: float = 0.25, order: int = 4, coarse_to_fine: bool = False, restart_from: str = RESTARTS[0],
        method: str = METHODS[0],
    ) -> io.NodeOutput:  # fmt: skip
        model = model.clone()
        set_freeinit(model, iterations, filter, spatial_cutoff, temporal_cutoff, order, coarse_to_fine, restart_from, method)
        return io.NodeOutput(model)


NODES = [FreeNoiseNode, ApplyFreeNoiseNode, StartingNoiseNode, SharedNoiseNode, FreeInitNode, NoiseScheduleNode]
