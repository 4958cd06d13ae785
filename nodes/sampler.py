"""The sampler."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from .host.runs.clip_sampling import SamplerSettings, sample_clips
from .host.runs.clip_seeds import MAX_SEED
from .host.types import CATEGORY
from .loom_node import LoomNode


class AnimateDiffSamplerNode(LoomNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoomSampler",
            category=CATEGORY,
            search_aliases=["ksampler", "sample animation", "text to animation", "gif"],
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent_image"),
                io.Int.Input("clips", default=1, min=1, max=1024),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True),
                io.Int.Input("steps", default=20, min=1, max=10000),
                io.Float.Input("cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler"),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="normal"),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01),
            ],
            outputs=[io.Latent.Output("latent")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, positive, negative, latent_image: io.Latent.Type, clips: int = 1, seed: int = 0,
        steps: int = 20, cfg: float = 7.5, sampler_name: str = "euler", scheduler: str = "normal", denoise: float = 1.0,
    ) -> io.NodeOutput:  # fmt: skip
        settings = SamplerSettings(seed, steps, cfg, sampler_name, scheduler, denoise)
        return io.NodeOutput(sample_clips(model, positive, negative, latent_image, clips, settings))


NODES = [AnimateDiffSamplerNode]
