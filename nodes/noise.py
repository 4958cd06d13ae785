"""Nodes for the noise that a run starts from."""

from __future__ import annotations

from comfy_api.latest import io

from .host.runs.clip_seeds import MAX_SEED
from .host.runs.freeinit_runs import LOW_PASSES, set_freeinit
from .host.runs.starting_noise import FreeNoise, FreeNoiseSource, set_freenoise, set_shared_noise
from .host.types import CATEGORY
from .loom_node import LoomNode

_CATEGORY = f"{CATEGORY}/noise"
_ALIASES = ["animatediff", "animate diff", "motion module"]
_FREENOISE_ALIASES = [*_ALIASES, "free noise", "long animation", "long video", "noise shuffle", "context windows"]


def _window_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "context_length", default=16, min=1, max=4096,
            tooltip="Length of a window, as in the node that sets the windows.",
        ),
        io.Int.Input(
            "context_overlap", default=4, min=0, max=4095,
            tooltip="Frames that neighbouring windows share, as in the node that sets the windows. The more they share, the "
            "less the order varies.",
        ),
        io.Boolean.Input(
            "closed_loop", default=False,
            tooltip="For animations whose windows wrap around from the last frame to the first, as with the schedule "
            "looped_uniform.",
        ),
    ]  # fmt: skip


class FreeNoiseNode(LoomNode):
    """FreeNoise for samplers that take a NOISE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFreeNoise",
            display_name="FreeNoise",
            category=_CATEGORY,
            description="Noise for animations longer than a context window: later frames reuse the first window's noise in a "
            "different order, so that the windows agree. Replaces RandomNoise in front of SamplerCustomAdvanced; for other "
            "samplers, use Apply FreeNoise.",
            search_aliases=[*_FREENOISE_ALIASES, "random noise"],
            inputs=[
                io.Int.Input(
                    "noise_seed", default=0, min=0, max=MAX_SEED, control_after_generate=True,
                    tooltip="Seed of the noise. The first window gets the same noise as from RandomNoise with this seed.",
                ),
                *_window_inputs(),
            ],
            outputs=[io.Noise.Output("noise", display_name="noise", tooltip="The noise. Connect to SamplerCustomAdvanced.")],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 16, context_overlap: int = 4) -> bool:
        FreeNoise(context_length, context_overlap)
        return True

    @classmethod
    def execute(
        cls, noise_seed: int = 0, context_length: int = 16, context_overlap: int = 4, closed_loop: bool = False
    ) -> io.NodeOutput:
        return io.NodeOutput(FreeNoiseSource(noise_seed, FreeNoise(context_length, context_overlap, closed_loop)))


class ApplyFreeNoiseNode(LoomNode):
    """FreeNoise for any sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomApplyFreeNoise",
            display_name="Apply FreeNoise",
            category=_CATEGORY,
            description="Lets any sampler start animations longer than a context window from FreeNoise: later frames reuse "
            "the first window's noise in a different order, so that the windows agree.",
            search_aliases=_FREENOISE_ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The animated model, from Apply Motion Model."),
                *_window_inputs(),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The model with FreeNoise. Connect to any sampler."),
            ],
        )

    @classmethod
    def validate_inputs(cls, context_length: int = 16, context_overlap: int = 4) -> bool:
        FreeNoise(context_length, context_overlap)
        return True

    @classmethod
    def execute(
        cls, model: io.Model.Type, context_length: int = 16, context_overlap: int = 4, closed_loop: bool = False
    ) -> io.NodeOutput:
        model = model.clone()
        set_freenoise(model, context_length, context_overlap, closed_loop)
        return io.NodeOutput(model)


class SharedNoiseNode(LoomNode):
    """One layout of the noise for all frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSharedNoise",
            display_name="Shared Noise",
            category=_CATEGORY,
            description="Reduces flicker at no cost: all frames start from noise with the same layout but their own detail, "
            "so that light and background stay the same from frame to frame. Works with any sampler.",
            search_aliases=[*_ALIASES, "blended noise", "constant noise", "repeated noise", "flicker", "temporal consistency"],
            inputs=[
                io.Model.Input("model", tooltip="The animated model, from Apply Motion Model."),
                io.Float.Input(
                    "cutoff", default=0.1, min=0.0, max=1.0, step=0.05, round=0.001,
                    tooltip="How fine the part of the noise is that all frames share: from 0, only its mean, to 1. Higher is "
                    "calmer, until the motion suffers; 0.05 to 0.3 is useful.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The model with shared noise. Connect to any sampler."),
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, cutoff: float = 0.1) -> io.NodeOutput:
        model = model.clone()
        set_shared_noise(model, cutoff)
        return io.NodeOutput(model)


class FreeInitNode(LoomNode):
    """Samples several times, each time from what the last result looked like from afar."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomFreeInit",
            display_name="FreeInit",
            category=_CATEGORY,
            description="Makes an animation more consistent: it is sampled several times, and each time the start keeps the "
            "layout and slow motion of the previous result, while the rest of the noise is new. Works with any sampler, and "
            "takes that many times as long.",
            search_aliases=[*_ALIASES, "free init", "iteration options", "temporal consistency", "noise reinitialization"],
            inputs=[
                io.Model.Input("model", tooltip="The animated model, from Apply Motion Model."),
                io.Int.Input(
                    "iterations", default=3, min=1, max=100,
                    tooltip="How many times the animation is sampled. 3 to 5 is usual; 1 is the same as without FreeInit.",
                ),
                io.Combo.Input(
                    "filter", options=LOW_PASSES, default=LOW_PASSES[0],
                    tooltip="Filter that separates what is kept from what is new: butterworth is the usual choice, gaussian "
                    "is softer, ideal and box are sharp.",
                ),
                io.Float.Input(
                    "spatial_cutoff", default=0.25, min=0.0, max=1.0, step=0.05, round=0.001,
                    tooltip="How fine the picture detail is that is kept. 1 keeps the most, 0 nothing.",
                ),
                io.Float.Input(
                    "temporal_cutoff", default=0.25, min=0.0, max=1.0, step=0.05, round=0.001,
                    tooltip="How fast the motion is that is kept. 1 keeps the most, 0 nothing.",
                ),
                io.Int.Input(
                    "order", default=4, min=1, max=64,
                    tooltip="Sharpness of the butterworth filter. Not used by the others.",
                ),
                io.Boolean.Input(
                    "coarse_to_fine", default=False,
                    tooltip="Takes fewer steps in early iterations: with 3 iterations, a third of the steps, then two "
                    "thirds, then all. Saves a third of the time or more, but may look worse.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The model with FreeInit. Connect to any sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        iterations: int = 3,
        filter: str = LOW_PASSES[0],
        spatial_cutoff: float = 0.25,
        temporal_cutoff: float = 0.25,
        order: int = 4,
        coarse_to_fine: bool = False,
    ) -> io.NodeOutput:
        model = model.clone()
        set_freeinit(model, iterations, filter, spatial_cutoff, temporal_cutoff, order, coarse_to_fine)
        return io.NodeOutput(model)


NODES = [FreeNoiseNode, ApplyFreeNoiseNode, SharedNoiseNode, FreeInitNode]
